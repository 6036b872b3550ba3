"""What a family of claims can show with n pairs: effects in units of the standard deviation of the differences."""

import math

from scipy.optimize import brentq
from scipy.stats import nct
from scipy.stats import t as student

from harness.stats.intervals import LEVEL

POWER = 0.8
MOST_SEEDS = 10_000


def critical_effect(n: int, m: int = 1, level: float = LEVEL) -> float:
    """Return the least observed mean / sd of n pairs that Holm's first step of m contrasts claims; infinite for n < 2.

    Each direction has (1 - level) / 2 to spend on m contrasts, see `families.simultaneous`.
    """
    return float(student.isf((1 - level) / (2 * m), n - 1)) / n**0.5 if n > 1 else math.inf


def power_of(effect: float, n: int, m: int = 1, level: float = LEVEL) -> float:
    """Return the probability that n pairs claim a true mean / sd of `effect`, of its sign, at Holm's first step.

    It is that of a family whose other effects are none; others that are real can only raise it.
    """
    return float(nct.sf(critical_effect(n, m, level) * n**0.5, n - 1, abs(effect) * n**0.5)) if n > 1 else 0.0


def smallest_effect(n: int, m: int = 1, level: float = LEVEL, power: float = POWER) -> float:
    """Return the true mean / sd that n pairs claim with probability `power` in a family of m; infinite for n < 2."""
    if n < 2:
        return math.inf
    most = 2 * critical_effect(n, m, level)
    while power_of(most, n, m, level) < power:
        most *= 2
    return float(brentq(lambda effect: power_of(effect, n, m, level) - power, 0, most))


def seeds_needed(effect: float, m: int = 1, level: float = LEVEL, power: float = POWER) -> int | None:
    """Return how few pairs claim a true mean / sd of `effect` with probability `power`; None beyond `MOST_SEEDS`."""
    few, many = 1, MOST_SEEDS
    if power_of(effect, many, m, level) < power:
        return None
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if power_of(effect, middle, m, level) >= power else (middle, many)
    return many
