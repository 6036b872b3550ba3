"""Intervals: against scipy, at their edges, and by how often they cover the truth."""

import math

import numpy as np
import pytest
from scipy.stats import bootstrap, t, ttest_1samp, ttest_ind

from harness.stats import LEVEL, Interval, paired_t
from harness.stats.intervals import BCA_FROM, bca, two_way_t, welch


@pytest.mark.parametrize("n", [2, 3, 6, 10, 50])
@pytest.mark.parametrize("level", [0.5, 0.9, 0.95])
def test_interval_is_that_of_scipy(n, level):
    rng = np.random.default_rng(n)
    for differences in rng.normal(0.02, 0.01, size=(20, n)):
        found = paired_t(differences, level)
        asked = ttest_1samp(differences, 0)
        low, high = asked.confidence_interval(level)
        assert found.n == n
        assert found.estimate == pytest.approx(differences.mean(), rel=1e-12)
        assert [found.low, found.high, found.p] == pytest.approx([low, high, asked.pvalue], rel=1e-9)


def test_level_is_95_per_cent():
    assert paired_t([0.1, 0.2, 0.4]) == paired_t([0.1, 0.2, 0.4], 0.95)


def test_lists_and_whole_numbers_will_do():
    assert paired_t([1, 2, 6]) == paired_t(np.array([1.0, 2.0, 6.0]))


def without_bounds(found: Interval) -> bool:
    return all(math.isnan(value) for value in (found.low, found.high, found.p))


def test_one_difference_has_no_interval():
    found = paired_t([0.25])
    assert (found.n, found.estimate) == (1, 0.25)
    assert without_bounds(found)


@pytest.mark.parametrize("differences", [[0.25] * 4, [0.0] * 3, [-0.5, -0.5]])
def test_differences_without_spread_have_no_interval(differences):
    """An interval of width 0 would claim certainty of what a handful of seeds happened to agree on."""
    found = paired_t(differences)
    assert (found.n, found.estimate) == (len(differences), differences[0])
    assert without_bounds(found)


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


@pytest.mark.parametrize("of", [paired_t, lambda d: bca(d, np.random.default_rng(0))], ids=["t", "BCa"])
@pytest.mark.parametrize(
    ("differences", "message"),
    [([], "no differences"), ([0.1, math.nan], "finite"), ([0.1, math.inf], "finite"), ([[0.1, 0.2]], "shape")],
)
def test_what_has_no_mean_is_refused(of, differences, message):
    with pytest.raises(ValueError, match=message):
        of(differences)


def test_sign_turns_the_interval_round():
    differences = np.array([0.01, 0.03, -0.02, 0.05])
    found, turned = paired_t(differences), paired_t(-differences)
    assert (turned.estimate, turned.low, turned.high) == (-found.estimate, -found.high, -found.low)


def covered(intervals: list[Interval], truth: float = 0.0) -> float:
    return sum(found.low <= truth <= found.high for found in intervals) / len(intervals)


@pytest.mark.parametrize("n", [3, 6, 10])
def test_interval_covers_the_truth_as_often_as_it_says(n):
    """5,000 simulated studies whose differences are normal; a bootstrap covers 73 % of them at n = 3."""
    studies = np.random.default_rng(n).normal(0.01, 0.02, size=(5000, n))
    assert 0.94 <= covered([paired_t(study) for study in studies], 0.01) <= 0.96


@pytest.mark.parametrize("n", [3, 6, 10])
def test_interval_covers_nearly_as_often_where_differences_are_skewed(n):
    studies = (np.random.default_rng(n).gamma(4, size=(5000, n)) - 4) * 0.01  # a gamma of shape 4 has skewness 1
    assert covered([paired_t(study) for study in studies]) >= 0.92


@pytest.mark.parametrize("level", [0.8, LEVEL])
def test_bca_is_that_of_scipy(level):
    differences = np.random.default_rng(1).gamma(2, size=25)
    found = bca(differences, np.random.default_rng(2), level, resamples=999)
    asked = bootstrap(
        (differences,), np.mean, confidence_level=level, n_resamples=999, method="BCa", rng=np.random.default_rng(2)
    )
    assert (found.n, found.estimate) == (25, differences.mean())
    assert (found.low, found.high) == tuple(asked.confidence_interval)


def test_bca_is_for_samples_it_can_cover():
    differences = np.random.default_rng(3).normal(size=BCA_FROM)
    assert without_bounds(bca(differences[1:], np.random.default_rng(0)))
    found = bca(differences, np.random.default_rng(0))
    assert found.low < differences.mean() < found.high


@pytest.mark.parametrize("differences", [[0.1] * 30, [0.0] * 29 + [1.0], [0.3] * 15 + [0.1] * 15])
def test_bca_of_degenerate_differences_warns_of_nothing(differences):
    found = bca(differences, np.random.default_rng(0), resamples=99)
    assert math.isnan(found.low) == math.isnan(found.high)
    assert found.estimate == pytest.approx(np.mean(differences))


def test_two_way_interval_by_hand():
    """Rows 1 and 3 with columns that lean three ways: a table small enough for pencil and paper.

    [[0, 1, 2], [2, 3, 7]]: grand mean 2.5, row means 1 and 4, column means 1, 2 and 4.5; sums of squares 13.5 (rows),
    13 (columns) and, of a total of 29.5, 3 (residual), on 1, 2 and 2 degrees of freedom.
    """
    found = two_way_t([[0, 1, 2], [2, 3, 7]])
    variance = (13.5 + 6.5 - 1.5) / 6
    df = (13.5 + 6.5 - 1.5) ** 2 / (13.5**2 / 1 + 6.5**2 / 2 + 1.5**2 / 2)
    assert df == pytest.approx(1.674, abs=1e-3)
    over_rows = 12.7062047 * (13.5 / 6) ** 0.5
    assert variance**0.5 * 5.0 < over_rows  # t of 1.67 degrees of freedom is below 5.3, so Student's over rows is wider
    assert (found.n, found.estimate) == (2, 2.5)
    assert [found.low, found.high] == pytest.approx([2.5 - over_rows, 2.5 + over_rows])


def crossed(n, m, seeds, examples, residual, studies, generator):
    """Simulated tables [studies, n, m] of mean 0 with random rows, columns and residuals of these deviations."""
    return (
        seeds * generator.normal(size=(studies, n, 1))
        + examples * generator.normal(size=(studies, 1, m))
        + residual * generator.normal(size=(studies, n, m))
    )


def test_two_way_interval_is_satterthwaites():
    """Against the mean squares as the model's textbook definitions, where both factors vary."""
    table = crossed(6, 40, 1, 3, 1, 1, np.random.default_rng(4))[0]
    n, m = table.shape
    rows = m * table.mean(axis=1).var(ddof=1)
    columns = n * table.mean(axis=0).var(ddof=1)
    left = sum(
        (table[i, j] - table[i].mean() - table[:, j].mean() + table.mean()) ** 2 for i in range(n) for j in range(m)
    ) / ((n - 1) * (m - 1))
    df = (rows + columns - left) ** 2 / (rows**2 / 5 + columns**2 / 39 + left**2 / 195)
    low, high = t.interval(LEVEL, df, table.mean(), ((rows + columns - left) / (n * m)) ** 0.5)
    found = two_way_t(table)
    assert [found.low, found.high] == pytest.approx([low, high])
    assert found.p == pytest.approx(2 * t.sf(abs(table.mean()) / ((rows + columns - left) / (n * m)) ** 0.5, df))
    turned = two_way_t(table.T)
    assert [turned.low, turned.high] == pytest.approx([low, high])


@pytest.mark.parametrize(
    ("n", "m", "seeds", "examples", "residual"),
    [
        (3, 100, 1, 3, 1),
        (3, 100, 0.3, 3, 3),
        (10, 200, 0.1, 1, 1),
        (6, 100, 1, 0, 3),
        (6, 100, 0, 1, 1),
        (3, 4, 1, 1, 1),
    ],
)
def test_two_way_interval_covers_new_seeds_and_new_examples(n, m, seeds, examples, residual):
    """It may be wider than it says, for few rows or columns, but is not narrower."""
    studies = crossed(n, m, seeds, examples, residual, 2000, np.random.default_rng(n))
    both = covered([two_way_t(table) for table in studies])
    assert 0.94 <= both <= (0.98 if m > 4 else 1)


def test_interval_over_seeds_alone_misses_new_examples():
    studies = crossed(6, 100, 0.0, 1, 1, 500, np.random.default_rng(6))
    assert covered([paired_t(table.mean(axis=1)) for table in studies]) < 0.75


def test_two_way_interval_is_never_narrower_than_that_over_seeds():
    for table in crossed(4, 30, 0.2, 0.2, 1, 200, np.random.default_rng(8)):
        wide, narrow = two_way_t(table), paired_t(table.mean(axis=1))
        assert wide.high - wide.low >= (narrow.high - narrow.low) * (1 - 1e-12)


def test_two_way_interval_at_its_edges():
    assert without_bounds(two_way_t(np.ones((3, 4))))
    assert without_bounds(two_way_t([[0.1, 0.3]]))
    assert without_bounds(two_way_t([[0.1], [0.3]]))
    checkerboard = two_way_t([[1, -1], [-1, 1]])  # no row or column stands out, which is no certainty
    assert (checkerboard.low, checkerboard.high) == pytest.approx((-12.7062, 12.7062), abs=1e-4)
    with pytest.raises(ValueError, match="finite"):
        two_way_t([[0.1, math.nan], [0.2, 0.3]])
    with pytest.raises(ValueError, match="shape"):
        two_way_t([0.1, 0.2])


@pytest.mark.parametrize("sizes", [(2, 2), (3, 8), (20, 4)])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_welch_of_two_samples_is_that_of_scipy(sizes, level):
    rng = np.random.default_rng(sum(sizes))
    for _ in range(10):
        one, other = rng.normal(0.7, 0.01, sizes[0]), rng.normal(0.6, 0.05, sizes[1])
        found, asked = welch([one, other], [1, -1], level), ttest_ind(one, other, equal_var=False)
        low, high = asked.confidence_interval(level)
        assert found.n == min(sizes)
        assert found.estimate == pytest.approx(one.mean() - other.mean())
        assert [found.low, found.high, found.p] == pytest.approx([low, high, asked.pvalue], rel=1e-9)


def test_welch_scales_with_its_weights():
    rng = np.random.default_rng(0)
    samples = [rng.normal(0, sd, n) for sd, n in ((1, 4), (2, 6), (0.5, 3))]
    once, half = welch(samples, [1, 1, -2]), welch(samples, [0.5, 0.5, -1])
    assert [2 * half.estimate, 2 * half.low, 2 * half.high] == pytest.approx([once.estimate, once.low, once.high])
    assert half.p == pytest.approx(once.p)


def test_welch_covers_an_interaction_of_four_unlike_samples_as_often_as_it_says():
    """3,000 simulated studies; the sizes and spreads of the samples are unlike."""
    rng, covered = np.random.default_rng(5), 0
    for _ in range(3000):
        samples = [rng.normal(mean, sd, n) for mean, sd, n in ((1, 4, 4), (2, 1, 12), (3, 1, 9), (5, 2, 6))]
        found = welch(samples, [1, -1, -1, 1])
        covered += found.low <= 1 <= found.high
    assert 0.94 <= covered / 3000 <= 0.96


@pytest.mark.parametrize("samples", [[[0.5], [0.4, 0.6]], [[0.5, 0.5], [0.25, 0.25]]])
def test_welch_of_samples_that_show_no_spread_has_no_interval(samples):
    found = welch(samples, [1, -1])
    assert found.estimate == pytest.approx(np.mean(samples[0]) - np.mean(samples[1]))
    assert without_bounds(found)


def test_welch_of_an_empty_sample_is_refused():
    with pytest.raises(ValueError, match="no differences"):
        welch([[0.5, 0.6], []], [1, -1])
