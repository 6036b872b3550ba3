"""A store that is locked, away or full in mid-grid: it is waited for, and nothing is lost or written twice."""

import errno
import os
import shutil
import signal
import sqlite3
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import requests
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE

from harness import cli
from harness.errors import HarnessError
from harness.ledger import Ledger
from harness.track import Store, log, waiting
from harness.track.waiting import Patience
from harness.workspace import Workspace
from tests.serving import HOST, free_port, mlflow_server, postgres, postgres_program
from tests.test_servers import accuracies, expected, written

__all__ = ["expected"]
EPOCHS = 6 * 4
"""Of the replicates of the grid; its pretraining has one more."""
LOCKED = MlflowException("(sqlite3.OperationalError) database is locked\n[SQL: …]", TEMPORARILY_UNAVAILABLE)
AWAY, BACK = "locked or away", "answers again"


def unreached() -> MlflowException:
    """Return what mlflow raises where its server does not answer."""
    error = MlflowException("API request to http://x failed")
    error.__context__ = requests.ConnectionError("refused")
    return error


class Failing:
    """Raises what it is given, one after another, and then returns how often it was called."""

    def __init__(self, *errors: Exception) -> None:
        self._errors, self.calls = [*errors], 0

    def __call__(self) -> int:
        self.calls += 1
        if self._errors:
            raise self._errors.pop(0)
        return self.calls


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was said of waiting, in two words each."""
    texts = [record.getMessage() for record in caplog.records if record.name == waiting.__name__]
    return [next(words for words in (AWAY, BACK) if words in text) for text in texts]


@pytest.fixture
def patience() -> Patience:
    return Patience("http://ada:pw@x", sleep=lambda _: None)


@pytest.mark.parametrize("error", [LOCKED, unreached(), requests.Timeout("slow"), OSError(errno.ENOSPC, "full")])
def test_what_may_pass_is_waited_for_and_said_once(patience: Patience, error: Exception, caplog) -> None:
    call = Failing(error, error, error)
    assert patience.call(call) == 4
    assert said(caplog) == [AWAY, BACK]
    assert "pw" not in caplog.text
    assert patience.call(call) == 5
    assert said(caplog) == [AWAY, BACK]


def test_pauses_grow_to_a_bound(caplog: pytest.LogCaptureFixture) -> None:
    pauses: list[float] = []
    Patience("x", sleep=pauses.append).call(Failing(*[LOCKED] * 9))
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]
    assert len(said(caplog)) == 2


@pytest.mark.parametrize("error", [MlflowException("no such run"), requests.HTTPError("403"), ValueError("x")])
def test_what_will_not_pass_is_raised_at_once(patience: Patience, error: Exception, caplog) -> None:
    call = Failing(error)
    with pytest.raises(type(error)):
        patience.call(call)
    assert call.calls == 1
    assert not said(caplog)


def test_patience_ends_and_does_not_begin_anew(patience: Patience, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "PATIENCE_S", 0.0)
    call = Failing(LOCKED, LOCKED)
    with pytest.raises(HarnessError, match=r"http://x was locked or away .*database is locked\); see to it, then run"):
        patience.call(call)
    with pytest.raises(HarnessError, match="see to it"):
        patience.call(call)
    assert call.calls == 1


def test_another_thread_gets_one_attempt(patience: Patience, caplog: pytest.LogCaptureFixture) -> None:
    call, raised = Failing(LOCKED), []

    def beat() -> None:
        try:
            patience.call(call)
        except MlflowException as error:
            raised.append(error)

    thread = threading.Thread(target=beat)
    thread.start()
    thread.join()
    assert (raised, call.calls, said(caplog)) == ([LOCKED], 1, [])


def test_a_call_that_hangs_is_told_of(patience: Patience, monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    monkeypatch.setattr(waiting, "_SILENCE_S", 0.01)
    told, say = threading.Event(), waiting._say

    def tell(text: str) -> None:
        say(text)
        told.set()

    monkeypatch.setattr(waiting, "_say", tell)
    assert patience.call(lambda: told.wait(30))
    assert said(caplog) == [AWAY, BACK]


def test_who_interrupts_the_waiting_waits_no_more() -> None:
    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    patience = Patience("x", sleep=interrupted)
    with pytest.raises(KeyboardInterrupt):
        patience.call(Failing(LOCKED))
    with pytest.raises(HarnessError, match="stopped while the tracking store x was away"):
        patience.call(Failing())


def lose_answers(store: Store, *methods: str) -> dict[str, int]:
    """Let the first answer to each method be lost once it is done; returns how often each is done."""
    done = dict.fromkeys(methods, 0)

    def losing(name: str) -> Callable[..., Any]:
        method = getattr(store._client, name)

        def call(*arguments: Any, **options: Any) -> Any:
            done[name] += 1
            result = method(*arguments, **options)
            if done[name] == 1:
                raise LOCKED
            return result

        return call

    for name in methods:
        setattr(store._client, name, losing(name))
    return done


def test_what_was_done_unheard_is_not_done_twice(stored: Workspace) -> None:
    store = Store(stored)
    done = lose_answers(store, "create_experiment", "create_run", "delete_tag", "log_batch", "log_artifacts")
    parent = store.create_grid("tiny", "grid", {"a": "1"})
    assert store.find_grid("tiny", "grid") is not None
    assert [run.info.run_id for _, run in store.grids()] == [parent.info.run_id]
    store.put(parent.info.run_id, {"b": "2"})
    store.drop(parent.info.run_id, "a", "b")
    assert {"a", "b"}.isdisjoint(store.client.get_run(parent.info.run_id).data.tags)
    store.write_artifact(parent.info.run_id, "x.txt", b"1")
    assert store.read_artifact(parent, "x.txt") == b"1"
    assert done["create_experiment"] == done["create_run"] == 1
    assert done["log_artifacts"] == 2
    other = store.create_run(parent.info.experiment_id, "tiny (grid)", {"a": "1"})
    assert other.info.run_id != parent.info.run_id


def test_a_run_that_was_not_created_is_created_again(stored: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(stored)
    experiment, create = str(store.experiment("tiny", create=True)), store._client.create_run
    first = Failing(LOCKED)
    monkeypatch.setattr(store._client, "create_run", lambda *a: create(*a) if first.calls else first())
    run = store.create_run(experiment, "one", {"a": "1"})
    assert [found.info.run_id for found in store.search([experiment], "")] == [run.info.run_id]


# Real stores, in the middle of a grid.


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A spec whose grid writes every epoch as it comes."""
    monkeypatch.setattr(log, "_FLUSH_S", 0.0)
    return written(tmp_path / "work")


def at_epochs(patch: pytest.MonkeyPatch, **faults: Callable[[], None]) -> None:
    """Let faults happen right before epochs are logged: `_5` is the fifth one."""
    epoch, count = Ledger.epoch, [0]

    def passing(self: Ledger, record: Any) -> None:
        count[0] += 1
        faults.get(f"_{count[0]}", lambda: None)()
        epoch(self, record)

    patch.setattr(Ledger, "epoch", passing)


def soon(action: Callable[[], object]) -> None:
    """Do something while the grid waits."""
    threading.Timer(1.0, action).start()


def check_whole(spec: Path, expected: str, killed: int = 0) -> None:
    """Check that a grid gave its tables, that every run is there once, and no epoch twice."""
    assert accuracies(spec) == expected
    store = Store(Workspace(spec.parents[1]))
    ((_, parent),) = store.grids()
    assert parent.info.status == "FINISHED"
    children = store.children(parent)
    assert sorted(run.info.status for run in children) == ["FINISHED"] * 5 + ["KILLED"] * killed
    for run in children:
        if run.info.status == "FINISHED":
            for key in ("val_top1", "train_loss"):
                steps = [point.step for point in store.client.get_metric_history(run.info.run_id, key)]
                assert steps == [*range(1, 1 + int(run.data.params.get("epochs", 1)))], run.info.run_name


def test_a_lock_on_the_own_database(spec: Path, empty_store: Path, expected: str, monkeypatch) -> None:
    database = spec.parents[1] / "mlflow.db"
    shutil.copy(empty_store, database)
    other = sqlite3.connect(database, check_same_thread=False)

    def lock() -> None:
        other.execute("BEGIN EXCLUSIVE")
        soon(other.rollback)

    at_epochs(monkeypatch, _5=lock)
    assert cli.main(["run", str(spec), "--inline"]) == cli.DONE
    other.close()
    check_whole(spec, expected)


def test_a_server_that_hangs_and_one_that_is_killed(
    spec: Path, tmp_path: Path, empty_store: Path, expected: str, monkeypatch: pytest.MonkeyPatch, caplog
) -> None:
    folder, port = tmp_path, free_port()
    shutil.copy(empty_store, folder / "server.db")
    monkeypatch.setattr(waiting, "_SILENCE_S", 0.3)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://{HOST}:{port}")
    with ExitStack() as held:
        process = held.enter_context(mlflow_server(folder, port))

        def hang() -> None:
            os.killpg(process.pid, signal.SIGSTOP)
            soon(lambda: os.killpg(process.pid, signal.SIGCONT))

        def die() -> None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            soon(lambda: held.enter_context(mlflow_server(folder, port)))

        at_epochs(monkeypatch, _5=hang, _12=die)
        assert cli.main(["run", str(spec), "--inline"]) == cli.DONE
        assert said(caplog)[:4] == [AWAY, BACK, AWAY, BACK]
        check_whole(spec, expected)


@pytest.mark.skipif(postgres_program("initdb") is None, reason="PostgreSQL is not installed")
def test_a_database_server_that_restarts_and_one_that_stays_away(
    spec: Path, expected: str, monkeypatch: pytest.MonkeyPatch, caplog, capsys
) -> None:
    """The first run sees the database restart and goes on, then sees it stop and ends; the next one ends the grid."""
    with postgres() as cluster, ExitStack() as held:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", cluster.uri)
        held.enter_context(cluster.started())

        def restart() -> None:
            held.close()
            soon(lambda: held.enter_context(cluster.started()))

        def stop() -> None:
            held.close()
            monkeypatch.setattr(waiting, "PATIENCE_S", 0.5)

        with pytest.MonkeyPatch.context() as patch:
            at_epochs(patch, _5=restart, _12=stop)
            assert cli.main(["run", str(spec), "--inline"]) == cli.BAD_INPUT
        assert said(caplog) == [AWAY, BACK, AWAY]
        message = capsys.readouterr().err.splitlines()[-1]
        assert message.startswith(f"harness: the tracking store postgresql://{HOST}:")
        assert message.endswith("run the same command again: it goes on where it was left")
        held.enter_context(cluster.started())
        assert cli.main(["run", str(spec), "--inline"]) == cli.DONE
        check_whole(spec, expected, killed=1)
