"""Executors: where jobs run. Each takes jobs and yields their records; none knows what becomes of them."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from harness.execute.job import Job
from harness.records import Record


class Executor(Protocol):
    """Runs jobs."""

    @property
    def places(self) -> int:
        """Jobs that may run at a time."""

    def run(self, jobs: Sequence[Job], alone: bool = False) -> Iterator[Record]:
        """Yield the records of all jobs as they come; every training of a job ends in Finished or Failed.

        A probe that is lost ends in a single Failed, of its first training.

        With `alone` each job has a whole device to itself.
        Raises Stopped, once what runs has ended, where `stop` was called and jobs are left.
        """

    def stop(self) -> int:
        """Let no other training begin, and return how many run at the moment; may be called by a signal's handler."""
