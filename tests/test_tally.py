"""Counts of a grid on its parent run: right, and not written too often."""

from types import SimpleNamespace

import pytest

from harness import tally
from harness.grid import Outcome
from harness.progress import Update
from harness.tally import Tally


class Parent:
    """A parent run whose tags are written; time stands still unless told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.writes, self.log = 100.0, 0, SimpleNamespace(run_id="parent", open_runs=0)
        self.tags: dict[str, str] = {}
        monkeypatch.setattr("harness.tally.time.monotonic", lambda: self.now)

    def put(self, run_id: str, tags: dict[str, str]) -> None:
        assert run_id == "parent"
        self.tags |= tags
        self.writes += 1


@pytest.fixture
def parent(monkeypatch: pytest.MonkeyPatch) -> Parent:
    return Parent(monkeypatch)


def test_counts_are_of_replicates_whoever_ended_them(parent: Parent) -> None:
    told = Tally(parent, parent.log, "host/1-2", 20)  # type: ignore[arg-type]
    parent.log.open_runs = 3
    told.note(Update("training", 4, 13), Outcome(settled=7, failed_before=2, trained=3, shared=1, failures=["x"]))
    expected = {"total": "20", "done": "9", "failed": "3", "running": "3", "stage": "training", "left_s": ""}
    assert {key: parent.tags[f"harness.{key}"] for key in expected} == expected
    assert parent.tags[tally.PROCESS] == "host/1-2"


def test_time_left_is_at_the_rate_of_this_stage(parent: Parent) -> None:
    told, outcome = Tally(parent, parent.log, "p", 20), Outcome()  # type: ignore[arg-type]
    told.note(Update("probing", 0, 2), outcome)
    assert parent.tags[tally.STAGE] == "probing 0/2"
    parent.now += 1000
    told.note(Update("training", 5, 20), outcome)
    assert parent.tags[tally.LEFT_S] == ""
    parent.now += 30
    told.note(Update("training", 8, 20), outcome)
    assert parent.tags[tally.LEFT_S] == "120", "3 in 30 s, 12 left"
    told.close(Outcome(settled=20))
    assert (parent.tags[tally.LEFT_S], parent.tags[tally.RUNNING], parent.tags[tally.DONE]) == ("", "0", "20")


def test_many_updates_are_few_writes(parent: Parent) -> None:
    told = Tally(parent, parent.log, "p", 1001)  # type: ignore[arg-type]
    for done in range(1000):
        parent.now += 0.1
        parent.log.open_runs = done % 2
        told.note(Update("training", done, 1001), Outcome(trained=done))
    assert parent.writes <= 2 + 100 / 3
    assert int(parent.tags[tally.DONE]) > 960


def test_more_at_once_than_before_is_told_at_once(parent: Parent) -> None:
    """Long trainings begin within a second of each other, and then nothing comes for hours."""
    told = Tally(parent, parent.log, "p", 8)  # type: ignore[arg-type]
    for running in range(5):
        parent.log.open_runs = running
        told.note(Update("training", 0, 8), Outcome())
    assert parent.tags[tally.RUNNING] == "4"


def test_what_is_pretrained_is_no_replicate(parent: Parent) -> None:
    parent.log.open_runs = 1
    Tally(parent, parent.log, "p", 8).note(Update("pretraining", 0, 1), Outcome())  # type: ignore[arg-type]
    assert parent.tags[tally.RUNNING] == "0"
