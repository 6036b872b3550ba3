"""The store: what it keeps, page by page, and what it never shows."""

import math
from pathlib import Path
from typing import Any

import pytest

from harness.concealing import concealed, without_secrets
from harness.errors import HarnessError
from harness.track import GridLog, Store, tracking_uri
from harness.track.log import PROCESS
from harness.workspace import Workspace

DATA = ("digits", "digits")


@pytest.fixture
def log(stored: Workspace) -> GridLog:
    return GridLog(Store(stored), "tiny", "grid", {"harness.version": "0"})


def test_default_store_is_the_workspaces_own_by_absolute_path(workspace: Workspace) -> None:
    assert tracking_uri(workspace) == f"sqlite:///{workspace.root.resolve()}/mlflow.db"


def test_environment_chooses_the_store(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://host:1")
    assert tracking_uri(workspace) == "http://host:1"


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("postgresql://user:pw@host:5432/db", "postgresql://host:5432/db"),
        ("http://user:p%40w@host", "http://host"),
        ("postgresql://user:p/w@host/db", "postgresql://host/db"),
        ("sqlite:////a/mlflow.db", "sqlite:////a/mlflow.db"),
    ],
)
def test_no_password_is_printed(uri: str, shown: str) -> None:
    assert without_secrets(uri) == shown


def test_a_database_that_is_none_is_one_message(workspace: Workspace) -> None:
    workspace.database.write_text("no database at all, but long enough to be taken for one" * 50)
    with pytest.raises(HarnessError, match=r"mlflow\.db"):
        Store(workspace)


def test_no_database_is_made_for_a_reader(workspace: Workspace) -> None:
    with pytest.raises(HarnessError, match="nothing was run"):
        Store(workspace)
    assert not workspace.database.exists()


def test_artifacts_lie_beside_the_database(log: GridLog, stored: Workspace) -> None:
    log.artifacts(log.run_id, {"a.txt": b"text"})
    assert [path.name for path in stored.artifacts.rglob("*.txt")] == ["a.txt"]
    assert Store(stored).read_artifact(log.parent, "a.txt") == b"text"
    assert Store(stored).read_artifact(log.parent, "missing.txt") is None


def test_opening_a_grid_twice_finds_it_again(log: GridLog, stored: Workspace) -> None:
    again = GridLog(Store(stored), "tiny", "grid", {})
    other = GridLog(Store(stored), "tiny", "other", {})
    assert again.run_id == log.run_id != other.run_id


def test_the_same_point_twice_changes_nothing(log: GridLog, stored: Workspace) -> None:
    run_id = log.begin("run", {"seed": "0"}, {}, DATA)
    for _ in range(2):
        log.metrics(run_id, {"val_top1": 0.5}, timestamp=1, step=1)
    log.end(run_id, "FINISHED", {})
    assert len(Store(stored).client.get_metric_history(run_id, "val_top1")) == 1


def test_closing_ends_what_is_open(log: GridLog, stored: Workspace) -> None:
    run_id = log.begin("run", {}, {}, None)
    log.metrics(run_id, {"val_top1": 0.5}, timestamp=1)
    log.close("KILLED")
    run = Store(stored).client.get_run(run_id)
    assert run.info.status == "KILLED"
    assert run.data.metrics == {"val_top1": 0.5}


def test_closing_ends_a_run_that_an_interrupt_kept_from_being_noted(
    log: GridLog, stored: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = Store.create_run

    def interrupted(*arguments: Any) -> None:
        create(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(Store, "create_run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        log.begin("run", {}, {}, None)
    (run,) = Store(stored).children(log.parent)
    assert run.info.status == "RUNNING"
    log.close("KILLED")
    assert Store(stored).client.get_run(run.info.run_id).info.status == "KILLED"


def test_more_metrics_than_one_call_takes(log: GridLog, stored: Workspace) -> None:
    run_id = log.begin("run", {}, {}, None)
    for step in range(2500):
        log.metrics(run_id, {"val_top1": step / 2500}, timestamp=step, step=step)
    log.end(run_id, "FINISHED", {})
    assert len(Store(stored).client.get_metric_history(run_id, "val_top1")) == 2500


def test_search_goes_beyond_one_page(log: GridLog, stored: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.track.store._PAGE", 2)
    ids = {log.begin(f"run {i}", {}, {}, None) for i in range(5)}
    assert {run.info.run_id for run in Store(stored).children(log.parent)} == ids


def test_trained_wants_the_same_versions_and_a_finished_run(log: GridLog, stored: Workspace) -> None:
    store = Store(stored)
    tags = {"harness.kind": "replicate", "harness.digest": "d", "harness.torch": "1"}
    run_id = log.begin("run", {}, tags, None)
    assert store.trained("d", {"harness.torch": "1"}) is None
    log.end(run_id, "FINISHED", {})
    found = store.trained("d", {"harness.torch": "1"})
    assert found is not None
    assert found.info.run_id == run_id
    assert store.trained("d", {"harness.torch": "2"}) is None
    assert store.trained("e", {"harness.torch": "1"}) is None


@pytest.mark.parametrize("runs_a_call", [0, 1, 10])
def test_trained_among_finds_what_trained_finds(
    log: GridLog, stored: Workspace, monkeypatch: pytest.MonkeyPatch, runs_a_call: int
) -> None:
    """However many runs it reads before it looks for each training by itself."""
    monkeypatch.setattr("harness.track.store._RUNS_A_CALL", runs_a_call)
    runs = [("d", "FINISHED"), ("d", "FINISHED"), ("d", "KILLED"), ("e", "FAILED"), ("f", "FINISHED")]
    for digest, status in runs:
        tags = {"harness.kind": "replicate", "harness.digest": digest, "harness.torch": "1"}
        log.end(log.begin("run", {}, tags, None), status, {})
    store = Store(stored)
    for torch in ("1", "2"):
        wanted = {digest: store.trained(digest, {"harness.torch": torch}) for digest in "def"}
        ids = {digest: run.info.run_id for digest, run in wanted.items() if run}
        found = store.trained_among("def", {"harness.torch": torch})
        assert {digest: run.info.run_id for digest, run in found.items()} == ids
    assert store.trained_among("", {"harness.torch": "1"}) == {}


def test_an_artifact_that_cannot_be_read_is_told_by_name(log: GridLog, stored: Workspace) -> None:
    log.artifacts(log.run_id, {"a.txt": b"text"})
    (path,) = stored.artifacts.rglob("a.txt")
    path.unlink()
    path.mkdir()
    with pytest.raises(HarnessError, match=r"cannot read a\.txt of run "):
        Store(stored).read_artifact(log.parent, "a.txt")


def test_a_store_in_a_folder_with_odd_characters(tmp_path: Path) -> None:
    place = Workspace(tmp_path / "a b ü")
    place.root.mkdir()
    log = GridLog(Store(place, create=True), "tiny", "grid", {})
    log.artifacts(log.run_id, {"x.txt": b"1"})
    assert Store(place).read_artifact(log.parent, "x.txt") == b"1"


def test_nan_never_reaches_the_store(log: GridLog, stored: Workspace) -> None:
    run_id = log.begin("run", {}, {}, None)
    log.metrics(run_id, {"train_loss": math.nan, "val_top1": 0.5}, timestamp=1)
    log.end(run_id, "FINISHED", {})
    assert set(Store(stored).client.get_run(run_id).data.metrics) == {"val_top1"}


ONE = {"harness.kind": "replicate", "harness.digest": "d"}


def killed(log: GridLog) -> str:
    """Log two epochs of a run, then end it as a dead process leaves it."""
    run_id = log.begin("run", {"seed": "0"}, ONE, DATA)
    for epoch in (1, 2):
        log.metrics(run_id, {"val_top1": epoch / 10, "train_loss": 1.0}, timestamp=epoch, step=epoch)
    log.end(run_id, "KILLED", {"harness.reason": "its process ended before it did", "harness.failure": "killed"})
    return run_id


def test_a_run_goes_on_where_it_was_left(log: GridLog, stored: Workspace) -> None:
    run_id = killed(log)
    client = Store(stored).client
    left = log.left("run", ONE)
    again = log.begin("run", {"seed": "0", "cell": "a"}, {**ONE, "harness.resumed": "from epoch 1"}, DATA, left)
    assert again == run_id
    assert client.get_run(run_id).info.status == "RUNNING"
    for epoch in (1, 2, 3):  # the second is trained again, at another time
        log.metrics(run_id, {"val_top1": epoch / 10, "train_loss": 1.0}, timestamp=100 + epoch, step=epoch)
    log.end(run_id, "FINISHED", {})
    for key in ("val_top1", "train_loss"):
        points = client.get_metric_history(run_id, key)
        assert [(point.step, point.timestamp) for point in points] == [(1, 1), (2, 2), (3, 103)]
    run = client.get_run(run_id)
    assert run.data.params == {"seed": "0", "cell": "a"}
    assert run.data.tags["harness.resumed"] == "from epoch 1"
    assert {"harness.reason", "harness.failure"}.isdisjoint(run.data.tags)
    assert run.info.status == "FINISHED"
    assert run.inputs is not None
    assert len(run.inputs.dataset_inputs) == 1


def test_only_the_latest_run_is_left_and_only_if_it_was_killed(log: GridLog, stored: Workspace) -> None:
    assert log.left("run", ONE) is None
    run_id = killed(log)
    found = log.left("run", ONE)
    assert found is not None
    assert found.info.run_id == run_id
    assert log.left("other", ONE) is None
    assert log.left("run", {**ONE, "harness.digest": "e"}) is None
    assert GridLog(Store(stored), "tiny", "other", {}).left("run", ONE) is None
    assert not log.finished(ONE)
    log.end(log.begin("run", {}, ONE, None), "FINISHED", {})
    assert log.left("run", ONE) is None
    assert log.finished(ONE)
    assert GridLog(Store(stored), "another study", "grid", {}).finished(ONE)


def test_a_password_that_no_uri_may_hold_is_concealed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://user:p/w@host/db")
    assert concealed('connection of "user" with p/w failed') == 'connection of "user" with *** failed'


def test_what_a_process_of_another_host_left_running_is_ended(log: GridLog, stored: Workspace) -> None:
    """Whoever opens a grid holds the lease of its store, so that process has lost it."""
    run_id = log.begin("a", {}, {}, None)
    Store(stored).put(run_id, {PROCESS: "elsewhere/77-1"})
    GridLog(Store(stored), "tiny", "grid", {})
    assert Store(stored).client.get_run(run_id).info.status == "KILLED"


def test_who_gives_way_ends_its_own_runs_alone(log: GridLog, stored: Workspace) -> None:
    log.resume()
    run_id = log.begin("a", {}, {}, None)
    log.give_way()
    log.close("KILLED")
    assert [Store(stored).client.get_run(i).info.status for i in (run_id, log.run_id)] == ["KILLED", "RUNNING"]


def test_a_run_that_waits_for_its_training_is_none_that_runs(log: GridLog) -> None:
    run_id = log.begin("a", {}, {}, None)
    assert log.open_runs == 1
    paused = log.pause(run_id)
    assert log.open_runs == 0
    assert log.begin("a", {}, {}, None, paused) == run_id
    assert log.open_runs == 1
