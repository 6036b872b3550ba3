"""The executor for debugging: everything in this process, with the same bits."""

from collections.abc import Iterator, Sequence

from harness.execute.job import Job
from harness.execute.worker import perform
from harness.records import Failed, Finished, Record
from harness.stopping import Stopped


class InlineExecutor:
    """Runs jobs one after another where it is called."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._stopped, self._running = False, 0

    @property
    def places(self) -> int:
        """One."""
        return 1

    def run(self, jobs: Sequence[Job], alone: bool = False) -> Iterator[Record]:
        """Yield the records of all jobs."""
        del alone  # they always are
        for job in jobs:
            if self._stopped:
                raise Stopped
            ended = set()
            self._running = 1
            try:
                for record in perform(job, self._device, lambda: self._stopped):
                    if isinstance(record, Finished | Failed):
                        ended.add(record.digest)
                    yield record
            finally:
                self._running = 0
            if not job.probe and job.without(ended).trainings:
                raise Stopped

    def stop(self) -> int:
        """Begin no other training; returns whether one runs."""
        self._stopped = True
        return self._running
