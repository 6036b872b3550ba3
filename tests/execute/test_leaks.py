"""Two hundred trainings leave nothing behind: no file, no shared memory, no process, no memory of a device."""

import gc
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing import forkserver
from pathlib import Path

import pytest
import torch

from harness.execute.inline import InlineExecutor
from harness.execute.job import Job
from harness.execute.local import LocalExecutor
from harness.records import Finished
from tests.watching import two_steps

MANY = 200
SHARED_MEMORY = Path("/dev/shm")


def jobs(count: int, cache: Path) -> list[Job]:
    return [Job((replace(two_steps(policy="head"), seed=seed),), cache) for seed in range(count)]


def files_of(process: int | None) -> int:
    return len(os.listdir(f"/proc/{process or 'self'}/fd"))


def held() -> tuple[int, int, set[str], int]:
    """Return open files of this process and of the one it forks from, what lies in shared memory, and its children."""
    server = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    shared = {entry.name for entry in SHARED_MEMORY.iterdir()} if SHARED_MEMORY.is_dir() else set()
    return files_of(None), files_of(server), shared, len(multiprocessing.active_children())


def tensors_alive() -> int:
    gc.collect()
    return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())


def until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds, for half a minute at most."""
    for _ in range(300):
        if condition():
            return
        time.sleep(0.1)


def finished(records: Iterator[object]) -> int:
    return sum(isinstance(record, Finished) for record in records)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="only Linux tells open files by process")
def test_two_hundred_worker_processes_leave_nothing_behind(tmp_path: Path) -> None:
    executor = LocalExecutor(["cpu"] * 2)
    assert finished(executor.run(jobs(4, tmp_path))) == 4
    time.sleep(1.0)
    files, forked_files, shared, children = held()
    assert finished(executor.run(jobs(MANY, tmp_path))) == MANY
    # The server that processes are forked from hears a moment later that the last ones have ended.
    until(lambda: held()[:2] == (files, forked_files))
    files_now, forked_files_now, shared_now, children_now = held()
    assert (files_now, forked_files_now, children_now) == (files, forked_files, children)
    assert not {name for name in shared_now - shared if name.startswith(("torch_", "sem.mp", "psm_"))}


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="only Linux tells open files by process")
def test_two_hundred_trainings_in_one_process_leave_nothing_behind(tmp_path: Path) -> None:
    (job,) = jobs(1, tmp_path)
    trainings = tuple(replace(job.trainings[0], seed=seed) for seed in range(MANY))
    executor = InlineExecutor("cpu")
    assert finished(executor.run([replace(job, trainings=trainings[:4])])) == 4
    files = files_of(None)
    tensors = tensors_alive()
    assert finished(executor.run([replace(job, trainings=trainings)])) == MANY
    assert files_of(None) == files
    assert tensors_alive() <= tensors + 8, "not one more for every training"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_two_hundred_trainings_leave_no_memory_of_the_device(tmp_path: Path) -> None:
    (job,) = jobs(1, tmp_path)
    trainings = tuple(replace(job.trainings[0], seed=seed) for seed in range(MANY))
    executor = InlineExecutor("cuda:0")
    assert finished(executor.run([replace(job, trainings=trainings[:4])])) == 4
    held_bytes = torch.cuda.memory_allocated()
    assert finished(executor.run([replace(job, trainings=trainings)])) == MANY
    assert torch.cuda.memory_allocated() == held_bytes
