"""Worker processes: their records, their deaths, and what they import."""

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from harness.execute import Executor
from harness.execute.inline import InlineExecutor
from harness.execute.job import Job
from harness.execute.local import LocalExecutor
from harness.execute.worker import kind_of
from harness.freezing.check import FreezeViolation
from harness.plan import Plan
from harness.records import Epoch, Failed, Finished, Probed, Record, Started
from harness.stopping import Stopped
from harness.train import Diverged
from harness.training import Training


@pytest.fixture
def trainings(plan: Plan) -> list[Training]:
    """Trainings that need no pretrained weights."""
    return [replace(replicate.training, origin=None) for replicate in plan.replicates[:3]]


def jobs(trainings: list[Training], cache: Path) -> list[Job]:
    return [Job((training,), cache) for training in trainings]


def of(records: list[Record], training: Training) -> list[Record]:
    return [record for record in records if record.digest == training.digest]


def test_every_training_starts_and_ends(trainings: list[Training], tmp_path: Path) -> None:
    records = list(LocalExecutor(["cpu"] * 2).run(jobs(trainings, tmp_path)))
    for training in trainings:
        assert [type(record) for record in of(records, training)] == [Started, Epoch, Epoch, Finished]


def test_one_job_of_several_trainings_runs_them_in_order(trainings: list[Training], tmp_path: Path) -> None:
    records = list(LocalExecutor(["cpu"]).run([Job(tuple(trainings), tmp_path)]))
    ended = [record.digest for record in records if isinstance(record, Finished)]
    assert ended == [training.digest for training in trainings]


def test_a_killed_worker_fails_its_own_training_only(trainings: list[Training], tmp_path: Path) -> None:
    long = replace(trainings[0], train=trainings[0].train.model_copy(update={"epochs": 10_000}))
    records = []
    for record in _killing(LocalExecutor(["cpu"]).run(jobs([long, *trainings[1:]], tmp_path)), long):
        records.append(record)
    lost = of(records, long)[-1]
    assert isinstance(lost, Failed)
    assert lost.kind == "killed"
    assert "SIGKILL" in lost.reason
    assert all(isinstance(of(records, training)[-1], Finished) for training in trainings[1:])


def _killing(records: Iterator[Record], victim: Training) -> Iterator[Record]:
    """Kill the one worker at the victim's first epoch."""
    done = False
    for record in records:
        if not done and isinstance(record, Epoch) and record.digest == victim.digest:
            (worker,) = multiprocessing.active_children()
            assert worker.pid is not None
            os.kill(worker.pid, signal.SIGKILL)
            done = True
        yield record


def test_stopping_half_way_leaves_no_process(trainings: list[Training], tmp_path: Path) -> None:
    records = LocalExecutor(["cpu"] * 2).run(jobs(trainings, tmp_path))
    next(records)
    assert multiprocessing.active_children()
    records.close()  # type: ignore[attr-defined]
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("make", [lambda: LocalExecutor(["cpu"]), lambda: InlineExecutor("cpu")])
def test_told_to_stop_it_ends_what_runs_and_begins_nothing(
    make: Callable[[], Executor], trainings: list[Training], tmp_path: Path
) -> None:
    executor, records = make(), []
    assert executor.stop() == 0
    with pytest.raises(Stopped):
        next(executor.run(jobs(trainings, tmp_path)))
    assert list(executor.run([])) == [], "with nothing left there is nothing to stop"

    executor = make()
    with pytest.raises(Stopped):  # noqa: PT012
        for record in executor.run(jobs(trainings, tmp_path)):
            records.append(record)
            if isinstance(record, Started):
                assert executor.stop() == 1
    assert [type(record) for record in records] == [Started, Epoch, Epoch, Finished]
    assert executor.stop() == 0

    executor = make()
    ended = [(record, executor.stop()) for record in executor.run(jobs(trainings[:1], tmp_path))]
    assert isinstance(ended[-1][0], Finished), "the last job is not cut short, and nothing was left"


def test_an_exception_is_a_record_with_its_traceback(trainings: list[Training], tmp_path: Path) -> None:
    broken = replace(trainings[0], train=trainings[0].train.model_copy(update={"batch_size": 999}))
    records = list(InlineExecutor("cpu").run([Job((broken, trainings[1]), tmp_path)]))
    failed = of(records, broken)[-1]
    assert isinstance(failed, Failed)
    assert failed.kind == "error"
    assert failed.reason.startswith("ValueError: ")
    assert "do not fill a batch of 999" in failed.traceback
    assert isinstance(of(records, trainings[1])[-1], Finished)


def test_probe_job_yields_its_rounds(trainings: list[Training], tmp_path: Path) -> None:
    records = list(LocalExecutor(["cpu"]).run([Job(tuple(trainings[:2]), tmp_path, probe=(2, 1))]))
    assert all(isinstance(record, Probed) for record in records)
    rounds = [{record.digest for record in records[:2]}, {record.digest for record in records[2:]}]
    assert rounds == [{training.digest for training in trainings[:2]}] * 2


def test_workers_import_no_tracker_and_no_plots() -> None:
    code = "import sys, harness.execute.worker; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"mlflow", "pandas", "matplotlib", "harness.track", "harness.plan"} & set(loaded)


def test_what_takes_too_long_is_ended_and_takes_nothing_with_it(trainings: list[Training], tmp_path: Path) -> None:
    """Its job's next training begins in another process; what had finished, and other jobs, stay as they are."""
    done, late, next_one = trainings
    late = replace(late, train=late.train.model_copy(update={"epochs": 10_000_000}))
    other = replace(done, seed=9)
    job = Job((done, late, next_one), tmp_path, time_limit_s=3.0)
    records = list(LocalExecutor(["cpu"] * 2).run([job, *jobs([other], tmp_path)]))
    assert isinstance(of(records, done)[-1], Finished)
    assert isinstance(of(records, other)[-1], Finished)
    failed = of(records, late)[-1]
    assert isinstance(failed, Failed)
    assert (failed.kind, failed.reason) == ("timeout", "it took longer than the 3 s of time_limit_s")
    assert isinstance(of(records, next_one)[-1], Finished)
    assert not multiprocessing.active_children()


def test_what_a_killed_process_had_not_begun_goes_to_another(trainings: list[Training], tmp_path: Path) -> None:
    long = replace(trainings[0], train=trainings[0].train.model_copy(update={"epochs": 10_000}))
    records = list(_killing(LocalExecutor(["cpu"]).run([Job((long, *trainings[1:]), tmp_path)]), long))
    assert isinstance(of(records, long)[-1], Failed)
    for training in trainings[1:]:
        assert [type(record) for record in of(records, training)] == [Started, Epoch, Epoch, Finished]


@pytest.mark.parametrize("executor", [LocalExecutor(["cpu"]), InlineExecutor("cpu")], ids=["local", "inline"])
def test_told_to_stop_a_job_ends_with_the_training_that_it_does(
    executor: Executor, trainings: list[Training], tmp_path: Path
) -> None:
    slow = [replace(t, train=t.train.model_copy(update={"epochs": 200})) for t in trainings]
    records = []

    def stopping() -> Iterator[Record]:
        for record in executor.run([Job(tuple(slow), tmp_path)]):
            records.append(record)
            if isinstance(record, Started):
                assert executor.stop() == 1
            yield record

    with pytest.raises(Stopped):
        list(stopping())
    assert [type(record) for record in records] == [Started, *[Epoch] * 200, Finished]


def test_each_training_of_a_job_has_the_whole_time(trainings: list[Training], tmp_path: Path) -> None:
    executor = LocalExecutor(["cpu"])
    deadlines = []
    for record in executor.run([Job(tuple(trainings), tmp_path, time_limit_s=600.0)]):
        if isinstance(record, Started):
            (running,) = executor._running.values()
            deadlines.append(running.deadline)
    assert deadlines == sorted(set(deadlines))
    assert len(deadlines) == 3


def test_alone_there_is_one_job_on_each_device(trainings: list[Training], tmp_path: Path) -> None:
    executor, most = LocalExecutor(["cpu"] * 2), {False: 0, True: 0}
    for alone in most:
        for _ in executor.run(jobs(trainings, tmp_path), alone):
            most[alone] = max(most[alone], len(multiprocessing.active_children()))
    assert most == {False: 2, True: 1}


def out_of_memory() -> Exception:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    return caught.value


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (out_of_memory(), "out_of_memory"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3.00 GiB."), "out_of_memory"),
        (RuntimeError("CUDA error: out of memory"), "out_of_memory"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), "out_of_memory"),
        (MemoryError(), "out_of_memory"),
        (OSError(errno.ENOSPC, "No space left on device", "/x.pt"), "disk_full"),
        (FileNotFoundError(errno.ENOENT, "No such file", "/x.pt"), "error"),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), "error"),
        (ValueError("can't allocate memory"), "error"),
        (Diverged("training loss is nan in epoch 1"), "diverged"),
        (FreezeViolation("conv1.weight moved"), "freeze_violation"),
    ],
)
def test_kind_of_an_exception(error: Exception, kind: str) -> None:
    assert kind_of(error) == kind


def test_what_has_more_to_say_than_is_heard_is_late_all_the_same(trainings: list[Training], tmp_path: Path) -> None:
    """A reader that is slower than the training never finds it silent."""
    late = replace(trainings[0], train=trainings[0].train.model_copy(update={"epochs": 10_000_000}))
    seen: list[Record] = []
    for record in LocalExecutor(["cpu"]).run([Job((late,), tmp_path, time_limit_s=1.0)]):
        seen.append(record)
        time.sleep(0.05)
        assert len(seen) < 1000, "a minute was heard of"
    assert isinstance(seen[-1], Failed)
    assert seen[-1].kind == "timeout"
