"""Several contrasts claimed at once: Holm's procedure, simultaneous intervals that agree with it, claims."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student

from harness.stats.differences import alike, checked
from harness.stats.intervals import LEVEL


@dataclass(frozen=True)
class Family:
    """Open simultaneous intervals of m contrasts [m], adjusted two-sided p [m]; NaN for a contrast without spread.

    A bound of exactly 0 leaves 0 out: Holm rejects there, and can say the sign but no more.
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    p_holm: NDArray[np.float64]


def holm(p: ArrayLike) -> NDArray[np.float64]:
    """Return p [m] adjusted by Holm's step-down procedure (1979, Scandinavian Journal of Statistics 6:65-70)."""
    p = np.asarray(p, dtype=float)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1)
    return adjusted


def simultaneous(samples: Sequence[ArrayLike], level: float = LEVEL) -> Family:
    """Return intervals for the means of m samples of differences, all true at once with probability `level`.

    Two one-sided families, "mean <= 0" and "mean >= 0", each by Holm at half of 1 - level on paired t; the bounds are
    those compatible with Holm (Strassburger and Bretz 2008, doi 10.1002/sim.3338; Guilbaud 2008,
    doi 10.1002/bimj.200710449). With r of m rejected, an effect not rejected has its own bound at a share 1 / (m - r)
    of the error; one rejected has 0, or, where all are, its own bound at 1 / m if that is beyond 0. So a bound reaches
    0 exactly where Holm rejects. No independence is asked for. Samples may differ in length; one without spread (n = 1,
    or all alike) is never rejected and counts in m. Raises ValueError as `paired_t`.
    """
    d = [checked(sample) for sample in samples]
    known = np.array([not alike(sample) for sample in d], dtype=bool)
    mean = np.array([sample.mean() for sample in d])
    df = np.array([max(len(sample) - 1, 1) for sample in d])
    spread = [sample.std(ddof=1) / len(sample) ** 0.5 if ok else np.nan for sample, ok in zip(d, known, strict=True)]
    error = np.array(spread, dtype=float)
    up, low = _one_sided(mean, error, df, (1 - level) / 2)
    down, turned = _one_sided(-mean, error, df, (1 - level) / 2)
    return Family(low, 0 - turned, np.where(known, np.minimum(2 * np.minimum(up, down), 1), np.nan))


def _one_sided(
    mean: NDArray[np.float64], error: NDArray[np.float64], df: NDArray[np.int_], alpha: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return Holm's p of "mean <= 0" and the lower bounds that agree with it; an error of NaN is never rejected."""
    adjusted = holm(np.nan_to_num(student.sf(mean / error, df), nan=1.0))
    rejected = adjusted <= alpha
    kept = len(mean) - int(rejected.sum())
    own = mean - student.isf(alpha / max(kept or len(mean), 1), df) * error
    return adjusted, np.where(rejected, 0.0 if kept else np.maximum(own, 0), own)


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
