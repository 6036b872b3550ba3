"""Intervals for a mean of paired differences."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import bootstrap
from scipy.stats import t as student

from harness.stats.differences import alike, checked

LEVEL = 0.95
BCA_FROM = 20
"""Fewest differences for a BCa interval: with 10 it covers about 90 %, not 95 %; see CONTRIBUTING, "Statistics"."""


@dataclass(frozen=True)
class Interval:
    """A mean of n with an interval and the two-sided p of mean 0; NaN where n or the method does not allow one."""

    n: int
    estimate: float
    low: float = math.nan
    high: float = math.nan
    p: float = math.nan


def paired_t(differences: ArrayLike, level: float = LEVEL) -> Interval:
    """Return the mean of differences [n] with its Student t interval and p; raises ValueError for n = 0 or NaN.

    For n = 3 to 10 it holds its level where a bootstrap does not; see CONTRIBUTING, "Statistics".
    """
    d = checked(differences)
    if alike(d):
        # One difference, or differences all alike (two cells that predict the same), say nothing of the spread.
        return Interval(len(d), float(d.mean()))
    return _student(len(d), float(d.mean()), float(d.std(ddof=1)) / len(d) ** 0.5, len(d) - 1, level)


def bca(
    differences: ArrayLike, generator: np.random.Generator, level: float = LEVEL, resamples: int = 9999
) -> Interval:
    """Return the mean of differences [n] with its bias-corrected and accelerated bootstrap interval (Efron 1987).

    No bounds below `BCA_FROM` differences, nor where all are alike. Raises ValueError as `paired_t`.
    """
    d = checked(differences)
    found = Interval(len(d), float(d.mean()))
    if len(d) < BCA_FROM or alike(d):
        return found
    low, high = bootstrap(
        (d,), np.mean, n_resamples=resamples, confidence_level=level, method="BCa", rng=generator
    ).confidence_interval
    return Interval(found.n, found.estimate, float(low), float(high))


def two_way_t(differences: ArrayLike, level: float = LEVEL) -> Interval:
    """Return the mean of differences [n, m] with an interval for new rows and new columns alike; n is the rows.

    Rows (seeds) and columns (test examples, or source checkpoints) are crossed and both drawn at random: d_ij = mean +
    a_i + b_j + e_ij. The mean has variance var(a) / n + var(b) / m + var(e) / (n m), which
    (MS_rows + MS_columns - MS_residual) / (n m) estimates without bias, with the degrees of freedom of Satterthwaite
    (1946, doi 10.2307/3002019). The interval is never narrower than Student's over rows, over columns or over
    the residual alone, and the widest of those stands where a mean square is below the residual's, which leaves no
    variance to add. No bounds for one row or one column. Raises ValueError as `paired_t`.
    """
    d = checked(differences, dimensions=2)
    n, m = d.shape
    mean = float(d.mean())
    if min(n, m) < 2 or alike(d):
        return Interval(n, mean)
    rows, columns = d.mean(axis=1) - mean, d.mean(axis=0) - mean
    residual = d - mean - rows[:, None] - columns
    squares = np.array([m * (rows @ rows), n * (columns @ columns), (residual**2).sum()])
    freedom = np.array([n - 1, m - 1, (n - 1) * (m - 1)])
    by_row, by_column, left = squares / freedom
    variances = [*zip(squares / freedom, freedom, strict=True)]
    if min(by_row, by_column) > left:
        both = by_row + by_column - left
        variances.append((both, both**2 / (squares**2 / freedom**3).sum()))
    variance, df = max(variances, key=lambda one: one[0] * student.ppf((1 + level) / 2, one[1]) ** 2)
    return _student(n, mean, float(variance / (n * m)) ** 0.5, float(df), level)


def welch(samples: Sequence[ArrayLike], weights: Sequence[float], level: float = LEVEL) -> Interval:
    """Return a weighted sum of the means of k independent samples, k weights, with its interval; n is the smallest's.

    The variance is sum w_i^2 s_i^2 / n_i, with the degrees of freedom of Satterthwaite (1946, doi 10.2307/3002019); for
    two samples and weights 1 and -1 it is Welch's t (1947, doi 10.1093/biomet/34.1-2.28). No bounds where a sample has
    one value, which says nothing of its spread, or where none has any. Raises ValueError as `paired_t`.
    """
    values = [checked(sample) for sample in samples]
    counts = np.array([len(sample) for sample in values])
    estimate = float(sum(w * sample.mean() for w, sample in zip(weights, values, strict=True)))
    smallest = int(counts.min())
    if smallest < 2 or all(alike(sample) for sample in values):
        return Interval(smallest, estimate)
    terms = np.array([w**2 * sample.var(ddof=1) for w, sample in zip(weights, values, strict=True)]) / counts
    variance = float(terms.sum())
    return _student(smallest, estimate, variance**0.5, variance**2 / float((terms**2 / (counts - 1)).sum()), level)


def _student(n: int, mean: float, error: float, df: float, level: float) -> Interval:
    margin = float(student.ppf((1 + level) / 2, df)) * error
    return Interval(n, mean, mean - margin, mean + margin, float(2 * student.sf(abs(mean) / error, df)))
