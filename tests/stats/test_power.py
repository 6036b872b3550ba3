"""What a family can show: against scipy's distributions written out, a published table, and simulation."""

import math

import numpy as np
import pytest
from scipy.stats import nct, t

from harness.stats.families import claim, family, simultaneous
from harness.stats.power import MOST_SEEDS, critical_effect, power_of, seeds_needed, smallest_effect


@pytest.mark.parametrize(("effect", "n"), [(0.2, 199), (0.5, 34), (0.8, 15), (1.0, 10)])
def test_seeds_are_those_of_the_textbook(effect, n):
    """Pairs for 80 % power of a two-sided paired t at 5 %, as G*Power has them (Faul et al. 2007)."""
    assert seeds_needed(effect) == n
    assert seeds_needed(-effect) == n


@pytest.mark.parametrize("n", [2, 3, 6, 10, 100])
@pytest.mark.parametrize("m", [1, 5, 60])
def test_smallest_effect_has_the_power_asked_for(n, m):
    for power in (0.5, 0.8, 0.95):
        effect = smallest_effect(n, m, power=power)
        assert nct.sf(t.isf(0.025 / m, n - 1), n - 1, effect * n**0.5) == pytest.approx(power, abs=1e-6)
    assert smallest_effect(n + 1, m) < smallest_effect(n, m) < smallest_effect(n, m + 1)


@pytest.mark.parametrize("m", [1, 5])
def test_critical_effect_is_where_a_claim_begins(m):
    """Differences with exactly that mean over sd are claimed, with a little less they are not."""
    shape = np.array([-1.0, 0, 1, 0.5, -0.5, 0])
    shape = (shape - shape.mean()) / shape.std(ddof=1)
    nothing = [[1.0, -1.0, 0.5, -0.5]] * (m - 1)
    for factor, says in ((1.001, "helps"), (0.999, "no evidence")):
        found = simultaneous([shape + factor * critical_effect(6, m), *nothing])
        assert claim(found.low[0], found.high[0]) == says


@pytest.mark.parametrize("m", [1, 5, 60])
@pytest.mark.parametrize("effect", [0.1, 0.7, 1.5, 4, 50])
def test_seeds_needed_are_the_fewest(effect, m):
    n = seeds_needed(effect, m)
    assert n is not None
    assert power_of(effect, n, m) >= 0.8
    assert n == 2 or power_of(effect, n - 1, m) < 0.8


def test_what_no_seeds_can_show():
    assert seeds_needed(0.0) is None
    assert seeds_needed(0.001) is None
    assert seeds_needed(0.0281) is not None  # just within reach of the most
    assert power_of(0.0279, MOST_SEEDS) < 0.8
    assert smallest_effect(1) == critical_effect(1) == math.inf
    assert power_of(3.0, 1) == 0


def helped(effects, n):
    """How often, of 5,000 simulated studies, the first of these effects, in sd, is claimed to help."""
    samples = np.random.default_rng(5).normal(np.asarray(effects)[:, None], 1, size=(5000, len(effects), n))
    error = samples.std(axis=-1, ddof=1) / n**0.5
    found = family(samples.mean(axis=-1), error, np.full(len(effects), n - 1))
    return np.mean([claim(*bounds) == "helps" for bounds in zip(found.low[:, 0], found.high[:, 0], strict=True)])


@pytest.mark.parametrize("n", [3, 6])
def test_power_of_one_contrast_is_as_computed(n):
    assert helped([smallest_effect(n)], n) == pytest.approx(0.8, abs=0.02)


def test_power_in_a_family_is_least_where_no_other_effect_shows():
    """Others that plainly hurt are never rejected among "mean <= 0", so the first keeps to Holm's first step."""
    effect = smallest_effect(6, 5)
    assert helped([effect, -9, -9, -9, -9], 6) == pytest.approx(0.8, abs=0.02)
    assert helped([effect, 0, 0, 0, 0], 6) >= 0.78
    assert helped([effect, 9, 9, 9, 9], 6) >= 0.9
