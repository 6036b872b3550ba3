"""Trying again what another attempt may mend, and giving up on what none will."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace

from harness.errors import SameError
from harness.execute import Executor
from harness.execute.job import Job
from harness.records import Failed, FailureKind, Record, Retried
from harness.stopping import Stopped

RETRIES: Mapping[FailureKind, int] = {"killed": 2, "out_of_memory": 1}
"""How often a training is tried again after each kind of failure; all others would come again."""


class Retrying:
    """An executor that hands jobs to another one, and once those have ended what failed, each alone on its device."""

    def __init__(self, executor: Executor, same_error_limit: int | None) -> None:
        """`same_error_limit` is the number of trainings after which an error ends it all; None goes on."""
        self._executor, self._limit = executor, same_error_limit
        self._failures: Counter[tuple[str, FailureKind]] = Counter()
        self._broken: dict[tuple[str, ...], set[str]] = defaultdict(set)
        """Digests of the trainings that each error ended."""
        self._given_up = ""

    @property
    def places(self) -> int:
        """Those of the other one."""
        return self._executor.places

    def run(self, jobs: Sequence[Job], alone: bool = False) -> Iterator[Record]:
        """Yield the records of all jobs; raises SameError once what runs has ended, where jobs are left."""
        while jobs:
            job_of = {training.digest: job for job in jobs for training in job.trainings}
            again: list[Job] = []
            try:
                with closing(self._executor.run(jobs, alone)) as records:  # type: ignore[type-var]
                    for record in records:
                        if isinstance(record, Failed) and self._may_mend(record):
                            job = job_of[record.digest]
                            own = tuple(t for t in job.trainings if t.digest == record.digest)
                            again.append(job if job.probe else replace(job, trainings=own))
                            yield Retried(record.digest, record.timestamp, record.kind, record.reason)
                        else:
                            self._count(record)
                            yield record
            except Stopped:
                if self._given_up:
                    raise SameError(self._given_up) from None
                raise
            jobs, alone = again, True

    def stop(self) -> int:
        """Let no other training begin, and return how many run."""
        return self._executor.stop()

    def _may_mend(self, failed: Failed) -> bool:
        self._failures[failed.digest, failed.kind] += 1
        return self._failures[failed.digest, failed.kind] <= RETRIES.get(failed.kind, 0)

    def _count(self, record: Record) -> None:
        if not isinstance(record, Failed) or record.kind != "error" or self._limit is None:
            return
        broken = self._broken[_where(record)]
        broken.add(record.digest)
        if len(broken) >= self._limit and not self._given_up:
            self._given_up = f"one error ended {len(broken)} trainings, so no other was begun: {record.reason}"
            self._executor.stop()


def _where(failed: Failed) -> tuple[str, ...]:
    """Return the lines of code that a traceback goes through, and the error's type: its message may name a shape."""
    frames = (line.strip() for line in failed.traceback.splitlines() if line.startswith('  File "'))
    return failed.reason.partition(":")[0], *frames
