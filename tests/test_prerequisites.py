"""What is trained first: in which order, once, and what its failure means for what needs it."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness import specfile
from harness.execute.job import Job
from harness.planning import make_plan
from harness.prerequisites import lost_to, train_first
from harness.records import Epoch, Failed, Finished, Record, Started
from tests.samples import finished

MINI = "model={name: mini_resnet14, variant: a}"


class Diary:
    """Stands for a ledger: writes down what it is told."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def begun(self, digest: str) -> bool:
        return ("begin", digest) in self.lines

    def begin_prerequisite(self, prerequisite: Any, _started: Started) -> None:
        self.lines.append(("begin", prerequisite.training.digest))

    def epoch(self, record: Epoch) -> None:
        self.lines.append(("epoch", record.digest))

    def untold(self, _prerequisite: Any) -> bool:
        return False

    def finish(self, record: Finished, _training: Any, _program: str) -> None:
        self.lines.append(("finish", record.digest))

    def fail(self, record: Failed) -> None:
        self.lines.append(("fail", record.digest))


class Workers:
    """Stands for an executor: saves weights in place of training, or fails where it is told to."""

    def __init__(self, diverging: set[str], dying: set[str]) -> None:
        self.batches: list[list[str]] = []
        self._diverging, self._dying = diverging, dying

    places = 1

    def run(self, jobs: Sequence[Job], alone: bool = False) -> Iterator[Record]:
        assert not alone
        self.batches.append([job.trainings[0].digest for job in jobs])
        for job in jobs:
            (training,) = job.trainings
            if training.digest in self._dying:
                yield Failed(training.digest, 0, "killed", "the worker process ended with signal SIGKILL")
                continue
            yield Started(training.digest, 0, "CPU")
            if training.digest in self._diverging:
                yield Failed(training.digest, 0, "diverged", "training loss is nan in epoch 1")
                continue
            yield Epoch(training.digest, 0, 1, 3, 0.5, {"top1": 0.5})
            path = Path(str(training.save_to))
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"weights")
            yield finished(training.digest)

    def stop(self) -> int:
        return 0


@pytest.fixture
def tried(write_spec, workspace):
    """A function that plans with overrides and trains first; `diverging` and `dying` name prerequisites by number."""
    path = write_spec()

    def go(*overrides, diverging=(), dying=()):
        plan = make_plan(specfile.read(path, ["policies=[full]", *overrides]), workspace)
        digests = [p.training.digest for p in plan.prerequisites]
        workers = Workers({digests[n] for n in diverging}, {digests[n] for n in dying})
        diary: Any = Diary()
        updates = []
        steps = train_first(plan.prerequisites, diary, workers, lambda ts: Job(tuple(ts), workspace.cache))
        try:
            while True:
                updates.append(next(steps))
        except StopIteration as stopped:
            return SimpleNamespace(
                plan=plan, digests=digests, workers=workers, diary=diary.lines, updates=updates, lost=stopped.value
            )

    return go


def test_pretraining_is_done_before_any_teacher_and_each_role_together(tried):
    done = tried("tricks=[distillation, resnet_d]", MINI)
    plain, averaged, first, second = done.digests
    assert done.workers.batches == [[plain, averaged], [first, second]]
    assert [(u.stage, u.done, u.total) for u in done.updates] == [
        *(("pretraining", done, 2) for done in range(3)),
        *(("teaching", done, 2) for done in range(3)),
    ]
    assert "mini_resnet14 on digits" in done.updates[0].text
    assert done.lost == {}
    assert done.diary == [(what, digest) for digest in done.digests for what in ("begin", "epoch", "finish")]


def test_what_is_there_is_not_made_again(tried):
    tried("tricks=[distillation]")
    again = tried("tricks=[distillation]")
    assert [batch for batch in again.workers.batches if batch] == []
    assert again.updates == []
    more = tried("tricks=[distillation]", "seeds=3")
    assert [batch for batch in more.workers.batches if batch] == [[more.digests[3]]]


def test_a_teacher_whose_pretraining_failed_is_not_tried(tried):
    done = tried("tricks=[distillation]", diverging=[0])
    source, *teachers = done.digests
    assert [batch for batch in done.workers.batches if batch] == [[source]]
    assert done.diary == [("begin", source), ("fail", source)]
    assert done.lost[source].reason == "its pretraining failed: training loss is nan in epoch 1"
    for teacher in teachers:
        assert done.lost[teacher].reason == (
            "its teacher failed: its pretraining failed: training loss is nan in epoch 1"
        )
        assert (done.lost[teacher].kind, done.lost[teacher].digest) == ("diverged", teacher)


def test_a_failure_is_that_of_what_needs_it_and_of_nothing_else(tried):
    done = tried("tricks=[distillation]", diverging=[2])  # the teacher of seed 1
    for replicate in done.plan.replicates:
        failure = lost_to(replicate.training, done.lost)
        if replicate.cell.tricks and replicate.seed == 1:
            assert failure == Failed(
                replicate.training.digest, 0, "diverged", "its teacher failed: training loss is nan in epoch 1"
            )
        else:
            assert failure is None


def test_one_pretraining_of_two_may_fail(tried):
    done = tried("axes={weights.pretrain.seed: [0, 1]}", diverging=[0])
    lost = {r.cell.scenario for r in done.plan.replicates if lost_to(r.training, done.lost)}
    assert lost == {"source_seed 0"}
    assert done.diary[-1] == ("finish", done.digests[1])


def test_a_worker_that_died_before_its_first_word_has_no_run_to_end(tried):
    done = tried(dying=[0])
    assert done.diary == []
    assert "SIGKILL" in done.lost[done.digests[0]].reason


def test_a_training_that_needs_nothing_is_lost_to_nothing(tried):
    done = tried("weights=null")
    assert done.lost == {}
    failure = Failed("x", 0, "diverged", "")
    assert not any(lost_to(r.training, {"x": failure}) for r in done.plan.replicates)
