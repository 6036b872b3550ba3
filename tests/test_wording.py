"""How numbers and names read."""

import math

import pytest

from harness import wording
from harness.wording import Terms, terms_of

NAN = math.nan


@pytest.mark.parametrize(
    ("fraction", "text"),
    [(0.123, "+12.3"), (-0.04, "−4.0"), (0.0, "+0.0"), (1.0, "+100.0"), (0.00049, "+0.0"), (NAN, "–")],
)
def test_points(fraction, text):
    assert wording.points(fraction) == text


def test_minus_is_a_minus():
    """A hyphen breaks at the end of a line and is too short beside a plus."""
    assert "-" not in wording.points(-0.5) + wording.points_between(-0.5, -0.1)


def test_points_between():
    assert wording.points_between(-0.01, 0.052) == "−1.0 to +5.2"
    assert wording.points_between(NAN, NAN) == "–"


def test_ratios():
    assert wording.ratio(math.log(1.5)) == "× 1.50"
    assert wording.ratio(0.0) == "× 1.00"
    assert wording.ratio(NAN) == "–"
    assert wording.ratio_between(math.log(0.9), math.log(1.1)) == "0.90 to 1.10"
    assert wording.ratio_between(NAN, NAN) == "–"


def test_mean_and_sd():
    assert wording.mean_sd(0.8123, 0.0149) == "81.2 ± 1.5"
    assert wording.mean_sd(0.8123, NAN) == "81.2"
    assert wording.mean_sd(NAN, NAN) == "–"


def test_number():
    assert wording.number(12345.6, ",.0f") == "12,346"
    assert wording.number(NAN, ",.0f") == "–"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "1 s"),
        (0.2, "1 s"),
        (1.6, "2 s"),
        (89, "89 s"),
        (90, "2 min"),
        (600, "10 min"),
        (5399, "90 min"),
        (5400, "1.5 h"),
    ],
)
def test_duration(seconds, text):
    assert wording.duration(seconds) == text


@pytest.mark.parametrize("name", ["baseline", "cosine", "a + b + c + d", "all 5 together"])
def test_trick_set_of_a_cell(name):
    assert wording.trick_set(f"full | {name}") == name


def test_a_small_loss_stays_a_loss_and_nothing_has_no_sign_of_less():
    assert wording.points(-0.0001) == "−0.0"
    assert wording.points(-0.0) == wording.points(0.0) == "+0.0"


def test_only_simultaneous_intervals_are_open():
    """Holm's bound of exactly 0 leaves 0 out; a bootstrap's does not."""
    assert wording.open_between(0.0, 0.02) == "above 0 to +2.0"
    assert wording.open_between(-0.02, 0.0) == "−2.0 to below 0"
    assert wording.points_between(0.0, 0.02) == "+0.0 to +2.0"


def test_a_study_of_the_harness_speaks_of_seeds():
    text = "Test top-1 over 3 seeds, paired by seed; one seed."
    assert terms_of({}).said(text) == text


@pytest.mark.parametrize(
    ("paired_by", "said"),
    [
        ("", "AUC over 3 runs, unpaired; Unpaired; one run. Runs"),
        ("seed", "AUC over 3 seeds, paired by seed; Paired by seed; one seed. Seeds"),
        ("seed × fold", "AUC over 3 blocks, paired by seed × fold; Paired by seed × fold; one block. Blocks"),
    ],
)
def test_other_peoples_runs_have_terms_of_their_own(paired_by, said):
    terms = terms_of({"terms": {"metric": "AUC", "paired_by": paired_by}})
    assert terms.said("Test top-1 over 3 seeds, paired by seed; Paired by seed; one seed. Seeds") == said


def test_terms_do_not_replace_parts_of_words():
    assert Terms("AUC", "").said("seedling_seed seeds1 top-10 reseed") == "seedling_seed seeds1 top-10 reseed"
