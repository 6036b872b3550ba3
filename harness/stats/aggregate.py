"""One number over several data sets, as Agarwal et al. 2021 (arXiv 2108.13264) have it."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import trim_mean

from harness.stats.differences import checked
from harness.stats.intervals import LEVEL, Interval

Statistic = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Maps scores [..., runs of all data sets] to [...]."""


def iqm(scores: ArrayLike) -> NDArray[np.float64]:
    """Return the interquartile mean of scores [..., n]: that of the middle half, a quarter cut off on either side."""
    return np.asarray(trim_mean(scores, 0.25, axis=-1))


def stratified_bootstrap(
    scores: Sequence[ArrayLike],
    statistic: Statistic,
    generator: np.random.Generator,
    level: float = LEVEL,
    resamples: int = 9999,
    against: Sequence[ArrayLike] | None = None,
) -> Interval:
    """Return a statistic of all scores with its percentile interval; `scores` has one array [runs] a data set.

    Runs are drawn anew within each data set, so the interval covers other runs on these data sets, not other data sets.
    With `against`, the same runs of another cell, the pairs are drawn and the statistic's difference is returned. A
    data set with more runs weighs more. Raises ValueError for a data set of fewer than two runs, or unpaired ones.
    """
    sides = [[checked(runs) for runs in side] for side in (scores, against) if side is not None]
    sizes = [len(runs) for runs in sides[0]]
    if not sizes or min(sizes) < 2:
        raise ValueError(f"runs a data set: {sizes}; a bootstrap needs data sets of two or more")
    if [len(runs) for runs in sides[-1]] != sizes:
        raise ValueError(f"runs a data set: {sizes} against {[len(runs) for runs in sides[-1]]}; pairs are needed")
    drawn = [generator.integers(n, size=(resamples, n)) for n in sizes]
    estimate = np.subtract(*_both(statistic, sides, [np.arange(n) for n in sizes]))
    low, high = np.quantile(np.subtract(*_both(statistic, sides, drawn)), [(1 - level) / 2, (1 + level) / 2])
    return Interval(sum(sizes), float(estimate), float(low), float(high))


def _both(
    statistic: Statistic, sides: list[list[NDArray[np.float64]]], drawn: list[NDArray[np.int_]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the statistic of the drawn runs, and that of what it stands against: 0 for nothing."""
    values = [
        statistic(np.concatenate([runs[rows] for runs, rows in zip(side, drawn, strict=True)], axis=-1))
        for side in sides
    ]
    return values[0], values[1] if len(values) > 1 else np.zeros_like(values[0])
