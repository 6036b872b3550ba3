"""The queue: who is in it, in which order it is worked off, and what is never taken."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness import cli, queue, session, specfile
from harness.errors import HarnessError
from harness.learner import Learner
from harness.planning import make_plan
from harness.track import QUEUED, Store
from harness.workspace import Workspace

WriteSpec = Callable[..., Path]
SMALL = (
    ("policies: [full, head]", "policies: [head]"),
    ("tricks: {warmup: {epochs: 1}, mixup: }", "tricks: [mixup]"),
    ("seeds: 2", "seeds: 1"),
    ("epochs: 2,", "epochs: 1,"),
)
"""Two replicates."""


@pytest.fixture
def store(stored: Workspace, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.chdir(stored.root)
    return Store(stored)


@pytest.fixture
def small(write_spec: WriteSpec) -> Callable[..., Path]:
    """A function that writes a spec of two replicates, of a study called `name`."""
    return lambda name, *replacements: write_spec(*SMALL, ("name: tiny", f"name: {name}"), *replacements, name=name)


def add(store: Store, spec: Path, priority: int = 0, *overrides: str) -> str:
    study = specfile.read(spec, overrides)
    return queue.add(store, make_plan(study, store._workspace), priority, {})


def studies(store: Store) -> list[str]:
    return [entry.study for entry in queue.entries(store)]


def status_of(store: Store, study: str) -> str:
    (run,) = [run for name, run in store.grids() if name == study]
    return str(run.info.status)


def test_priority_goes_before_age_and_age_before_all_else(store: Store, small, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([4_000_000, 3_000_000, 2_000_000, 1_000_000])
    monkeypatch.setattr("harness.queue.time.time_ns", lambda: next(clock))
    for name, priority in {"fourth": 0, "third": 0, "second": 1, "last": -1}.items():
        add(store, small(name), priority)
    assert studies(store) == ["second", "third", "fourth", "last"]
    queue.move(store, queue.find(store, "fourth"), 10)
    assert studies(store) == ["fourth", "second", "third", "last"]


def test_a_queued_grid_is_a_scheduled_parent_with_its_spec(store: Store, small) -> None:
    spec = small("one")
    assert "2 replicates" in add(store, spec, 3, "train.lr=0.25")
    (entry,) = queue.entries(store)
    assert (entry.run.info.status, entry.priority, entry.state("")) == ("SCHEDULED", 3, "waiting")
    text, grid = spec.read_text(), specfile.read(spec, ["train.lr=0.25"]).grid
    spec.unlink()
    study = queue.read(store, entry)
    assert (study.text, study.path, study.grid, study.spec.train.lr) == (text, spec.resolve(), grid, 0.25)
    assert "cannot be read any more" in queue.changed(study)
    spec.write_text(text)
    assert queue.changed(study) == ""
    spec.write_text(text + "# new\n")
    assert "was changed" in queue.changed(study)


def test_adding_twice_is_one_entry_of_its_first_age(store: Store, small) -> None:
    spec = small("one")
    add(store, spec)
    (first,) = queue.entries(store)
    assert "queued before, now at priority 7" in add(store, spec, 7)
    (second,) = queue.entries(store)
    assert (second.run_id, second.since_ms, second.priority) == (first.run_id, first.since_ms, 7)


@pytest.mark.parametrize("method", ["write_artifact", "mark", "put", "drop"])
def test_what_is_half_written_is_never_taken(store: Store, small, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever call is the last one, nothing is in the queue; adding again makes it whole."""

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    spec = small("one")
    monkeypatch.setattr(Store, method, dies)
    with pytest.raises(KeyboardInterrupt):
        add(store, spec)
    assert queue.entries(store) == []
    monkeypatch.undo()
    add(store, spec)
    (entry,) = queue.entries(store)
    assert queue.read(store, entry).spec.name == "one"
    assert len(store.grids()) == 1


def test_the_mark_is_the_last_that_is_written(store: Store, small, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    put = Store.put

    def spy(self: Store, run_id: str, tags: dict[str, str]) -> None:
        assert not queue.entries(self), "nobody sees it before its last tag is there"
        put(self, run_id, tags)
        written.extend(tags)

    monkeypatch.setattr(Store, "put", spy)
    add(store, small("one"))
    assert written == [queue.PRIORITY, queue.SINCE, "harness.total", QUEUED]


def test_cancelled_is_killed_and_can_be_queued_again(store: Store, small) -> None:
    spec = small("one")
    add(store, spec)
    queue.cancel(store, queue.find(store, "one"))
    assert (studies(store), status_of(store, "one")) == ([], "KILLED")
    add(store, spec)
    assert (studies(store), status_of(store, "one")) == (["one"], "SCHEDULED")


def test_grids_are_found_by_id_or_name(store: Store, small) -> None:
    with pytest.raises(HarnessError, match="the queue is empty"):
        queue.find(store, "one")
    add(store, small("one"))
    add(store, small("two"))
    add(store, small("two", ("seeds: 1", "seeds: [5]")))
    (one,) = [entry for entry in queue.entries(store) if entry.study == "one"]
    assert queue.find(store, one.run_id[:8]).run_id == queue.find(store, "one").run_id == one.run_id
    with pytest.raises(HarnessError, match=r"'two' is more than one queued grid: two \(\w{8}\), two \(\w{8}\)"):
        queue.find(store, "two")
    with pytest.raises(HarnessError, match="unknown queued grid 'ome'; legal: one, two"):
        queue.find(store, "ome")


@pytest.mark.usefixtures("store")
def test_a_bad_spec_queues_none_of_those_beside_it(stored: Workspace, small, capsys) -> None:
    bad = small("bad", ("policies: [head]", "policies: [haed]"))
    assert cli.main(["queue", "add", str(small("good")), str(bad)]) == cli.BAD_INPUT
    assert "bad.yaml:9" in capsys.readouterr().err
    assert queue.entries(Store(stored)) == []


def test_work_takes_the_queue_in_order_and_empties_it(store: Store, small, capsys) -> None:
    one, two = small("one"), small("two", ("seeds: 1", "seeds: [1]"))
    assert cli.main(["queue", "add", str(one)]) == cli.DONE
    assert cli.main(["queue", "add", str(two), "--priority", "1", "--set", "train.lr=0.25"]) == cli.DONE
    two.write_text("nonsense")
    capsys.readouterr()
    assert cli.main(["queue", "list"]) == cli.DONE
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()] == ["two", "one"]
    assert cli.main(["work", "--once", "--inline"]) == cli.DONE
    said = capsys.readouterr()
    assert "two.yaml was changed since; what was queued is run" in said.err
    assert "one.yaml was changed" not in said.err
    ended = {name: run.info.end_time for name, run in store.grids()}
    assert ended["two"] < ended["one"]
    assert {run.info.status for _, run in store.grids()} == {"FINISHED"}
    assert queue.entries(store) == []
    (parent,) = [run for name, run in store.grids() if name == "two"]
    lrs = {child.data.params["lr"] for child in store.children(parent) if "lr" in child.data.params}
    assert lrs == {"0.25"}, "the overrides are those it was queued with"
    assert (store._workspace.results / "two" / "report.html").exists()
    assert cli.main(["work", "--once", "--inline"]) == cli.DONE, "an empty queue is no error"

    assert cli.main(["queue", "add", str(one)]) == cli.DONE
    assert "one is finished; not queued" in capsys.readouterr().out
    assert status_of(store, "one") == "FINISHED"


def test_a_grid_that_cannot_be_planned_any_more_never_stops_the_queue(store: Store, small, capsys) -> None:
    spec = small("gone")
    add(store, spec, 1)
    entry = queue.find(store, "gone")
    written = json.loads(store.read_artifact(entry.run, "queued_spec.json") or b"")
    before, after = written["text"].partition("weights:")[0], written["text"].partition("\ndata:")[2]
    text = f"{before}weights: {{checkpoint: ../gone.pt}}\ndata:{after}"
    store.write_artifact(entry.run_id, "queued_spec.json", json.dumps({**written, "text": text}).encode())
    add(store, small("good"))
    assert cli.main(["work", "--once", "--inline"]) == cli.SOME_FAILED
    assert "leaves the queue, failed" in capsys.readouterr().err
    assert {name: run.info.status for name, run in store.grids()} == {"gone": "FAILED", "good": "FINISHED"}
    (failed,) = [run for name, run in store.grids() if name == "gone"]
    assert "gone.pt" in failed.data.tags[queue.GAVE_UP]

    add(store, spec)
    assert studies(store) == ["gone"], "what could not be run may be queued again"
    assert queue.GAVE_UP not in store.client.get_run(failed.info.run_id).data.tags


def test_a_crash_in_one_grid_never_stops_the_queue(store: Store, small, capsys, monkeypatch) -> None:
    from harness.session import Session

    add(store, small("one"), 1)
    add(store, small("two"))
    open_session = Session.open

    def breaks(study, *rest):
        if study.spec.name == "one":
            raise ZeroDivisionError("ours to mend")
        return open_session(study, *rest)

    monkeypatch.setattr(Session, "open", breaks)
    assert cli.main(["work", "--once", "--inline"]) == cli.SOME_FAILED
    assert "ZeroDivisionError: ours to mend" in capsys.readouterr().err
    assert {name: run.info.status for name, run in store.grids()} == {"one": "FAILED", "two": "FINISHED"}


def test_what_is_added_while_it_works_is_worked_off(store: Store, small, monkeypatch) -> None:
    from harness.session import Session

    late, added = small("late"), False
    add(store, small("early"))
    report = Session.report

    def adds(self):
        nonlocal added
        if not added:
            added = True
            add(Store(store._workspace), late)
        return report(self)

    monkeypatch.setattr(Session, "report", adds)
    assert cli.main(["work", "--once", "--inline"]) == cli.DONE
    assert {name: run.info.status for name, run in store.grids()} == {"early": "FINISHED", "late": "FINISHED"}


def test_run_takes_a_queued_grid_out_of_the_queue(store: Store, small) -> None:
    spec = small("one")
    add(store, spec)
    add(store, small("two"))
    assert cli.main(["run", str(spec), "--inline"]) == cli.DONE
    assert studies(store) == ["two"]
    assert status_of(store, "one") == "FINISHED"
    assert len(store.grids()) == 2


def test_an_idle_worker_waits_for_more(store: Store, small, monkeypatch) -> None:
    """It sleeps, finds what was added meanwhile, and sleeps again."""
    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            raise KeyboardInterrupt
        if len(naps) == 2:
            add(Store(store._workspace), small("one"))

    monkeypatch.setattr("harness.cli_grids.time.sleep", nap)
    assert cli.main(["work", "--inline"]) == cli.INTERRUPTED
    assert len(naps) == 3
    assert status_of(store, "one") == "FINISHED"


@pytest.mark.usefixtures("store")
def test_a_second_worker_is_refused(stored: Workspace, capsys) -> None:
    from harness.lease import turn

    with turn(stored):
        assert cli.main(["work", "--once"]) == cli.BAD_INPUT
    assert "another harness run" in capsys.readouterr().err
    assert cli.main(["work", "--once"]) == cli.DONE


def test_a_device_that_is_not_there_ends_the_work_and_empties_no_queue(store: Store, small, capsys) -> None:
    add(store, small("one"))
    add(store, small("two"))
    assert cli.main(["work", "--once", "--devices", "cuda:77"]) == cli.BAD_INPUT
    assert "cuda:77" in capsys.readouterr().err
    assert studies(store) == ["one", "two"]


def test_what_is_cancelled_while_it_is_planned_is_not_run(store: Store, small, monkeypatch, capsys) -> None:
    add(store, small("one"))
    opened = session.Session.open

    def cancelled_meanwhile(*arguments):
        queue.cancel(store, queue.find(store, "one"))
        return opened(*arguments)

    monkeypatch.setattr(session.Session, "open", cancelled_meanwhile)
    assert cli.main(["work", "--once", "--inline"]) == cli.DONE
    assert status_of(store, "one") == "KILLED"
    assert "Report" not in capsys.readouterr().out


def test_a_grid_of_which_something_is_left_can_be_queued_again(store: Store, small, monkeypatch) -> None:
    spec = small("one")
    with monkeypatch.context() as patched:
        patched.setattr(Learner, "step", mistaken(Learner.step))
        assert cli.main(["run", str(spec), "--inline", "--set", "execution.same_error_limit=1"]) == cli.SOME_FAILED
    assert "queued at priority" in add(store, spec), "one of two replicates was never begun"
    assert cli.main(["work", "--once", "--inline"]) == cli.SOME_FAILED
    assert "has ended with failed replicates" in add(store, spec)


def mistaken(step: Callable[..., Any]) -> Callable[..., Any]:
    """Return the step of a learner, wrong for those that begin with weights from elsewhere."""

    def wrong(self: Learner, *arguments: Any, **options: Any) -> Any:
        if self._training.origin:
            raise ValueError("no such layer")
        return step(self, *arguments, **options)

    return wrong


def test_the_list_says_running_of_what_runs_alone(store: Store, small, capsys) -> None:
    """A process that was killed leaves its grid RUNNING."""
    add(store, small("one"))
    store.client.update_run(queue.find(store, "one").run_id, status="RUNNING")
    assert cli.main(["queue", "list"]) == cli.DONE
    assert "begun" in capsys.readouterr().out
    assert cli.main(["queue", "cancel", "one"]) == cli.DONE
    assert "goes on" not in capsys.readouterr().out
