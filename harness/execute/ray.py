"""The executor for clusters: jobs as tasks of Ray, which places them on nodes and shares GPUs out.

The grid's process is a driver of the cluster: Ray ends its tasks if it dies.
"""

from __future__ import annotations

import logging
import math
import os
import platform
import signal
import socket
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import ray
import torch
from ray.exceptions import RayError, RayTaskError

from harness.errors import HarnessError, NotThere
from harness.execute.job import Job
from harness.execute.worker import perform
from harness.records import Failed, FailureKind, Finished, Record, Started, now
from harness.stopping import Stopped
from harness.versions import versions

_SUBMITTED = 64
"""Tasks that may wait for a place: enough to keep a cluster busy and to let it grow, few enough to be looked after."""
_LOOK_EVERY_S = 0.5
"""How often time limits and a wish to stop are seen where no task has anything to say."""
_REACH_S = 10.0
"""Longest wait for a cluster to answer."""
_ENDING_S = 30.0
"""Longest wait for tasks to be ended; a node that is out of reach may never say so."""


@dataclass
class _Running:
    job: Job
    begun: set[str] = field(default_factory=set)
    ended: set[str] = field(default_factory=set)
    heard: bool = False
    """Whether a record of it came; else it may still wait for a place."""
    current: str = ""
    """Digest of the training that it does at the moment."""
    deadline: float = math.inf
    """When that has taken too long if nothing more is heard, by the monotonic clock."""
    late_ms: float = math.inf
    """When it has, by the clock of its records: a task may have more to say than is heard in time."""

    @property
    def left(self) -> Job:
        """What it has not begun."""
        return self.job.without(self.begun)


class RayExecutor:
    """Runs jobs on the cluster that this process is connected to."""

    def __init__(self, gpu_share: float, marker: Path) -> None:
        """A training takes `gpu_share` of a GPU where the cluster has any; `marker` is a file that all nodes see."""
        self.gpu_share = gpu_share if ray.cluster_resources().get("GPU") else 0.0
        """0 where trainings run on the CPU."""
        self._marker = marker
        self._stopped = False
        self._running: dict[ray.ObjectRefGenerator, _Running] = {}
        self._waiting: deque[Job] = deque()
        # Streams of records cannot be told from their beginning twice, so a task is never tried again by Ray itself;
        # and a process that ends with its task leaves no memory of a GPU behind.
        self._perform = ray.remote(num_returns="streaming", max_retries=0, max_calls=1)(_perform)

    @property
    def device(self) -> str:
        """What figures of speed are of."""
        return "ray:cuda" if self.gpu_share else "ray:cpu"

    @property
    def places(self) -> int:
        """Jobs that the cluster, as it is now, has room for at a time; it may grow."""
        there = ray.cluster_resources()
        return max(1, int(there.get("GPU", 0) / self.gpu_share if self.gpu_share else there.get("CPU", 1)))

    def run(self, jobs: Sequence[Job], alone: bool = False) -> Iterator[Record]:
        """Yield the records of all jobs as they come; a task or node that dies leaves Failed for what it had not ended.

        With `alone` each job has a whole GPU to itself; without GPUs, the cluster.
        """
        self._waiting = waiting = deque(jobs)
        running = self._running
        at_most = 1 if alone and not self.gpu_share else math.inf
        try:
            while waiting or running:
                if self._stopped:
                    waiting += self._take_back()
                while waiting and not self._stopped and len(running) < at_most and self._silent() < _SUBMITTED:
                    job = waiting.popleft()
                    running[self._submit(job, alone or job.probe is not None)] = _Running(job)
                if not running:
                    raise Stopped
                ready, _ = ray.wait([*running], timeout=_LOOK_EVERY_S)
                for task in ready:
                    yield from self._read(task)
                # What has something to say is heard first: it may have ended in time.
                for task in [task for task, each in running.items() if each.deadline < time.monotonic()]:
                    if not ray.wait([task], timeout=0)[0]:
                        yield from self._end_late(task)
        finally:
            self.close()

    def stop(self) -> int:
        """Let no other training begin; returns how many run."""
        self._stopped = True
        _stop(self._marker).touch()
        return sum(len(each.begun - each.ended) or each.heard for each in self._running.values())

    def close(self) -> None:
        """End all that runs."""
        self._end([*self._running])

    def _silent(self) -> int:
        return sum(not each.heard for each in self._running.values())

    def _submit(self, job: Job, alone: bool) -> ray.ObjectRefGenerator:
        gpus = math.ceil(self.gpu_share) if alone else self.gpu_share
        options = self._perform.options(
            num_cpus=job.threads, num_gpus=gpus, name="training" if not job.probe else "probe"
        )
        task: ray.ObjectRefGenerator = options.remote(job, self._marker, versions())
        return task

    def _take_back(self) -> list[Job]:
        """End the tasks that have not begun; returns their jobs."""
        silent = [task for task, each in self._running.items() if not each.heard]
        jobs = [self._running[task].job for task in silent]
        self._end(silent)
        return jobs

    def _read(self, task: ray.ObjectRefGenerator) -> Iterator[Record]:
        current = self._running.pop(task)
        try:
            record: Record = ray.get(next(task))
        except StopIteration:
            if not current.job.probe and current.left.trainings:  # it was stopped
                self._waiting.appendleft(current.left)
            return
        except RayTaskError as error:
            traceback = str(error).partition("\n")[2]  # its first line names a process, and is coloured
            yield from self._lost(current, "error", f"{type(error.cause).__name__}: {error.cause}", traceback)
            return
        except RayError as error:
            yield from self._lost(current, "killed", f"{type(error).__name__}: {str(error).partition(chr(10))[0]}")
            return
        self._running[task] = current  # behind the others, so that all are heard
        current.heard = True
        if isinstance(record, Started):
            limit_s = math.inf if current.job.time_limit_s is None else current.job.time_limit_s
            current.begun.add(record.digest)
            current.current = record.digest
            current.deadline = time.monotonic() + limit_s
            current.late_ms = record.timestamp + 1000 * limit_s
        elif isinstance(record, Finished | Failed):
            current.ended.add(record.digest)
            current.deadline = math.inf
        elif record.timestamp > current.late_ms:
            yield from self._end_late(task)
            return
        yield record

    def _end_late(self, task: ray.ObjectRefGenerator) -> Iterator[Failed]:
        """End a task whose training takes too long; the others of its job were only killed with it."""
        late = self._running[task]
        self._end([task])
        limit = f"it took longer than the {late.job.time_limit_s:g} s of time_limit_s"
        yield Failed(late.current, now(), "timeout", limit)
        late.ended.add(late.current)
        yield from self._lost(late, "killed", "its process was ended, because another training of it took too long")

    def _lost(self, gone: _Running, kind: FailureKind, reason: str, traceback: str = "") -> Iterator[Failed]:
        if gone.job.probe:
            yield Failed(gone.job.trainings[0].digest, now(), kind, reason, traceback)
            return
        if gone.begun and gone.left.trainings:
            self._waiting.appendleft(gone.left)
        for training in gone.job.trainings:
            if training.digest not in gone.ended and (training.digest in gone.begun or not gone.begun):
                yield Failed(training.digest, now(), kind, reason, traceback)

    def _end(self, tasks: Sequence[ray.ObjectRefGenerator]) -> None:
        """End tasks, whether they run or wait, and wait until they have ended."""
        for task in tasks:
            del self._running[task]
            ray.cancel(task, force=True)
        if tasks:
            ray.wait([task.completed() for task in tasks], num_returns=len(tasks), timeout=_ENDING_S)


def _perform(job: Job, marker: Path, expected: Mapping[str, str]) -> Iterator[Record]:
    """Perform a job on the node that Ray chose, on the GPU that Ray gave it.

    A GPU that Ray was told of and torch does not see is made up, for tests: the CPU stands in for it.
    """
    if not marker.exists():
        raise HarnessError(
            f"node {platform.node()} does not see the workspace {marker.parents[1]} ({marker.name} is lacking there): "
            "the workspace must lie in a folder that all nodes share under the same path"
        )
    if versions() != expected:
        raise HarnessError(
            f"node {platform.node()} has {dict(versions())}, the grid's process {dict(expected)}, and their numbers "
            "differ: install the same versions on all nodes"
        )
    given = ray.get_gpu_ids() and torch.cuda.is_available()
    # Ray lets a task see its own GPU alone.
    yield from perform(job, "cuda:0" if given else "cpu", _stop(marker).exists)


def _stop(marker: Path) -> Path:
    """Return the file whose presence tells all nodes to begin no other training."""
    return marker.with_suffix(".stop")


@contextmanager
def connected(address: str | None, gpu_share: float, threads: int, cache: Path) -> Iterator[RayExecutor]:
    """Join a cluster, by default the one that Ray finds (RAY_ADDRESS) or else starts here, and leave it in the end.

    `cache` is the workspace's folder that nodes must see. Raises HarnessError where the cluster is not to be joined, or
    has no node for a training with so many `threads` and its share of a GPU.
    """
    _join(address)
    marker = cache / f"ray-{uuid4().hex}"
    try:
        executor = RayExecutor(gpu_share, marker)
        _check_fit(threads, math.ceil(executor.gpu_share))
        there = ray.cluster_resources()
        logging.getLogger(__name__).warning(
            "harness: training on the Ray cluster at %s, with %d CPUs and %d GPUs; what is taken is waited for",
            ray.get_runtime_context().gcs_address,
            there.get("CPU", 0),
            there.get("GPU", 0),
        )
        cache.mkdir(parents=True, exist_ok=True)
        marker.touch()
        with closing(executor):
            yield executor
    finally:
        for file in (marker, _stop(marker)):
            file.unlink(missing_ok=True)
        ray.shutdown()


def _join(address: str | None) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    where = address if address not in (None, "auto") else os.environ.get("RAY_ADDRESS", "auto")
    _check_reachable(where)
    terminate = signal.getsignal(signal.SIGTERM)  # Ray puts its own in the place of ours
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise NotThere(f"cannot join the Ray cluster at {where}: {error}") from None
    finally:
        signal.signal(signal.SIGTERM, terminate)


def _check_reachable(address: str) -> None:
    """Raise HarnessError where no cluster can be at an address: Ray itself tries for minutes, and dies."""
    if address.startswith("ray://"):
        raise NotThere(
            f"{address} is the address of a Ray Client, which cannot stream records: start the harness on a node of "
            "the cluster, with its HOST:PORT or auto, or as a Ray job"
        )
    host, _, port = address.rpartition(":")
    if host and port.isdecimal():
        try:
            socket.create_connection((host, int(port)), timeout=_REACH_S).close()
        except OSError as error:
            raise NotThere(f"no Ray cluster answers at {address}: {error}") from None


def _check_fit(cpus: int, gpus: int) -> None:
    """Raise HarnessError where no node has so many: tasks would wait for ever."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    there = [(int(node.get("CPU", 0)), int(node.get("GPU", 0))) for node in nodes]
    if not any(cpu >= cpus and gpu >= gpus for cpu, gpu in there):
        found = ", ".join(f"{cpu} and {gpu}" for cpu, gpu in there)
        raise HarnessError(
            f"a training needs {cpus} CPUs (train.threads) and {gpus} GPUs on one node; the nodes have {found}"
        )
