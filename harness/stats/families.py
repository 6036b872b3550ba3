"""Several contrasts claimed at once: Holm's procedure, simultaneous intervals that agree with it, claims."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student

from harness.stats.differences import alike, checked
from harness.stats.intervals import LEVEL


@dataclass(frozen=True)
class Family:
    """Open simultaneous intervals of m contrasts, adjusted two-sided p [..., m]; NaN for a contrast without spread.

    A bound of exactly 0 leaves 0 out: Holm rejects there, and can say the sign but no more.
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    p_holm: NDArray[np.float64]


def holm(p: ArrayLike) -> NDArray[np.float64]:
    """Return p [..., m] adjusted by Holm's step-down procedure (1979, Scandinavian Journal of Statistics 6:65-70)."""
    p = np.asarray(p, dtype=float)
    order = np.argsort(p, axis=-1)
    steps = np.take_along_axis(p, order, axis=-1) * np.arange(p.shape[-1], 0, -1)
    adjusted = np.minimum(np.maximum.accumulate(steps, axis=-1), 1)
    return np.take_along_axis(adjusted, np.argsort(order, axis=-1), axis=-1)


def simultaneous(samples: Iterable[ArrayLike], level: float = LEVEL) -> Family:
    """Return the family of the means of m samples of paired differences, each [n] with an n of its own.

    One without spread (no pair or one, or all alike) is never rejected and counts in m. Raises ValueError for NaN.
    """
    means, errors, freedom = [], [], []
    for sample in samples:
        d = checked(sample) if np.size(sample) else np.array([np.nan])
        means.append(d.mean())
        errors.append(np.nan if alike(d) else d.std(ddof=1) / len(d) ** 0.5)
        freedom.append(max(len(d) - 1, 1))
    return family(np.array(means), np.array(errors), np.array(freedom), level)


def family(mean: NDArray[np.float64], error: NDArray[np.float64], df: NDArray[np.int_], level: float = LEVEL) -> Family:
    """Return intervals of effects [..., m] that are all true at once with probability `level`.

    `mean`, its standard `error` (NaN: not known) and degrees of freedom `df` are those of one-sample t; no independence
    of the effects is asked for. Two one-sided families, "effect <= 0" and "effect >= 0", each by Holm at half of
    1 - level; the bounds are those compatible with Holm (Strassburger and Bretz 2008, doi 10.1002/sim.3338). With r of
    m rejected, an effect not rejected has its own bound at a share 1 / (m - r) of the error; one rejected has 0 or,
    where all are, its own bound at 1 / m if that is beyond 0. So a bound reaches 0 exactly where Holm rejects.
    """
    up, low = _one_sided(mean, error, df, (1 - level) / 2)
    down, turned = _one_sided(-mean, error, df, (1 - level) / 2)
    p_holm = np.minimum(2 * np.minimum(up, down), 1)
    return Family(low, 0 - turned, np.where(np.isnan(error), np.nan, p_holm))


def _one_sided(
    mean: NDArray[np.float64], error: NDArray[np.float64], df: NDArray[np.int_], alpha: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return Holm's p of "effect <= 0" and the lower bounds that agree with it; an error of NaN is never rejected."""
    adjusted = holm(np.nan_to_num(student.sf(mean / error, df), nan=1.0))
    rejected = adjusted <= alpha
    kept = (~rejected).sum(axis=-1, keepdims=True)
    own = mean - student.isf(alpha / np.where(kept, kept, max(mean.shape[-1], 1)), df) * error
    return adjusted, np.where(rejected, np.where(kept, 0, np.maximum(own, 0)), own)


def claim(low: float, high: float, bound: float = 0.0) -> str:
    """Return what an open simultaneous interval says of an effect; `bound` is the largest that makes no difference.

    NaN bounds say nothing. Equivalence goes first: an effect that is surely above 0 and surely below `bound` is one
    that makes no difference.
    """
    if -bound < low and high < bound:
        return "makes no difference"
    if low >= 0:
        return "helps"
    if high <= 0:
        return "hurts"
    return "no evidence"
