"""Tests of differences: against brute force in whole numbers, scipy's exact distributions, and at their edges."""

import math
from itertools import product

import numpy as np
import pytest
from scipy.stats import wilcoxon as of_scipy

from harness.stats.tests import EXACT, improvement, sign_flip, wilcoxon


def generator():
    return np.random.default_rng(7)


def share_as_extreme(values):
    """Two-sided p under all signs, in whole numbers."""
    sums = [
        abs(sum(s * v for s, v in zip(signs, values, strict=True))) for signs in product([1, -1], repeat=len(values))
    ]
    return sum(total >= abs(sum(values)) for total in sums) / len(sums)


def doubled_pratt_ranks(values):
    """Twice the mean rank of each among all by size, zeros included, with its sign: whole numbers."""
    sizes = [abs(v) for v in values]
    twice = [2 * sum(s < size for s in sizes) + sum(s == size for s in sizes) + 1 for size in sizes]
    return [rank * int(np.sign(v)) for rank, v in zip(twice, values, strict=True)]


def counts(n, seed):
    """Differences of correct answers out of 540: many ties, some zeros."""
    return [int(k) for k in np.random.default_rng(seed).integers(-4, 8, size=n)]


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 10])
def test_sign_flip_is_brute_force_under_ties_zeros_and_rounding(n):
    for seed in range(20):
        correct = counts(n, seed)
        differences = [(400 + k) / 540 - 400 / 540 for k in correct]
        assert sign_flip(differences, generator()) == pytest.approx(share_as_extreme(correct), abs=1e-12)


def test_sums_equal_but_for_rounding_are_ties():
    """A permutation test of plain floats says 0.039 here, and would claim what 12 of 256 signs do not."""
    correct = [5, 5, 6, -2, 1, 4, 2, 1]
    assert share_as_extreme(correct) == 12 / 256
    assert sign_flip([(400 + k) / 540 - 400 / 540 for k in correct], generator()) == pytest.approx(12 / 256)


@pytest.mark.parametrize("n", [2, 3, 6, EXACT])
def test_sign_flip_cannot_go_below_its_floor(n):
    """Three seeds never reach 0.05, six are the first to."""
    one_sided = np.random.default_rng(n).uniform(0.5, 1, size=n)
    assert sign_flip(one_sided, generator()) == 2.0 ** (1 - n)
    assert sign_flip(-one_sided, generator()) == 2.0 ** (1 - n)


def test_sign_flip_of_many_draws_its_signs_from_the_generator():
    differences = np.random.default_rng(5).normal(0.4, 1, size=17)
    signs = 1 - 2 * ((np.arange(2**17)[:, None] >> np.arange(17)) & 1)
    exact = np.mean(abs(signs @ differences) >= abs(differences.sum()) - 1e-12)
    found = sign_flip(differences, generator())
    assert found == pytest.approx(exact, abs=4 * (exact / 2**EXACT) ** 0.5)
    assert found == sign_flip(differences, generator())
    assert found != sign_flip(differences, np.random.default_rng(8))


def test_zeros_leave_sign_flip_as_it_is():
    assert sign_flip([0.1, 0.2, 0.3, -0.05, 0, 0], generator()) == sign_flip([0.1, 0.2, 0.3, -0.05], generator())
    assert sign_flip([0.1] * 10 + [0.0] * 10, generator()) == 2.0**-9
    assert sign_flip([0.0, 0.0], generator()) == 1
    assert sign_flip([0.3], generator()) == 1


@pytest.mark.parametrize("n", [2, 3, 6, 10, EXACT, 20, 50])
def test_wilcoxon_without_ties_is_scipys_exact(n):
    differences = np.random.default_rng(n).normal(0.3, 1, size=n)
    assert wilcoxon(differences) == pytest.approx(of_scipy(differences, method="exact").pvalue, rel=1e-9)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 10])
def test_wilcoxon_under_ties_and_zeros_is_brute_force_on_pratts_ranks(n):
    for seed in range(20):
        correct = counts(n, seed)
        differences = [(400 + k) / 540 - 400 / 540 for k in correct]
        assert wilcoxon(differences) == pytest.approx(share_as_extreme(doubled_pratt_ranks(correct)), abs=1e-12)


def test_wilcoxon_of_many_with_ties_is_scipys_normal_approximation():
    correct = counts(40, 1)
    differences = [(400 + k) / 540 - 400 / 540 for k in correct]
    asked = of_scipy(correct, zero_method="pratt", method="asymptotic")
    assert wilcoxon(differences) == pytest.approx(asked.pvalue, rel=1e-9)


def test_wilcoxon_knows_sizes_by_their_order_only():
    differences = np.array([0.1, 0.2, -0.4, 0.7, 0.9, 1.1])
    assert wilcoxon(differences) == wilcoxon(differences**3) != wilcoxon(-(differences**2))
    assert wilcoxon([0.0, 0.0, 0.0]) == 1


@pytest.mark.parametrize(
    ("differences", "share"),
    [
        ([0.1, 0.2, 0.3], 1),
        ([-0.1, 0.2], 0.5),
        ([0.0], 0.5),
        ([0.1, 0.1, 0, -3], 0.625),
        ([0.3 - 0.2 - 0.1, 0.5], 0.75),
    ],
)
def test_improvement_is_the_share_of_pairs_that_improved(differences, share):
    """The last has a difference of -3e-17, which is a tie."""
    assert improvement(differences) == share
    assert improvement([-d for d in differences]) == 1 - share


@pytest.mark.parametrize("test", [lambda d: sign_flip(d, generator()), wilcoxon, improvement])
@pytest.mark.parametrize("differences", [[], [0.1, math.nan]])
def test_nothing_and_nan_are_refused(test, differences):
    with pytest.raises(ValueError, match=r"no differences|finite"):
        test(differences)
