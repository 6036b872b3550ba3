"""What a process does with a job: perform it, turning whatever goes wrong into a record."""

from __future__ import annotations

import errno
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing import current_process, parent_process
from multiprocessing.connection import Connection

import torch

from harness import codes
from harness.bulk import Course, together
from harness.checkpoint import Checkpoint, Keeper
from harness.devices import device_name
from harness.execute.job import Job
from harness.freezing.check import FreezeViolation
from harness.leading import Leads
from harness.prefix.cut import only_head_learns
from harness.probe import probe
from harness.records import Failed, FailureKind, Finished, Record, Started, now
from harness.supplies import Supplies
from harness.train import Diverged, course
from harness.training import Training

_KINDS: dict[type[Exception], FailureKind] = {
    Diverged: "diverged",
    FreezeViolation: "freeze_violation",
    MemoryError: "out_of_memory",
    torch.OutOfMemoryError: "out_of_memory",
}
_SIDE_BY_SIDE = 8
"""Trainings whose steps may be taken at once: each has a network in memory."""
_OUT_OF_MEMORY = ("can't allocate memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
"""What torch says where it has no class for it: its allocator on the CPU, and libraries that allocate themselves."""


def perform(job: Job, device_called: str, stopped: Callable[[], object] = lambda: False) -> Iterator[Record]:
    """Yield the records of a job, done on a device such as `cuda:1`.

    A training that raises ends in Failed, and the next one begins, unless it is `stopped`.
    """
    configure(job)
    device = torch.device(device_called)
    if job.probe:
        rounds, steps = job.probe
        yield from probe(job.trainings, rounds, steps, job.cache, device)
        return
    supplies = Supplies(job.cache, device, job.reuse)
    groups = _side_by_side(job)
    leads = Leads([training for group in groups for training in group] if job.reuse else ())
    for number, group in enumerate(groups):
        if number and stopped():
            return
        torch.set_num_threads(group[0].train.threads)
        yield from together([_attempt(training, job, supplies, leads) for training in group])


def _side_by_side(job: Job) -> list[list[Training]]:
    """Return the trainings of a job, those together whose steps may be taken at once: a time limit is each one's."""
    groups: dict[tuple[object, ...], list[Training]] = {}
    for number, training in enumerate(job.trainings):
        key: tuple[object, ...] = (number,)
        if job.reuse and job.time_limit_s is None and only_head_learns(training):
            train = training.train
            key = (training.model, training.classes, training.data.image_size, train.batch_size, train.threads)
        groups.setdefault(key, []).append(training)
    return [group[at : at + _SIDE_BY_SIDE] for group in groups.values() for at in range(0, len(group), _SIDE_BY_SIDE)]


def _attempt(training: Training, job: Job, supplies: Supplies, leads: Leads) -> Course:
    name = device_name(supplies.device)
    keeper = Keeper(job.checkpoints, training, name) if job.checkpoints else None
    saved, lead = keeper.saved if keeper else None, leads.of(training)
    if lead and (saved is None or saved.epoch < lead.checkpoint.epoch):
        saved = lead.checkpoint
        yield Started(training.digest, now(), name, led_by=lead.digest)
    else:
        yield Started(training.digest, now(), name, saved.epoch if saved else 0)
    try:
        if training.codes:  # a solver keeps no checkpoint: it has no epochs
            yield from codes.fit(training, supplies)
            return

        def keep(checkpoint: Checkpoint) -> None:
            leads.keep(training, checkpoint)
            if keeper:
                keeper.keep(checkpoint)

        steps = course(training, supplies, keep, saved)
        del saved, lead  # for as long as it trains
        item = next(steps)
        while not isinstance(item, Finished):
            item = steps.send((yield item))
        yield replace(item, notes=(*item.notes, *keeper.notes)) if keeper else item
    except Exception as error:  # whatever a training raises is a record, not the end of the grid
        kind = kind_of(error)
        ours = kind in ("diverged", "freeze_violation")
        reason = str(error) if ours else f"{type(error).__name__}: {error}"
        yield Failed(training.digest, now(), kind, reason, traceback.format_exc())


def kind_of(error: Exception) -> FailureKind:
    """Return which kind of failure an exception is."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "disk_full"
    if isinstance(error, RuntimeError) and any(words in str(error) for words in _OUT_OF_MEMORY):
        return "out_of_memory"
    return next((kind for known, kind in _KINDS.items() if isinstance(error, known)), "error")


def configure(job: Job) -> None:
    """Set what this process shares by all its trainings: threads, and algorithms that give the same bits twice."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is not deterministic without it
    torch.set_num_threads(job.threads)
    torch.use_deterministic_algorithms(True)
    # Nothing here reads what it has not written, and filling takes time (a fiftieth of a step of ResNet-18).
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False


def serve(job: Job, device: str, connection: Connection) -> None:
    """Perform a job in a process of its own, sending its records to the grid's process, and die with that process."""
    current_process().daemon = False  # a daemon may start no process, as the loaders of streamed images are
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # where another library has started the server that forks
    threading.Thread(target=_die_with_parent, daemon=True).start()
    with connection:
        for record in perform(job, device, connection.poll):  # anything that is said means to stop
            connection.send(record)


def _die_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
