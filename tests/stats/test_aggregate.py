"""Aggregates over data sets: against rliable's definitions written out, and where the bootstrap can be gone through."""

import numpy as np
import pytest

from harness.stats.aggregate import iqm, stratified_bootstrap


def mean(values):
    return values.mean(axis=-1)


def generator():
    return np.random.default_rng(3)


@pytest.mark.parametrize("n", [1, 3, 4, 7, 20])
def test_interquartile_mean_is_that_of_the_middle_half(n):
    scores = generator().gamma(1, size=n)
    middle = sorted(scores)[n // 4 : n - n // 4]
    assert float(iqm(scores)) == pytest.approx(sum(middle) / len(middle))


def test_interquartile_mean_of_runs_by_data_sets_is_rliables():
    """`trim_mean(scores, proportiontocut=0.25, axis=None)` of a matrix: runs and data sets are one heap."""
    matrix = np.array([[0.1, 0.9, 0.5], [0.2, 0.8, 5.0], [0.15, 0.7, -3.0], [0.4, 0.6, 0.55]])
    expected = (0.2 + 0.4 + 0.5 + 0.55 + 0.6 + 0.7) / 6
    found = stratified_bootstrap(list(matrix.T), iqm, generator())
    assert found.n == 12
    assert found.estimate == float(iqm(matrix.ravel())) == pytest.approx(expected)


@pytest.mark.parametrize("statistic", [mean, iqm])
def test_bootstrap_is_the_percentiles_of_runs_drawn_within_each_data_set(statistic):
    scores = [generator().normal(size=4), generator().normal(5, 2, size=7)]
    found = stratified_bootstrap(scores, statistic, generator(), level=0.9, resamples=500)
    rng = generator()
    first, second = rng.integers(4, size=(500, 4)), rng.integers(7, size=(500, 7))
    values = [
        float(statistic(np.array([*(scores[0][i] for i in a), *(scores[1][i] for i in b)])))
        for a, b in zip(first, second, strict=True)
    ]
    assert [found.low, found.high] == pytest.approx([np.percentile(values, 5), np.percentile(values, 95)])


def test_data_sets_keep_their_share():
    """All low runs come up in 1 of 16 resamples, so they are the bounds; a bootstrap of the heap would reach beyond."""
    found = stratified_bootstrap([[0, 1], [10, 11]], mean, generator())
    assert (found.estimate, found.low, found.high) == (5.5, 5, 6)


def test_pairs_are_drawn_as_pairs():
    """Each run is 0.02 better than its pair: the difference is sure, however wide the runs lie apart."""
    baseline = [generator().normal(size=5), generator().normal(9, 4, size=6)]
    found = stratified_bootstrap([runs + 0.02 for runs in baseline], iqm, generator(), against=baseline)
    assert [found.estimate, found.low, found.high] == pytest.approx([0.02] * 3)


def test_difference_of_two_cells_is_that_of_their_statistics():
    cell, baseline = ([generator().gamma(k, size=6), generator().normal(k, size=5)] for k in (3, 2))
    found = stratified_bootstrap(cell, iqm, generator(), against=baseline)
    assert found.estimate == pytest.approx(float(iqm(np.concatenate(cell)) - iqm(np.concatenate(baseline))))
    turned = stratified_bootstrap(baseline, iqm, generator(), against=cell)
    assert [turned.low, turned.high] == pytest.approx([-found.high, -found.low])


def test_few_runs_make_the_percentile_interval_too_narrow():
    """As the docstring says: 5 data sets of 3 runs cover some 83 %, of 10 runs 93 %."""
    rng = generator()
    covered = {}
    for runs in (3, 10):
        intervals = [stratified_bootstrap(list(x), mean, rng, resamples=499) for x in rng.normal(size=(500, 5, runs))]
        covered[runs] = np.mean([found.low <= 0 <= found.high for found in intervals])
    assert covered[3] == pytest.approx(0.83, abs=0.05)
    assert covered[10] == pytest.approx(0.93, abs=0.03)


@pytest.mark.parametrize(
    ("scores", "against", "message"),
    [
        ([[0.1, 0.2], [0.3]], None, "two or more"),
        ([], None, "two or more"),
        ([[0.1, 0.2]], [[0.1, 0.2, 0.3]], "pairs"),
        ([[0.1, np.nan]], None, "finite"),
    ],
)
def test_what_cannot_be_drawn_is_refused(scores, against, message):
    with pytest.raises(ValueError, match=message):
        stratified_bootstrap(scores, mean, generator(), against=against)
