"""The executor for debugging: everything in this process, with the same bits."""

from collections.abc import Iterator, Sequence

from harness.execute.job import Job
from harness.execute.worker import perform
from harness.records import Record
from harness.stopping import Stopped


class InlineExecutor:
    """Runs jobs one after another where it is called."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._stopped, self._running = False, 0

    def run(self, jobs: Sequence[Job], alone: bool = False) -> Iterator[Record]:
        """Yield the records of all jobs."""
        del alone  # they always are
        for job in jobs:
            if self._stopped:
                raise Stopped
            self._running = 1
            try:
                yield from perform(job, self._device)
            finally:
                self._running = 0

    def stop(self) -> int:
        """Begin no other job; returns whether one runs."""
        self._stopped = True
        return self._running
