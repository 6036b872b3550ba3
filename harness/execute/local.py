"""Local worker processes: each job gets a fresh one, forked from a server that has torch imported already."""

from __future__ import annotations

import math
import signal
import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing import forkserver, get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess

from harness.execute.ahead import ahead
from harness.execute.job import Job
from harness.records import Failed, Finished, Record, Started, now
from harness.stopping import Stopped, unheard

_PRELOAD = ["harness.execute.worker", "sklearn.datasets"]


@dataclass
class _Running:
    job: Job
    device: str
    process: BaseProcess
    deadline: float
    """When what it does at the moment has taken too long, by the monotonic clock."""
    late_ms: float = math.inf
    """The same by the clock of its records: it may have more to say than is heard in time."""
    begun: set[str] = field(default_factory=set)
    ended: set[str] = field(default_factory=set)
    current: str = ""
    """Digest of the training that it does at the moment."""

    @property
    def left(self) -> Job:
        """What it has not begun."""
        return self.job.without(self.begun)


class LocalExecutor:
    """Runs as many jobs at a time as it has places. Its processes die with the process that made it."""

    def __init__(self, places: Sequence[str]) -> None:
        """`places` names a device for each job that may run at a time; one that is named twice is shared."""
        self._places = tuple(places)
        self._stopped = False
        self._running: dict[Connection, _Running] = {}
        self._waiting: deque[Job] = deque()
        self._context: ForkServerContext = get_context("forkserver")
        self._context.set_forkserver_preload(_PRELOAD)
        with unheard(signal.SIGINT):  # for its children too: Ctrl-C is for this process, which ends them itself
            forkserver.ensure_running()  # it imports torch while this process goes on

    @property
    def places(self) -> int:
        """Jobs that may run at a time."""
        return len(self._places)

    def run(self, jobs: Sequence[Job], alone: bool = False) -> Iterator[Record]:
        """Yield the records of all jobs as they come.

        A process that dies leaves Failed for what it had begun and not ended; another one begins the rest.
        """
        closing, close = self._context.Pipe(duplex=False)
        with closing, close:
            yield from ahead(self._records(jobs, alone, closing), lambda: close.send(None))

    def _records(self, jobs: Sequence[Job], alone: bool, closing: Connection) -> Generator[Record]:
        """Yield the records, until there is something to read from `closing`."""
        self._waiting = waiting = deque(jobs)
        running = self._running
        free = deque(dict.fromkeys(self._places) if alone else self._places)
        try:
            while waiting or running:
                while waiting and free and not self._stopped:
                    connection, started = self._start(waiting.popleft(), free.popleft())
                    running[connection] = started
                    if self._stopped:  # since it was asked, by another thread
                        _tell_to_stop(connection)
                if not running:
                    raise Stopped
                soonest = min(each.deadline for each in running.values())
                patience = None if soonest == math.inf else max(0.0, soonest - time.monotonic())
                ready = wait([closing, *running], patience)
                if closing in ready:
                    return
                for heard in ready:
                    assert isinstance(heard, Connection)
                    yield from self._read(heard, free)
                # What has something to say is heard first: it may have ended in time.
                for connection in [c for c, each in running.items() if each.deadline < time.monotonic()]:
                    if connection not in ready:
                        yield from self._end_late(connection, free)
        finally:
            for left in running.values():
                left.process.kill()
                left.process.join()
            running.clear()

    def stop(self) -> int:
        """Let no other training begin; returns how many run."""
        self._stopped = True
        running = {**self._running}
        for connection in running:
            _tell_to_stop(connection)
        return sum(max(1, len(each.begun - each.ended)) for each in running.values())

    def _start(self, job: Job, device: str) -> tuple[Connection, _Running]:
        from harness.execute.worker import serve

        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=serve, args=(job, device, theirs), daemon=True)
        process.start()
        theirs.close()
        return ours, _Running(job, device, process, _deadline(job))

    def _read(self, connection: Connection, free: deque[str]) -> Iterator[Record]:
        current = self._running[connection]
        try:
            record: Record = connection.recv()
        except (EOFError, OSError):  # OSError: it died in the middle of a record
            yield from self._lost(connection, free)
            return
        if isinstance(record, Started):
            current.begun.add(record.digest)
            current.current, current.deadline = record.digest, _deadline(current.job)
            current.late_ms = record.timestamp + 1000 * (current.job.time_limit_s or math.inf)
        elif isinstance(record, Finished | Failed):
            current.ended.add(record.digest)
            current.deadline = math.inf
        elif record.timestamp > current.late_ms:
            yield from self._end_late(connection, free)
            return
        yield record

    def _end_late(self, connection: Connection, free: deque[str]) -> Iterator[Failed]:
        """End a process whose training takes too long; the others of its job were only killed with it."""
        late = self._running[connection]
        late.process.kill()
        if not late.current:  # before its first word: the others of its job have another chance
            late.current = late.job.trainings[0].digest
            late.begun.add(late.current)
        limit = f"it took longer than the {late.job.time_limit_s:g} s of time_limit_s"
        for failed in self._lost(connection, free):
            yield replace(failed, kind="timeout", reason=limit) if failed.digest == late.current else failed

    def _lost(self, connection: Connection, free: deque[str]) -> Iterator[Failed]:
        """Take leave of a process that has ended, or is being killed; what it had begun and not ended has failed.

        What it had not begun waits for another process, unless it died before it began anything.
        """
        gone = self._running.pop(connection)
        gone.process.join()
        connection.close()
        free.append(gone.device)
        reason = f"the worker process ended with {_describe(gone.process.exitcode or 0)}"
        if gone.job.probe:
            if gone.process.exitcode != 0:  # it ended before it was done
                yield Failed(gone.job.trainings[0].digest, now(), "killed", reason)
            return
        if gone.begun and gone.left.trainings:
            self._waiting.appendleft(gone.left)
        for training in gone.job.trainings:
            if training.digest not in gone.ended and (training.digest in gone.begun or not gone.begun):
                yield Failed(training.digest, now(), "killed", reason)


def _tell_to_stop(connection: Connection) -> None:
    with suppress(OSError):  # it has just ended
        connection.send("stop")


def _deadline(job: Job) -> float:
    return math.inf if job.time_limit_s is None or job.probe else time.monotonic() + job.time_limit_s


def _describe(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
