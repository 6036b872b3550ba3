"""Which trainings make a job, and in which order jobs begin."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from harness.packing import Work, pack
from harness.spec import Augment
from harness.tricks.cosine import CosineTrick
from harness.tricks.label_smoothing import LabelSmoothingTrick
from harness.tricks.no_bias_decay import NoBiasDecayTrick
from tests.watching import two_steps

SETS: tuple[dict[str, Any], ...] = (
    {},
    {"cosine": CosineTrick()},
    {"label_smoothing": LabelSmoothingTrick()},
    {"no_bias_decay": NoBiasDecayTrick()},
)
SECONDS = {"full": 3.0, "bn_frozen_at_end": 2.9, "head": 1.0, "last_stage": 2.0}


def works(*policies: str, seeds: int = 2, seconds: dict[str, float] = SECONDS) -> dict[str, Work]:
    """Return the work of policies × trick sets × seeds by digest, seed by seed."""
    made = [
        (two_steps(tricks, policy, seed=seed, epochs=10, augment=Augment(flip=True)), seconds[policy])
        for seed in range(seeds)
        for policy in policies
        for tricks in SETS
    ]
    return {training.digest: Work(training, time, 2) for training, time in made}


@pytest.mark.parametrize("reuse", [True, False])
@pytest.mark.parametrize("places", [1, 2, 50])
def test_every_training_is_in_one_job(places: int, reuse: bool) -> None:
    work = works("full", "bn_frozen_at_end", "head", "last_stage")
    packed = [training.digest for job in pack([*work.values()], places, reuse) for training in job]
    assert sorted(packed) == sorted(work)


def test_seeds_come_one_after_another_and_the_longest_of_a_seed_first() -> None:
    work = works("head", "full", "last_stage", seeds=3)
    jobs = pack([*work.values()], 2, reuse=False)
    seeds = [job[0].seed for job in jobs]
    assert seeds == sorted(seeds)
    assert all(len({training.seed for training in job}) == 1 for job in jobs)
    for seed in range(3):
        times = [sum(work[t.digest].seconds for t in job) for job in jobs if job[0].seed == seed]
        assert all(longer >= shorter for longer, shorter in pairwise(times))


def test_what_has_leading_epochs_in_common_stays_together() -> None:
    work = [*works("full", "bn_frozen_at_end").values()]
    jobs = pack(work, 7, reuse=True)
    assert len(jobs) == 8
    for leader, follower in jobs:
        assert leader.recipe == follower.recipe
        assert leader.seed == follower.seed
    assert max(map(len, pack(work, 7, reuse=False))) == 1


def test_what_would_end_last_by_itself_is_parted_all_the_same() -> None:
    """Eight pairs on nine places: one of them would be idle while each pair goes on for longer than its share."""
    work = [*works("full", "bn_frozen_at_end").values()]
    assert {len(job) for job in pack(work, 9, reuse=True)} == {1}


def test_other_threads_are_another_process() -> None:
    """They change bits, and are those of a process."""
    work = [*works("full").values()]
    more = [
        replace(each, training=replace(each.training, train=each.training.train.model_copy(update={"threads": 2})))
        for each in work
    ]
    for job in pack([*work, *more], 1, reuse=True):
        assert len({training.train.threads for training in job}) == 1


def test_what_shares_frozen_stages_stands_together_after_what_takes_longer() -> None:
    """The head's four trainings take a fifth of the time that they would by themselves, and make one job."""
    jobs = pack([*works("full", "head", seeds=1, seconds={"full": 4.0, "head": 1.0}).values()], 1, reuse=True)
    assert [len(job) for job in jobs] == [1, 1, 1, 1, 4]
    assert all(len(training.phases[0].trainable) == 2 for training in jobs[-1])


def test_jobs_are_short_where_there_are_many_places_and_long_where_trainings_are_many() -> None:
    work = [*works("full", seeds=40).values()]
    assert {len(job) for job in pack(work, 1000, reuse=True)} == {1}
    assert max(len(job) for job in pack(work, 1, reuse=True)) == 4, "of one seed"
    total = sum(each.seconds for each in work)
    longest = max(sum(SECONDS["full"] for _ in job) for job in pack(work, 4, reuse=True))
    assert longest <= max(total / (16 * 4), SECONDS["full"])
