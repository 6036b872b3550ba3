"""Local worker processes: each job gets a fresh one, forked from a server that has torch imported already."""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing import forkserver, get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess

from harness.execute.job import Job
from harness.records import Failed, Finished, Record
from harness.stopping import Stopped
from harness.train import now

_PRELOAD = ["harness.execute.worker", "sklearn.datasets"]


@dataclass
class _Running:
    job: Job
    device: str
    process: BaseProcess
    ended: set[str] = field(default_factory=set)


class LocalExecutor:
    """Runs as many jobs at a time as it has places. Its processes die with the process that made it."""

    def __init__(self, places: Sequence[str]) -> None:
        """`places` names a device for each job that may run at a time; one that is named twice is shared."""
        self._places = tuple(places)
        self._stopped = False
        self._running: dict[Connection, _Running] = {}
        self._context: ForkServerContext = get_context("forkserver")
        self._context.set_forkserver_preload(_PRELOAD)
        forkserver.ensure_running()  # it imports torch while this process goes on

    def run(self, jobs: Sequence[Job], alone: bool = False) -> Iterator[Record]:
        """Yield the records of all jobs as they come; a process that dies leaves Failed for what it had not ended."""
        waiting, running = deque(jobs), self._running
        places = dict.fromkeys(self._places) if alone else self._places
        free = deque(places)
        try:
            while waiting or running:
                while waiting and free and not self._stopped:
                    connection, started = self._start(waiting.popleft(), free.popleft())
                    running[connection] = started
                if not running:
                    raise Stopped
                for ready in wait(list(running)):
                    assert isinstance(ready, Connection)
                    yield from self._read(ready, free)
        finally:
            for left in running.values():
                left.process.kill()
                left.process.join()
            running.clear()

    def stop(self) -> int:
        """Start no other process; returns how many run."""
        self._stopped = True
        return len(self._running)

    def _start(self, job: Job, device: str) -> tuple[Connection, _Running]:
        from harness.execute.worker import serve

        ours, theirs = self._context.Pipe(duplex=False)
        process = self._context.Process(target=serve, args=(job, device, theirs), daemon=True)
        process.start()
        theirs.close()
        return ours, _Running(job, device, process)

    def _read(self, connection: Connection, free: deque[str]) -> Iterator[Record]:
        current = self._running[connection]
        try:
            record: Record = connection.recv()
        except (EOFError, OSError):  # OSError: it died in the middle of a record
            current.process.join()
            connection.close()
            del self._running[connection]
            free.append(current.device)
            yield from _lost(current)
            return
        if isinstance(record, Finished | Failed):
            current.ended.add(record.digest)
        yield record


def _lost(running: _Running) -> Iterator[Failed]:
    if running.job.probe:
        return  # a cell without its probe has no figures of speed, and the report shows that
    code = running.process.exitcode or 0
    for training in running.job.trainings:
        if training.digest not in running.ended:
            yield Failed(training.digest, now(), "killed", f"the worker process ended with {_describe(code)}")


def _describe(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
