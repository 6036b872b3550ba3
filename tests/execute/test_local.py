"""Worker processes: their records, their deaths, and what they import."""

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from harness.execute import Executor
from harness.execute.inline import InlineExecutor
from harness.execute.job import Job
from harness.execute.local import LocalExecutor
from harness.plan import Plan
from harness.records import Epoch, Failed, Finished, Probed, Record, Started
from harness.stopping import Stopped
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
