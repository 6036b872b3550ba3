"""Tests of paired differences beside the paired t, and how often one side wins."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import permutation_test, rankdata
from scipy.stats import wilcoxon as signed_rank

from harness.stats.differences import DECIMALS, checked

EXACT = 14
"""Most non-zero differences whose 2**n signs are all gone through."""


def sign_flip(differences: ArrayLike, generator: np.random.Generator) -> float:
    """Return the two-sided p of the mean of differences [n] under random signs (Fisher, The Design of Experiments).

    Exact to `EXACT` non-zero differences, where p is at least 2**(1 - n); beyond, from 2**`EXACT` drawn sign vectors.
    Differences of 0 change no mean and so count for nothing. Raises ValueError for n = 0 or NaN.
    """
    return _flipped(_to_scale(checked(differences)), generator)


def wilcoxon(differences: ArrayLike) -> float:
    """Return the two-sided p of Wilcoxon's signed-rank test of differences [n].

    Ties share their mean rank; zeros are ranked and then dropped (Pratt 1959). To `EXACT` non-zero differences the p is
    exact given ties and zeros, as sign flips of the ranks; beyond, as scipy has it: exact to 50 without either, else
    normal. Raises ValueError for n = 0 or NaN.
    """
    d = _to_scale(checked(differences))
    ranks = np.sign(d) * rankdata(abs(d))
    if np.count_nonzero(ranks) <= EXACT:
        return _flipped(ranks / len(ranks), None)
    return float(signed_rank(ranks, zero_method="pratt").pvalue)


def improvement(differences: ArrayLike) -> float:
    """Return the share of differences [n] above 0, those of 0 counting half.

    P(X > Y) + P(X = Y) / 2 over the pairs; of unpaired runs it is Mann and Whitney's U / (n m), "probability of
    improvement" in Agarwal et al. 2021 (arXiv 2108.13264). Raises ValueError for n = 0 or NaN.
    """
    return float((np.sign(_to_scale(checked(differences))) + 1).mean() / 2)


def _to_scale(d: NDArray[np.float64]) -> NDArray[np.float64]:
    """Divide by the largest and round, so that differences equal but for rounding tie; no p here depends on scale."""
    return (d / (abs(d).max() or 1.0)).round(DECIMALS)


def _flipped(values: NDArray[np.float64], generator: np.random.Generator | None) -> float:
    values = values[values != 0]  # a sign turned on 0 is the same sum: leaving it out keeps more samples exact
    if len(values) < 2:
        return 1.0  # one sign, turned: both sums are as far from 0

    def total(signed: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
        # Sums that tie but for rounding must count as ties: they made 0.039 of an exact 0.047.
        rounded: NDArray[np.float64] = signed.sum(axis=axis).round(DECIMALS - 2)
        return rounded

    # scipy goes through all signs where they are no more than the resamples asked for.
    return float(
        permutation_test(
            (values,), total, permutation_type="samples", n_resamples=2**EXACT, vectorized=True, rng=generator
        ).pvalue
    )
