from math import cos, pi
from typing import Any

import pytest

from harness.freezing.resolve import Group, ResolvedPhase
from harness.schedule import lr_factors, phase_steps
from harness.spec import StepDecay
from harness.tricks.cosine import CosineDecay
from harness.tricks.warmup import LinearWarmup

CONSTANT = StepDecay(milestones=())


def phase(start: float, restart: bool = False) -> ResolvedPhase:
    return ResolvedPhase(start, (Group(("fc.weight",), 0.0, 1.0),), (), restart)


ONE = [phase(0.0)]


def test_without_warmup_or_decay_the_rate_stays():
    assert lr_factors(ONE, [], CONSTANT, epochs=3, steps_per_epoch=4) == [1.0] * 12


def test_warmup_is_i_over_m_at_batch_i():
    factors = lr_factors(ONE, [LinearWarmup(2)], CONSTANT, epochs=4, steps_per_epoch=5)
    assert factors == [i / 10 for i in range(1, 11)] + [1.0] * 10


def test_warmup_of_a_part_of_an_epoch():
    factors = lr_factors(ONE, [LinearWarmup(0.5)], CONSTANT, epochs=1, steps_per_epoch=8)
    assert factors == [0.25, 0.5, 0.75, 1.0] + [1.0] * 4


def test_step_decay_is_a_tenth_at_each_milestone():
    """He et al. 2018, §2.1: at epochs 30, 60 and 90 of 120."""
    factors = lr_factors(ONE, [], StepDecay(), epochs=120, steps_per_epoch=2)
    expected = [1.0] * 60 + [0.1] * 60 + [0.01] * 60 + [0.001] * 60
    assert factors == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("milestone", [0.1, 0.3, 0.6, 0.7])
def test_step_decay_falls_at_the_very_step_of_its_milestone(milestone):
    factors = lr_factors(ONE, [], StepDecay(milestones=(milestone,), factor=0.5), epochs=10, steps_per_epoch=1)
    at = round(milestone * 10)
    assert factors == [1.0] * at + [0.5] * (10 - at)


def test_cosine_is_half_a_cosine_over_all_steps():
    factors = lr_factors(ONE, [], CosineDecay(), epochs=5, steps_per_epoch=4)
    assert factors == pytest.approx([0.5 * (1 + cos(pi * t / 20)) for t in range(20)], rel=1e-12)
    assert factors[0] == 1.0
    assert factors[-1] > 0


def test_cosine_counts_its_steps_from_the_end_of_warmup():
    factors = lr_factors(ONE, [LinearWarmup(2)], CosineDecay(), epochs=5, steps_per_epoch=4)
    ramp = [i / 8 for i in range(1, 9)]
    assert factors == pytest.approx(ramp + [0.5 * (1 + cos(pi * t / 12)) for t in range(12)], rel=1e-12)


def test_warmup_and_step_decay_multiply():
    """Steps fall where they fall, warmup or not."""
    decay = StepDecay(milestones=(0.25,), factor=0.1)
    factors = lr_factors(ONE, [LinearWarmup(1)], decay, epochs=2, steps_per_epoch=4)
    assert factors == pytest.approx([0.25, 0.5, 0.1 * 0.75, 0.1, 0.1, 0.1, 0.1, 0.1], rel=1e-12)


def test_two_warmups_multiply_and_the_longer_one_decides_where_decay_begins():
    factors = lr_factors(ONE, [LinearWarmup(1), LinearWarmup(2)], CosineDecay(), epochs=3, steps_per_epoch=2)
    cosine = [0.5 * (1 + cos(pi * t / 2)) for t in range(2)]
    assert factors == pytest.approx([1 / 2 * 1 / 4, 1 * 2 / 4, 3 / 4, 1, *cosine], rel=1e-12)


@pytest.mark.parametrize("epochs", [1, 2])
@pytest.mark.parametrize("decay", [CONSTANT, CosineDecay()], ids=["constant", "cosine"])
def test_a_warmup_as_long_as_the_schedule_or_longer_is_refused(epochs, decay):
    with pytest.raises(ValueError, match=f"^a warmup of {4 * epochs} steps leaves nothing of a schedule of 4$"):
        lr_factors(ONE, [LinearWarmup(epochs)], decay, epochs=1, steps_per_epoch=4)


def test_a_warmup_up_to_the_last_step_but_one_is_all_ramp_and_then_one_step():
    factors = lr_factors(ONE, [LinearWarmup(0.75)], CosineDecay(), epochs=1, steps_per_epoch=4)
    assert factors == pytest.approx([1 / 3, 2 / 3, 1, 1], rel=1e-12)


def test_a_warmup_as_long_as_one_of_several_schedules_is_refused():
    for start, length in ((0.25, 2), (0.75, 2)):
        with pytest.raises(ValueError, match=f"^a warmup of 2 steps leaves nothing of a schedule of {length}$"):
            lr_factors([phase(0.0), phase(start, restart=True)], [LinearWarmup(1)], CONSTANT, 4, 2)
    # Where the schedule goes on, a short phase is no short schedule.
    assert len(lr_factors([phase(0.0), phase(0.75)], [LinearWarmup(1)], CONSTANT, 4, 2)) == 8


def test_a_phase_that_does_not_restart_the_schedule_changes_nothing():
    settings: dict[str, Any] = {"warmups": [LinearWarmup(1)], "decay": CosineDecay(), "epochs": 4, "steps_per_epoch": 3}
    assert lr_factors([phase(0.0), phase(0.5)], **settings) == lr_factors(ONE, **settings)


def test_a_restart_begins_a_schedule_of_its_own_warmup_included():
    factors = lr_factors([phase(0.0), phase(0.4, restart=True)], [LinearWarmup(1)], CosineDecay(), 5, 2)
    first = [1 / 2, 1, *(0.5 * (1 + cos(pi * t / 2)) for t in range(2))]
    second = [1 / 2, 1, *(0.5 * (1 + cos(pi * t / 4)) for t in range(4))]
    assert factors == pytest.approx(first + second, rel=1e-12)


def test_milestones_of_a_restarted_schedule_are_fractions_of_it():
    factors = lr_factors([phase(0.0), phase(0.5, restart=True)], [], StepDecay(milestones=(0.5,)), 8, 1)
    assert factors == pytest.approx([1, 1, 0.1, 0.1, 1, 1, 0.1, 0.1], rel=1e-12)


def test_a_schedule_spans_the_phases_up_to_the_next_restart():
    phases = [phase(0.0), phase(0.25), phase(0.5, restart=True), phase(0.75)]
    factors = lr_factors(phases, [], CosineDecay(), epochs=8, steps_per_epoch=1)
    assert factors == pytest.approx(2 * [0.5 * (1 + cos(pi * t / 4)) for t in range(4)], rel=1e-12)


def test_phases_begin_at_the_nearest_step():
    assert phase_steps([phase(0.0), phase(0.34), phase(0.66)], 10) == [0, 3, 7]


@pytest.mark.parametrize(
    ("starts", "steps"),
    [((0.0, 0.1), 4), ((0.0, 0.5, 0.6), 4), ((0.0, 0.99), 10), ((0.0,), 0)],
    ids=["no step for the first", "two at one step", "no step for the last", "no steps at all"],
)
def test_a_phase_that_would_never_train_is_refused(starts, steps):
    with pytest.raises(ValueError, match=rf"{steps} steps are too few for phases that start at \[0.0"):
        phase_steps([phase(start) for start in starts], steps)
