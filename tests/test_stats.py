"""Intervals: against scipy, at their edges, and by how often they cover the truth."""

import math

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from harness.stats import paired_t


@pytest.mark.parametrize("n", [2, 3, 6, 10, 50])
@pytest.mark.parametrize("level", [0.5, 0.9, 0.95])
def test_interval_is_that_of_scipy(n, level):
    rng = np.random.default_rng(n)
    for differences in rng.normal(0.02, 0.01, size=(20, n)):
        found = paired_t(differences, level)
        low, high = ttest_1samp(differences, 0).confidence_interval(level)
        assert found.n == n
        assert found.estimate == pytest.approx(differences.mean(), rel=1e-12)
        assert [found.low, found.high] == pytest.approx([low, high], rel=1e-9)


def test_level_is_95_per_cent():
    assert paired_t([0.1, 0.2, 0.4]) == paired_t([0.1, 0.2, 0.4], 0.95)


def test_lists_and_whole_numbers_will_do():
    assert paired_t([1, 2, 6]) == paired_t(np.array([1.0, 2.0, 6.0]))


def test_one_difference_has_no_interval():
    found = paired_t([0.25])
    assert (found.n, found.estimate) == (1, 0.25)
    assert math.isnan(found.low)
    assert math.isnan(found.high)


@pytest.mark.parametrize("differences", [[0.25] * 4, [0.0] * 3, [-0.5, -0.5]])
def test_differences_without_spread_have_no_interval(differences):
    """An interval of width 0 would claim certainty of what a handful of seeds happened to agree on."""
    found = paired_t(differences)
    assert (found.n, found.estimate) == (len(differences), differences[0])
    assert math.isnan(found.low)
    assert math.isnan(found.high)


@pytest.mark.parametrize(
    "differences",
    [[0.1] * 3, [0.9 - 0.8, 0.8 - 0.7, 0.7 - 0.6], [(right + 10) / 540 - right / 540 for right in (420, 422, 424)]],
    ids=["alike", "alike but for rounding", "ten more of 540 images"],
)
def test_differences_alike_but_for_rounding_have_no_interval(differences):
    """Rounding leaves a spread of 1e-17, which would make an interval of almost no width."""
    found = paired_t(differences)
    assert found.estimate == pytest.approx(differences[0])
    assert math.isnan(found.low)


def test_mean_of_nothing_is_refused():
    with pytest.raises(ValueError, match="no differences"):
        paired_t([])


def test_sign_turns_the_interval_round():
    differences = np.array([0.01, 0.03, -0.02, 0.05])
    found, turned = paired_t(differences), paired_t(-differences)
    assert (turned.estimate, turned.low, turned.high) == (-found.estimate, -found.high, -found.low)


@pytest.mark.parametrize("n", [3, 6, 10])
def test_interval_covers_the_truth_as_often_as_it_says(n):
    """5,000 simulated studies whose differences are normal; a bootstrap covers 73 % of them at n = 3."""
    studies = np.random.default_rng(n).normal(0.01, 0.02, size=(5000, n))
    covered = sum(found.low <= 0.01 <= found.high for found in map(paired_t, studies)) / len(studies)
    assert 0.94 <= covered <= 0.96
