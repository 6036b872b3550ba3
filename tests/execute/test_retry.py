"""Which failures are tried again, how, and when a grid is given up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import SameError
from harness.execute.job import Job
from harness.execute.retry import Retrying
from harness.records import Failed, FailureKind, Finished, Record, Retried, Started
from harness.stopping import Stopped
from harness.training import Training
from tests.samples import finished
from tests.watching import two_steps

A, B, C, D, E = (replace(two_steps(), seed=seed) for seed in range(5))


class Scripted:
    """An executor whose trainings end as they are told to, attempt after attempt, and finish in the end."""

    def __init__(self, ends: dict[str, list[tuple[FailureKind, str, str]]]) -> None:
        self._ends = ends
        self.waves: list[tuple[list[str], bool]] = []
        self.stopped = False

    places = 1

    def run(self, jobs: Sequence[Job], alone: bool = False) -> Iterator[Record]:
        self.waves.append(([training.digest for job in jobs for training in job.trainings], alone))
        for job in jobs:
            if self.stopped:
                raise Stopped
            for training in job.trainings:
                yield Started(training.digest, 0, "CPU")
                ends = self._ends.get(training.digest)
                yield Failed(training.digest, 0, *ends.pop(0)) if ends else finished(training.digest)

    def stop(self) -> int:
        self.stopped = True
        return 7


def jobs(*trainings: Training) -> list[Job]:
    return [Job((training,), Path()) for training in trainings]


KILLED: tuple[FailureKind, str, str] = ("killed", "signal SIGKILL", "")
NO_MEMORY: tuple[FailureKind, str, str] = ("out_of_memory", "OutOfMemoryError: 3 GiB", "")


def ended(records: list[Record], training: Training) -> list[type]:
    return [type(r) for r in records if r.digest == training.digest and not isinstance(r, Started)]


def test_what_was_killed_or_had_no_memory_is_tried_again_alone_once_the_rest_is_done() -> None:
    executor = Scripted({A.digest: [KILLED], B.digest: [NO_MEMORY]})
    records = list(Retrying(executor, 3).run(jobs(A, B, C)))
    assert executor.waves == [([A.digest, B.digest, C.digest], False), ([A.digest, B.digest], True)]
    assert [r for r in records if isinstance(r, Retried)] == [
        Retried(A.digest, 0, "killed", "signal SIGKILL"),
        Retried(B.digest, 0, "out_of_memory", "OutOfMemoryError: 3 GiB"),
    ]
    assert ended(records, A) == ended(records, B) == [Retried, Finished]
    assert ended(records, C) == [Finished]


@pytest.mark.parametrize(
    ("end", "attempts"),
    [
        (KILLED, 3),
        (NO_MEMORY, 2),
        (("disk_full", "OSError: no space", ""), 1),
        (("diverged", "training loss is nan", ""), 1),
        (("error", "ValueError: x", ""), 1),
        (("freeze_violation", "conv1.weight moved", ""), 1),
        (("timeout", "longer than 1 s", ""), 1),
    ],
)
def test_each_kind_of_failure_has_so_many_attempts(end: tuple[FailureKind, str, str], attempts: int) -> None:
    executor = Scripted({A.digest: [end] * 9})
    records = list(Retrying(executor, None).run(jobs(A)))
    assert len(executor.waves) == attempts
    assert ended(records, A) == [Retried] * (attempts - 1) + [Failed]


def test_one_kind_of_failure_does_not_count_for_another() -> None:
    records = list(Retrying(Scripted({A.digest: [NO_MEMORY, KILLED, KILLED]}), 3).run(jobs(A)))
    assert ended(records, A) == [Retried, Retried, Retried, Finished]


def test_of_a_job_only_the_training_that_failed_is_tried_again() -> None:
    executor = Scripted({B.digest: [KILLED]})
    list(Retrying(executor, 3).run([Job((A, B, C), Path())]))
    assert executor.waves[1] == ([B.digest], True)


TRACE = 'Traceback (most recent call last):\n  File "a.py", line 3, in f\n    f(x)\nValueError: shape [{}, 3]\n'


def broken(size: int, trace: str = TRACE) -> list[tuple[FailureKind, str, str]]:
    return [("error", f"ValueError: shape [{size}, 3]", trace.format(size))]


def test_one_error_three_times_ends_it_after_what_runs() -> None:
    executor = Scripted({t.digest: broken(size) for size, t in enumerate((A, B, C, D))})
    records: list[Record] = []
    run = Retrying(executor, 3).run(jobs(A, B, C, D, E))
    with pytest.raises(
        SameError, match=r"one error ended 3 trainings, so no other was begun: ValueError: shape \[2, 3\]"
    ):
        records.extend(run)
    assert executor.stopped


def test_what_was_already_running_is_heard_to_its_end() -> None:
    executor = Scripted({t.digest: broken(0) for t in (A, B, C)})
    assert ended(list(Retrying(executor, 3).run([Job((A, B, C, D), Path())])), D) == [Finished]


def test_errors_elsewhere_in_the_code_are_others() -> None:
    ends = {t.digest: broken(0, TRACE.replace("line 3", f"line {n}")) for n, t in enumerate((A, B, C))}
    assert len(ended(list(Retrying(Scripted(ends), 3).run(jobs(A, B, C, D))), D)) == 1


def test_one_training_that_fails_again_and_again_is_one() -> None:
    executor = Scripted({A.digest: [*broken(0), *broken(0), *broken(0)]})
    retrying = Retrying(executor, 3)
    for _ in range(3):
        assert ended(list(retrying.run(jobs(A, B))), B) == [Finished]


@pytest.mark.parametrize("limit", [None, 4])
def test_the_limit_is_the_users(limit: int | None) -> None:
    ends = {t.digest: broken(0) for t in (A, B, C)}
    assert ended(list(Retrying(Scripted(ends), limit).run(jobs(A, B, C, D))), D) == [Finished]


def test_told_to_stop_it_tries_nothing_again() -> None:
    executor = Scripted({A.digest: [KILLED]})
    retrying, records = Retrying(executor, 3), []
    with pytest.raises(Stopped):  # noqa: PT012
        for record in retrying.run(jobs(A)):
            records.append(record)
            assert retrying.stop() == 7
    assert ended(records, A) == [Retried]
