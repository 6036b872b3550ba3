"""Findings: sentences that say what the numbers say, with their n, and nothing that n cannot carry."""

import re

import pytest

from harness.contrasts import KEYS, of_plan
from harness.coverage import coverage
from harness.effects import cells, effects
from harness.family import Family
from harness.findings import findings
from harness.foreign import grid_of
from tests.samples import grid_table, runs_table

NOISE = [0.01, -0.01, 0.0, 0.02, -0.02, 0.005]


def sentences(outcomes, seeds=None):
    runs = runs_table(outcomes)
    found = findings(cells(runs), effects(grid_of(runs)), seeds or runs["seed"].nunique())
    assert all(isinstance(sentence, str) for sentence in found)
    return found


def said(outcomes, words, seeds=None):
    """The one sentence with `words`."""
    (sentence,) = [s for s in sentences(outcomes, seeds) if words in s]
    return sentence


def around(level, noise=NOISE):
    return [level + step for step in noise]


BASE = [0.50, 0.52, 0.49, 0.51, 0.48, 0.53]
TABLES = {
    "null": {"full | baseline": BASE, "full | a": [b + e for b, e in zip(BASE, NOISE, strict=True)]},
    "gain": {
        "full | baseline": BASE,
        "full | a": [b + 0.1 + e for b, e in zip(BASE, NOISE, strict=True)],
        "full | b": [b + e for b, e in zip(BASE, NOISE, strict=True)],
    },
    "loss": {"full | baseline": BASE, "full | a": [b - 0.2 + e for b, e in zip(BASE, NOISE, strict=True)]},
    "two policies": {
        "head | baseline": [0.3, 0.31, 0.29],
        "head | a": [0.4, 0.42, 0.44],
        "full | baseline": [0.8, 0.82, 0.81],
        "full | a": [0.7, 0.75, 0.71],
        "full | a + b": [0.6, 0.62, 0.61],
    },
    "one seed": {"full | baseline": [0.5], "full | a": [0.6]},
    "lost replicates": {"full | baseline": [0.5, "failed", 0.6], "full | a": ["diverged", 0.6, 0.7]},
    "nothing finished": {"full | baseline": ["failed"] * 3, "full | a": ["missing"] * 3},
    "no tricks": {"full | baseline": [0.5, 0.6, 0.7], "head | baseline": [0.2, 0.3, 0.3]},
}


@pytest.mark.parametrize("outcomes", TABLES.values(), ids=TABLES)
def test_no_sentence_claims_significance(outcomes):
    for sentence in sentences(outcomes):
        assert "significan" not in sentence.lower()
        assert "prove" not in sentence.lower()
        assert "nan" not in sentence
        assert sentence.endswith(".")


# What is claimed.


def claimed(outcomes, bound=None, late=False, sd=None):
    """The sentences of a grid whose one-in effects are all primary."""
    grid = grid_table(outcomes)
    named = [c for c in of_plan(grid.plan) if c.kind == "one_in"]
    members = tuple({key: getattr(c, key) for key in KEYS} for c in named)
    family = Family(members, bound, sd, (1.0,) * len(members), late=late)
    grid = grid_table(outcomes, family=family)
    return findings(cells(grid.runs), effects(grid), len(grid.plan["seeds"]), family)


def test_nothing_is_claimed_where_nothing_was_named():
    assert not [s for s in sentences(TABLES["gain"]) if "primary" in s or "helps" in s]


def test_primary_contrasts_go_first_with_what_they_are_read_off():
    whole, helps, unknown, reach, *rest = claimed(TABLES["gain"])
    assert whole.startswith("2 primary contrasts, named before the data, are judged together")
    assert "(n = 6)" in whole
    assert helps.startswith("What helps: a under full +10.1 points (above 0 to ")  # beside one that is not rejected
    assert unknown.startswith("What these data cannot tell: b under full +0.1 points (−")
    assert reach.startswith("To be claimed before the others of 2 contrasts, a mean difference would have had to be ")
    assert reach.endswith(" points, by the spread of each.")
    assert not [s for s in rest if "primary" in s]


def test_a_loss_and_no_difference_are_claimed_in_their_words():
    whole, hurts, *_ = claimed(TABLES["loss"])
    assert whole.startswith("1 primary contrast, named before the data, is judged")
    assert hurts.startswith("What hurts: a under full −19.9 points (−")
    _, alike, *_ = claimed(TABLES["null"], bound=0.05)
    assert alike.startswith("What makes no difference (less than 5 points): a under full +0.1 points (−")


def test_a_null_table_states_no_effect():
    found = claimed(TABLES["null"])
    assert not [s for s in found if re.search(r"\b(helps|hurts|makes no difference)\b", s)]
    assert found[1].startswith("What these data cannot tell: a under full")


def test_of_many_undecided_contrasts_those_nearest_to_a_claim_are_told():
    outcomes = {"full | baseline": BASE}
    for place, trick in enumerate("abcde"):
        outcomes[f"full | {trick}"] = [b + e + 0.002 * place for b, e in zip(BASE, NOISE, strict=True)]
    (told,) = [sentence for sentence in claimed(outcomes) if "undecided" in sentence]
    assert told.startswith(
        "All 5 are undecided, as far as these data can tell; the nearest to a claim: e under full +0.9 points (−"
    )
    assert [trick for trick in "abcde" if f" {trick} under full" in told] == ["c", "d", "e"]
    del outcomes["full | e"]
    (told,) = [sentence for sentence in claimed(outcomes) if "cannot tell" in sentence]
    assert [trick for trick in "abcd" if f" {trick} under full" in told] == [*"abcd"]


def test_what_was_named_late_is_not_claimed():
    found = claimed(TABLES["gain"], late=True)
    assert "after there were runs of this grid" in found[0]
    assert not [s for s in found if "helps" in s]


# The whole and the sum of its parts.


def test_the_whole_is_held_against_the_sum():
    """a +12, b −1, both +16 points: 5 more than the sum."""
    outcomes = {
        "full | baseline": [0.3, 0.31, 0.29],
        "full | a": [0.4, 0.42, 0.44],
        "full | b": [0.29, 0.31, 0.27],
        "full | a + b": [0.44, 0.48, 0.46],
    }
    sentence = said(outcomes, "give")
    assert sentence.startswith("Under full, a + b give +16.0 points")
    assert "each alone sums to +11.0 points" in sentence
    assert "differs from the sum by +5.0 points" in sentence


def test_of_several_policies_what_tricks_give_together_is_one_sentence():
    outcomes = {
        f"p{policy} | {tricks}": [0.3 + gain, 0.31 + gain, 0.29 + gain]
        for policy in range(5)
        for tricks, gain in (("baseline", 0), ("a", 0.01), ("b", 0.02), ("a + b", 0.01 * policy))
    }
    sentence = said(outcomes, "together, against none")
    assert sentence.startswith("Tricks together, against none: a + b under p0 +0.0 points; ")
    assert "; a + b under p4 +4.0 points." in sentence


def test_diverged_replicates_are_told_with_their_cells():
    sentence = said(TABLES["lost replicates"], "diverged")
    assert sentence.startswith("1 replicate diverged: full | a (1).")
    assert "no trick is said to help" in sentence


# How many intervals leave out 0.


def test_null_table_states_that_none_leaves_out_0():
    sentence = said(TABLES["null"], "leaves out 0")
    assert "Of 1 exploratory effects" in sentence
    assert ", 0 have" in sentence
    assert "exploratory" in sentence


def test_effects_that_leave_out_0_are_counted_in_both_directions():
    gain, loss = said(TABLES["gain"], "leaves out 0"), said(TABLES["loss"], "leaves out 0")
    assert "Of 2 exploratory effects" in gain
    assert ", 1 has" in gain
    assert "Of 1 exploratory effects" in loss
    assert ", 1 has" in loss


def test_effects_expected_by_chance_are_one_in_twenty():
    outcomes = {"full | baseline": BASE} | {
        f"full | t{number}": [b + e * (1 + number) for b, e in zip(BASE, NOISE, strict=True)] for number in range(30)
    }
    sentence = said(outcomes, "leaves out 0")
    assert "Of 30 exploratory effects" in sentence
    assert "about 1.5 " in sentence


def test_effects_without_an_interval_are_not_counted():
    assert not [s for s in sentences(TABLES["one seed"]) if "leaves out 0" in s]
    outcomes = {"full | baseline": [0.5, 0.6, "failed"], "full | a": [0.6, 0.8, 0.9], "full | b": [0.6, "failed", 0.9]}
    assert "Of 1 exploratory effects" in said(outcomes, "leaves out 0")


# The strongest.


def test_largest_difference_of_each_policy_is_named_with_its_interval():
    outcomes = TABLES["two policies"]
    head, full = said(outcomes, "Under head"), said(outcomes, "Under full")
    assert " a: +12.0 points" in head
    assert "n = 3" in head
    # −9, not the −20 of both tricks together: of tricks alone the largest in size, whatever its sign.
    assert " a: −9.0 points" in full
    ((low, high),) = re.findall(r"interval (.\d+\.\d) to (.\d+\.\d)", head)
    assert float(low.replace("−", "-")) < 12 < float(high)


def test_difference_of_one_pair_has_no_interval():
    sentence = said(TABLES["one seed"], "Under full")
    assert "+10.0 points" in sentence
    assert "interval" not in sentence


def test_n_is_that_of_the_pairs():
    outcomes = {"full | baseline": [0.5, 0.5, "failed", 0.5], "full | a": [0.6, 0.7, 0.8, "diverged"]}
    sentence = said(outcomes, "Under full")
    assert "+15.0 points" in sentence
    assert "n = 2" in sentence


# Policies.


def test_policies_are_told_by_their_baselines():
    sentence = said(TABLES["two policies"], "Without tricks")
    assert "full 81.0 ± 1.0" in sentence
    assert "head 30.0 ± 1.0" in sentence
    assert "3 seeds" in sentence


def test_policies_are_held_against_the_first_with_their_intervals():
    sentence = said(TABLES["two policies"], "Against head")
    assert "full +51.0 points" in sentence
    assert "n = 3" in sentence
    ((low, high),) = re.findall(r"interval (.\d+\.\d) to (.\d+\.\d)", sentence)
    assert float(low) < 51 < float(high)


def test_one_policy_is_held_against_none():
    assert not [s for s in sentences(TABLES["gain"]) if "Against" in s]


def test_difference_of_policies_is_no_strongest_trick():
    assert "12.0" in said(TABLES["two policies"], "Under head")
    assert not [s for s in sentences(TABLES["no tricks"]) if "Under" in s]


def test_policies_with_lost_replicates_say_over_how_many():
    outcomes = {"full | baseline": [0.5, 0.6, 0.7], "head | baseline": [0.2, "failed", 0.3]}
    assert "2 to 3 seeds" in said(outcomes, "Without tricks")


def test_policy_of_which_nothing_finished_is_left_out():
    outcomes = {"full | baseline": [0.5, 0.6], "head | baseline": ["failed", "failed"]}
    assert "head" not in said(outcomes, "Without tricks")
    assert not [s for s in sentences(outcomes) if "Against" in s]


def test_nothing_is_held_against_a_policy_of_which_nothing_finished():
    outcomes = {"full | baseline": ["failed"] * 2, "head | baseline": [0.5, 0.6], "head_bn | baseline": [0.6, 0.8]}
    assert not [s for s in sentences(outcomes) if "Against" in s]


# What the intervals cover.


@pytest.mark.parametrize("weights", ["random", "torchvision X"])
@pytest.mark.parametrize("drawn", [True, False])
def test_coverage_is_what_differs_between_the_seeds(weights, drawn):
    text = coverage({"settings": {"weights": weights, "train images drawn by seed": drawn}})
    covered, _, not_covered = text.partition("do not cover")
    assert ("training images" in covered) == drawn
    assert ("initial head" in covered) == (weights != "random")
    assert ("initial weights" in covered) == (weights == "random")
    assert "order of the data" in covered
    assert "test images" in not_covered
    assert ("pretrained network" in not_covered) == (weights != "random")


# Few seeds, and nothing at all.


@pytest.mark.parametrize(("seeds", "warned"), [(1, True), (3, True), (5, True), (6, False), (12, False)])
def test_few_seeds_are_pointed_out(seeds, warned):
    warnings = ("large effects only", "One seed cannot tell")
    few = [s for s in sentences(TABLES["no tricks"], seeds) if any(words in s for words in warnings)]
    assert len(few) == warned
    assert all(f"{seeds} seed" in s or "One seed" in s for s in few)


def test_nothing_finished_claims_nothing():
    assert [s for s in sentences(TABLES["nothing finished"]) if "large effects only" not in s] == []


def test_same_numbers_give_the_same_sentences():
    assert sentences(TABLES["gain"]) == sentences(TABLES["gain"])


def test_an_interaction_is_told_as_a_hint_unless_it_is_judged():
    noise = {"a": NOISE, "b": NOISE[::-1], "a + b": sorted(NOISE)}
    outcomes = {"full | baseline": BASE} | {
        f"full | {trick}": [b + e for b, e in zip(BASE, steps, strict=True)] for trick, steps in noise.items()
    }
    grid = grid_table(outcomes)
    (crossed,) = [c for c in of_plan(grid.plan) if c.kind == "interaction"]
    for members in ((), ({key: getattr(crossed, key) for key in KEYS},)):
        family = Family(members, None, None, (1.0,) * len(members), late=False) if members else None
        grid = grid_table(outcomes, family=family)
        told = findings(cells(grid.runs), effects(grid), 6, family)
        only = [s for s in told if s.startswith("The only measure of whether a trick's worth depends on another trick")]
        assert len(only) == (not members)
        assert all("is a × b under full: " in sentence for sentence in only)
