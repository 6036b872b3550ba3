"""The learning-rate factor of every step, worked out before training: pure arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from harness.freezing.resolve import ResolvedPhase
from harness.recipe import Decay, Warmup

if TYPE_CHECKING:
    from harness.training import Training


def phase_steps(phases: Sequence[ResolvedPhase], total_steps: int) -> list[int]:
    """Return the step at which each phase begins.

    Raises ValueError where two phases begin at one step, so that one would never train.
    """
    begins = [round(phase.start * total_steps) for phase in phases]
    if len(set(begins)) < len(begins) or begins[-1] >= total_steps:
        raise ValueError(f"{total_steps} steps are too few for phases that start at {[p.start for p in phases]}")
    return begins


def phase_ends(phases: Sequence[ResolvedPhase]) -> list[float]:
    """Return the share of training at which each phase ends."""
    return [*(phase.start for phase in phases[1:]), 1.0]


def phase_numbers(training: Training, steps_per_epoch: int) -> list[int]:
    """Return the number of the phase that each step of a training is in."""
    total = training.train.epochs * steps_per_epoch
    ends = [*phase_steps(training.phases, total)[1:], total]
    return [number for number, end in enumerate(ends) for _ in range(ends[number - 1] if number else 0, end)]


def learning_rates(training: Training, steps_per_epoch: int) -> tuple[float, ...]:
    """Return the learning rate at each step of a training, before the factors of its parameter groups."""
    train, recipe = training.train, training.recipe
    schedule = tuple(ResolvedPhase(phase.start, (), (), phase.restart_schedule) for phase in training.phases)
    decay: Any = recipe.decay or train.decay  # plain data, as all of a recipe
    return _rates(schedule, recipe.warmups, decay, train.epochs, train.lr, steps_per_epoch)


@lru_cache(maxsize=64)
def _rates(
    schedule: tuple[ResolvedPhase, ...],
    warmups: tuple[Warmup, ...],
    decay: Decay,
    epochs: int,
    lr: float,
    steps_per_epoch: int,
) -> tuple[float, ...]:
    """Return them for all seeds and policies on the same schedule, worked out once."""
    return tuple(lr * factor for factor in lr_factors(schedule, warmups, decay, epochs, steps_per_epoch))


def lr_factors(
    phases: Sequence[ResolvedPhase],
    warmups: Sequence[Warmup],
    decay: Decay,
    epochs: int,
    steps_per_epoch: int,
) -> list[float]:
    """Return the factor on the base learning rate at each step: warmups × decay.

    Each phase that restarts the schedule begins a new one, which spans the steps up to the next restart. Raises
    ValueError where a warmup leaves nothing of a schedule, and where a phase has no step.
    """
    total = epochs * steps_per_epoch
    begins = phase_steps(phases, total)
    restarts = [b for b, phase in zip(begins, phases, strict=True) if b == 0 or phase.restart_schedule]
    factors: list[float] = []
    for begin, end in zip(restarts, [*restarts[1:], total], strict=True):
        length = end - begin
        ramp = max((warmup.steps(steps_per_epoch) for warmup in warmups), default=0)
        if ramp >= length:
            raise ValueError(f"a warmup of {ramp} steps leaves nothing of a schedule of {length}")
        for step in range(length):
            factor = 1.0
            for warmup in warmups:
                factor *= warmup(step, steps_per_epoch)
            factors.append(factor * (decay(step / length, ramp / length)))
    return factors
