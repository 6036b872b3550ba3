"""Families of claims: by hand, by brute force over all intersections, and by how often they err."""

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import t, ttest_1samp

from harness.stats import LEVEL, paired_t
from harness.stats.families import Family, claim, family, holm, simultaneous

STUDIES = 5000


def test_holm_by_hand():
    """Times 4, 3, 2, 1 from the smallest up: 0.02, 0.03, 0.06 and 0.2, none below the one before."""
    assert holm([0.03, 0.005, 0.2, 0.01]) == pytest.approx([0.06, 0.02, 0.2, 0.03])
    assert holm([0.02, 0.022, 0.024]) == pytest.approx([0.06, 0.06, 0.06])
    assert holm([0.5, 0.6]) == pytest.approx([1, 1])
    assert holm([0.04]) == pytest.approx([0.04])


def subsets(m):
    return [set(chosen) for size in range(1, m + 1) for chosen in combinations(range(m), size)]


@pytest.mark.parametrize("m", [1, 3, 4])
def test_holm_is_the_closed_test_of_bonferroni(m):
    """Adjusted p: the largest Bonferroni p of an intersection that the hypothesis is part of (Marcus et al. 1976)."""
    for p in np.random.default_rng(m).uniform(0, 0.3, size=(200, m)):
        closed = [max(min(1, len(J) * min(p[j] for j in J)) for J in subsets(m) if i in J) for i in range(m)]
        assert holm(p) == pytest.approx(closed)


def lower_bounds(samples, alpha):
    """Lower bounds by brute force over the 2**m orthants that partition the parameters.

    Where the effects of set I are <= 0, parameters are kept that none of the t bounds at alpha / |I| of I excludes;
    where all effects are above 0, those that none at alpha / m does. A bound is the least value kept of its effect.
    """
    m = len(samples)

    def own(i, share):
        x = np.asarray(samples[i])
        return x.mean() - t.isf(share, len(x) - 1) * x.std(ddof=1) / len(x) ** 0.5

    least = [max(0, own(i, alpha / m)) for i in range(m)]
    for within in subsets(m):
        bounds = {i: own(i, alpha / len(within)) for i in within}
        if all(bound <= 0 for bound in bounds.values()):
            least = [min(least[i], bounds.get(i, 0)) for i in range(m)]
    return least


@pytest.mark.parametrize("m", [1, 3, 4])
def test_intervals_are_those_of_the_partition(m):
    generator = np.random.default_rng(m)
    seen = set()
    for _ in range(100):
        samples = [generator.normal(mean, 1, size=n) for mean, n in zip([2, 1.5, -2, 0.8], [4, 8, 6, 5], strict=True)][
            :m
        ]
        samples = [x + generator.choice([0, 2]) for x in samples]
        found = simultaneous(samples)
        assert found.low == pytest.approx(lower_bounds(samples, (1 - LEVEL) / 2))
        assert -found.high == pytest.approx(lower_bounds([-x for x in samples], (1 - LEVEL) / 2))
        seen.add(int((found.low >= 0).sum()))
    assert seen >= {0, m}  # none and all rejected: both kinds of bounds were met


def test_a_bound_reaches_zero_where_holm_rejects_and_nowhere_else():
    generator = np.random.default_rng(11)
    for _ in range(100):
        samples = generator.normal(generator.choice([-1.5, 0, 1.5], size=(5, 1)), 1, size=(5, 6))
        found = simultaneous(samples)
        up = holm([ttest_1samp(x, 0, alternative="greater").pvalue for x in samples])
        down = holm([ttest_1samp(x, 0, alternative="less").pvalue for x in samples])
        assert (found.low >= 0).tolist() == (up <= 0.025).tolist()
        assert (found.high <= 0).tolist() == (down <= 0.025).tolist()
        assert found.p_holm == pytest.approx(np.minimum(1, 2 * np.minimum(up, down)))
        assert (found.low < found.high).all()


def test_a_family_of_one_is_the_paired_t():
    differences = [0.01, 0.02, 0.015, -0.004, 0.02]
    found, alone = simultaneous([differences]), paired_t(differences)
    assert [found.low[0], found.high[0], found.p_holm[0]] == pytest.approx([alone.low, alone.high, alone.p])


def test_signs_turn_the_family_round():
    samples = np.random.default_rng(2).normal([[2], [0], [-1]], 1, size=(3, 6))
    found, turned = simultaneous(samples), simultaneous(-samples)
    assert turned.low.tolist() == (-found.high).tolist()
    assert turned.p_holm.tolist() == found.p_holm.tolist()
    assert not np.signbit(simultaneous([[-9.0, -9.1, -9.2], [0.1, -0.1, 0.2]]).high[0])  # 0, not -0


def test_a_contrast_without_spread_claims_nothing_and_counts():
    real, weak = [0.9, 1.0, 1.1, 1.2], [0.9, 0.2, 1.1, 0.3]
    found = simultaneous([real, [0.5], [0.3, 0.3, 0.3], [], weak])
    assert np.isnan([found.low[1:4], found.high[1:4], found.p_holm[1:4]]).all()
    assert found.low[0] == 0
    assert found.p_holm[0] == pytest.approx(5 * paired_t(real).p)
    assert found.low[4] == pytest.approx(paired_t(weak, 1 - 0.05 / 4).low)  # 4 of 5 are left


def test_an_empty_family_is_empty():
    found = simultaneous([])
    assert [len(found.low), len(found.high), len(found.p_holm)] == [0, 0, 0]


def test_nan_is_refused():
    with pytest.raises(ValueError, match="finite"):
        simultaneous([[0.1, 0.2], [0.1, np.nan]])


@pytest.mark.parametrize(
    ("low", "high", "says"),
    [
        (0.001, 0.02, "helps"),
        (0.0, 0.02, "helps"),  # open: 0 itself is left out
        (-0.02, 0.0, "hurts"),
        (-0.02, -0.001, "hurts"),
        (-0.001, 0.02, "no evidence"),
        (-0.004, 0.004, "makes no difference"),
        (0.001, 0.004, "makes no difference"),  # surely above 0 and surely too little to matter
        (-0.004, 0.0, "makes no difference"),
        (0.0, 0.005, "helps"),
        (np.nan, np.nan, "no evidence"),
    ],
)
def test_claims_are_read_off_the_interval(low, high, says):
    assert claim(low, high, bound=0.005) == says


def test_no_bound_is_no_equivalence():
    assert claim(-1e-9, 1e-9) == "no evidence"


def studies(effects, n, shared, seed):
    """Simulated differences [STUDIES, m, n] of these means and deviation 1, correlated by `shared` between contrasts.

    Contrasts with one baseline in common have a correlation of a half.
    """
    generator = np.random.default_rng(seed)
    common = generator.normal(size=(STUDIES, 1, n))
    own = generator.normal(size=(STUDIES, len(effects), n))
    return np.asarray(effects)[:, None] + shared**0.5 * common + (1 - shared) ** 0.5 * own


def families(samples: np.ndarray) -> Family:
    """Families of samples [..., m, n], all at once."""
    n = samples.shape[-1]
    return family(samples.mean(axis=-1), samples.std(axis=-1, ddof=1) / n**0.5, np.full(samples.shape[-2], n - 1))


def test_many_families_at_once_are_those_one_by_one():
    samples = studies([0.0, 1.0, -2.0], 6, 0.5, seed=9)[:50]
    together = families(samples)
    for i, study in enumerate(samples):
        alone = simultaneous(study)
        for name in ("low", "high", "p_holm"):
            assert getattr(together, name)[i] == pytest.approx(getattr(alone, name))


BOUND = 1.2
FAMILIES = {
    "one null": [0.0],
    "one at the bound": [BOUND],
    "five nulls": [0.0] * 5,
    "nulls beside real effects": [0.0, 0.0, 2.0, -2.0, 5.0],
    "one null, four real": [0.0, 5.0, 5.0, 5.0, 5.0],
    "five small": [0.3, -0.3, 0.6, 0.9, 0.1],
    "at the bound": [BOUND, BOUND, -BOUND, -BOUND, 0.0],
}
SIMULATION_ERROR = 3 * (0.05 * 0.95 / STUDIES) ** 0.5


def claimed(found: Family, says: str, bound: float = 0.0) -> np.ndarray:
    """Which contrasts [STUDIES, m] are claimed to do so."""
    pairs = zip(found.low.ravel(), found.high.ravel(), strict=True)
    return np.array([claim(low, high, bound) == says for low, high in pairs]).reshape(found.low.shape)


@pytest.mark.parametrize("shared", [0.0, 0.5])
@pytest.mark.parametrize("effects", FAMILIES.values(), ids=FAMILIES)
def test_a_family_errs_no_more_often_than_it_says(effects, shared):
    truth = np.array(effects)
    found = families(studies(effects, 10, shared, seed=len(effects)))
    missed = (~((found.low < truth) & (truth < found.high))).any(axis=-1).mean()
    false = {"helps": truth <= 0, "hurts": truth >= 0, "makes no difference": abs(truth) >= BOUND}
    mistaken = (
        np.any([claimed(found, says, BOUND) & untrue for says, untrue in false.items()], axis=0).any(axis=-1).mean()
    )
    assert mistaken <= missed <= 0.05 + SIMULATION_ERROR
    if len(effects) == 1:
        assert missed >= 0.05 - SIMULATION_ERROR  # nothing is lost where there is nothing to correct


def test_equivalence_is_claimed_falsely_in_one_tail_at_the_bound():
    """An effect of exactly the bound is called too small where the upper bound misses it: 2.5 %, where n is ample."""
    found = families(studies([BOUND], 30, 0.0, seed=4))
    assert claimed(found, "makes no difference", BOUND).mean() == pytest.approx(0.025, abs=SIMULATION_ERROR)
    assert claimed(families(studies([0.1], 30, 0.0, seed=4)), "makes no difference", BOUND).mean() > 0.99


def test_five_nulls_use_the_error_they_are_given():
    """Bonferroni over five independent contrasts: 1 - (1 - 0.05 / 5)**5 = 4.9 % (each two-sided)."""
    found = families(studies([0.0] * 5, 6, 0.0, seed=1))
    mistaken = (claimed(found, "helps") | claimed(found, "hurts")).any(axis=-1).mean()
    assert mistaken == pytest.approx(0.049, abs=SIMULATION_ERROR)


def test_holm_claims_more_than_bonferroni():
    """With four effects plain to see the fifth is tested as if alone."""
    plain, none = (families(studies([1.0, *[other] * 4], 8, 0.0, seed=3)) for other in (6.0, 0.0))
    assert claimed(plain, "helps")[:, 0].mean() > claimed(none, "helps")[:, 0].mean() + 0.2
