"""The executor for debugging: everything in this process, with the same bits."""

from collections.abc import Iterator, Sequence

from harness.execute.job import Job
from harness.execute.worker import perform
from harness.records import Record


class InlineExecutor:
    """Runs jobs one after another where it is called."""

    def run(self, jobs: Sequence[Job]) -> Iterator[Record]:
        """Yield the records of all jobs."""
        for job in jobs:
            yield from perform(job)
