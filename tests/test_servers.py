"""Grids on real tracking servers: the same tables, and nothing said that opens them."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from harness import cli, queue, session, ui
from harness.artifacts import PLAN
from harness.lease import turn
from harness.track import Store
from harness.workspace import Workspace
from tests.conftest import TINY
from tests.serving import HOST, SECRET, USER, free_port, guarded, mlflow_server, postgres, postgres_program

SMALL = (
    ("tricks: {warmup: {epochs: 1}, mixup: }", "tricks: [mixup]"),
    ("seeds: 2", "seeds: 1"),
    ("train: {epochs: 2,", "train: {epochs: 6,"),
    ("throughput: {rounds: 2,", "throughput: {rounds: 1,"),
)
"""Two policies × (baseline, mixup): 4 replicates."""


def written(root: Path) -> Path:
    text = TINY
    for old, new in SMALL:
        assert old in text
        text = text.replace(old, new)
    (root / "experiments").mkdir(parents=True)
    spec = root / "experiments" / "tiny.yaml"
    spec.write_text(text)
    return spec


def accuracies(spec: Path) -> str:
    """Return the accuracies in cells.csv as they were written."""
    cells = pd.read_csv(spec.parents[1] / "results" / "tiny" / "cells.csv", dtype=str)
    return cells[["cell", "n", *cells.filter(like="top1")]].to_csv(index=False)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> str:
    """What the grid gives in the workspace's own database."""
    spec = written(tmp_path_factory.mktemp("own"))
    shutil.copy(empty_store, spec.parents[1] / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        assert cli.main(["run", str(spec), "--inline"]) == cli.DONE
    return accuracies(spec)


@dataclass(frozen=True)
class Server:
    """A tracking server that runs."""

    uri: str
    artifacts: Path | None
    """Where it keeps artifacts; None leaves them to the workspace."""

    @property
    def wrong(self) -> str:
        """Its address with a password that is none."""
        return self.uri.replace(SECRET, f"no-{SECRET}")


@pytest.fixture(scope="module", params=["mlflow", "postgresql"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, empty_store: Path
) -> Iterator[Server]:
    """A server behind a password."""
    with ExitStack() as held:
        if request.param == "mlflow":
            folder, port = tmp_path_factory.mktemp("server"), free_port()
            shutil.copy(empty_store, folder / "server.db")
            held.enter_context(mlflow_server(folder, port))
            door = held.enter_context(guarded(port))
            yield Server(f"http://{USER}:{SECRET}@{HOST}:{door}", folder / "artifacts")
        else:
            if postgres_program("initdb") is None:
                pytest.skip("PostgreSQL is not installed")
            cluster = held.enter_context(postgres())
            held.enter_context(cluster.started())
            yield Server(cluster.uri, None)


@pytest.fixture
def spec(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A spec in a workspace whose store is the server, where one stands."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    path = written(tmp_path / "work")
    monkeypatch.chdir(path.parents[1])
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.csv")}


def test_a_grid_on_a_server_gives_the_tables_of_one_on_the_own_database(
    server: Server, spec: Path, expected: str, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """By the queue, so that all of its parts are there; and in all that is said and kept there is no password."""
    place = Workspace(spec.parents[1])
    assert cli.main(["queue", "add", str(spec)]) == cli.DONE
    assert "4 replicates" in capfd.readouterr().out
    store = Store(place, create=True)
    assert [entry.study for entry in queue.entries(store)] == ["tiny"]
    with turn(place):
        assert json.loads(Store(place).lease())["process"].startswith(f"{os.getpid()}-")
    assert store.lease() == ""
    said = []
    for command in (["status"], ["queue", "list"], ["work", "--once", "--inline"], ["status"]):
        assert cli.main(command) == cli.DONE
        said.append(capfd.readouterr())
    assert [shown.out.count("queued") for shown in (said[0], said[1], said[3])] == [1, 1, 0]
    assert "finished" in said[3].out
    assert accuracies(spec) == expected
    assert not place.database.exists()

    grid = session.read(spec)
    assert set(grid.runs["status"]) == {"finished"}
    assert len(grid.correct) == 4, "predictions come back from where artifacts lie"
    ((_, parent),) = store.grids()
    assert json.loads(store.read_artifact(parent, PLAN) or b"")["name"] == "tiny"
    assert store.read_artifact(parent, "none.txt") is None
    kept = server.artifacts or place.artifacts
    assert list(kept.rglob(PLAN))
    assert place.artifacts.exists() == (server.artifacts is None)

    tables = contents(place.results / "tiny")
    shutil.rmtree(place.results)
    assert cli.main(["report", str(spec)]) == cli.DONE
    assert contents(place.results / "tiny") == tables

    said.append(capfd.readouterr())
    assert "/#/experiments/" in said[-1].out
    runs = [parent, *store.children(parent)]
    facts = [(run.info.artifact_uri, run.info.run_name, run.data.tags, run.data.params) for run in runs]
    experiments = [(e.name, e.artifact_location, e.tags) for e in store.client.search_experiments()]
    secrets = (SECRET, USER)
    for text in (*(shown.out + shown.err for shown in said), caplog.text, str(facts), str(experiments)):
        assert not any(secret in text for secret in secrets)
    for folder in (spec.parents[1], kept):
        files = [path for path in folder.rglob("*") if path.is_file()]
        assert len(files) > 10
        assert not [path for path in files if any(secret.encode() in path.read_bytes() for secret in secrets)]


COMMANDS: list[Callable[[Path], list[str]]] = [
    lambda spec: ["run", str(spec), "--inline"],
    lambda spec: ["queue", "add", str(spec)],
    lambda spec: ["report", str(spec)],
    lambda _: ["status"],
    lambda _: ["work", "--once"],
]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("fault", ["wrong password", "away"])
def test_a_store_that_cannot_be_used_is_one_message_without_the_password(
    server: Server, spec: Path, fault: str, command, monkeypatch: pytest.MonkeyPatch, capfd, caplog
) -> None:
    port = server.uri.rpartition(":")[2].partition("/")[0]
    uri = server.wrong if fault == "wrong password" else server.uri.replace(port, str(free_port()))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert cli.main(command(spec)) == cli.BAD_INPUT
    said = capfd.readouterr()
    assert said.err.splitlines()[-1].startswith("harness: cannot use the tracking store ")
    assert "Traceback" not in said.err
    assert HOST in said.err
    assert SECRET not in said.out + said.err + caplog.text


def test_secrets_of_the_environment_are_in_no_message(
    spec: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "t0ken")

    def breaks(*_: object) -> None:
        raise RuntimeError(f"Bearer t0ken, {SECRET}, {os.environ['MLFLOW_TRACKING_URI']}")

    monkeypatch.setattr(session, "report", breaks)
    assert cli.main(["report", str(spec)]) == cli.CRASHED
    said = capfd.readouterr().err
    assert "RuntimeError: Bearer ***, ***, " in said
    assert not any(secret in said for secret in ("t0ken", SECRET, USER))


def test_the_process_list_shows_no_password(server: Server, spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_WORKERS", "1")
    store = Store(Workspace(spec.parents[1]), create=True)
    if store.remote:
        assert ui.address(store) == server.uri.replace(f"{USER}:{SECRET}@", "")
        return
    with ui.served(store, free_port()) as process:
        shown = [
            (entry / "cmdline").read_bytes() for entry in Path("/proc").iterdir() if _session(entry) == process.pid
        ]
    assert shown
    assert not any(SECRET.encode() in line for line in shown)


def _session(entry: Path) -> int:
    try:
        return int((entry / "stat").read_text().rpartition(")")[2].split()[3])
    except (OSError, IndexError):
        return 0
