"""Claims: what is said of the primary contrasts, and how often wrongly."""

import math

import numpy as np
import pytest

from harness.claims import judge, power_lines
from harness.contrasts import KEYS, of_plan
from harness.effects import effects
from harness.family import Family
from harness.stats import simultaneous, smallest_effect
from tests.samples import grid_table, plan_json

NOISE = np.array([0.011, -0.008, 0.002, 0.019, -0.021, 0.006])
BASE = 0.5 + np.array([0.01, 0.03, -0.02, 0.0, 0.02, -0.01])


def judged(outcomes, bound=None, kinds=("one_in", "policy"), classes=10, late=False):
    """The effects of a grid whose primary contrasts are all of `kinds`."""
    plan = plan_json(list(outcomes), max(map(len, outcomes.values())))
    for cell in plan["cells"]:
        cell["classes"] = classes
    members = tuple({key: getattr(c, key) for key in KEYS} for c in of_plan(plan) if c.kind in kinds)
    values = {cell: [v if isinstance(v, str) else float(v) for v in row] for cell, row in outcomes.items()}
    return effects(grid_table(values, family=Family(members, bound, late=late), cells=plan["cells"]))


def claims(outcomes, **given):
    """Claim by policy and trick."""
    found = judged(outcomes, **given)
    return {(r["policy"], r["trick"]): r["claim"] for r in found.to_dict("records") if r["role"] == "primary"}


def study(**gains):
    """Tricks under full with their gains, each with noise of its own."""
    return {"full | baseline": BASE} | {
        f"full | {trick}": BASE + gain + np.roll(NOISE, number) for number, (trick, gain) in enumerate(gains.items())
    }


# The rule.


def test_claims_are_those_of_the_simultaneous_intervals():
    outcomes = study(a=0.1, b=-0.08, c=0.001, d=0.011)
    found = judged(outcomes, bound=0.03)
    expected = simultaneous([outcomes[f"full | {t}"] - BASE for t in "abcd"])
    rows = found[found["kind"] == "one_in"].to_dict("records")
    assert [(r["simultaneous_low"], r["simultaneous_high"]) for r in rows] == [
        pytest.approx(pair) for pair in zip(expected.low, expected.high, strict=True)
    ]
    assert [r["p_holm"] for r in rows] == pytest.approx(expected.p_holm.tolist())
    assert [r["claim"] for r in rows] == ["helps", "hurts", "makes no difference", "no evidence"]
    assert {(r["role"], r["bound"]) for r in rows} == {("primary", 0.03)}


def test_whatever_else_there_is_stays_exploratory():
    outcomes = study(a=0.1, b=-0.08) | {"full | a + b": BASE + 0.3 + NOISE}
    found = judged(outcomes)
    others = found[found["kind"] != "one_in"]
    assert len(others) > 5
    assert others["role"].eq("exploratory").all()
    assert others["bound"].isna().all()
    assert others["claim"].eq("").all()
    assert others[["p_holm", "simultaneous_low", "simultaneous_high"]].isna().all(axis=None)


def test_exploratory_effects_do_not_widen_the_family():
    """Nor do the costs: a claim depends on the members alone."""
    few, many = study(a=0.03), study(a=0.03, b=0.0, c=0.0)
    alone = judged(few)
    among = judged(many, kinds=("none",))
    assert among["role"].eq("exploratory").all()
    plan = plan_json(list(many), 6)
    (member,) = [{key: getattr(c, key) for key in KEYS} for c in of_plan(plan) if c.trick == "a"]
    values = {cell: [float(v) for v in row] for cell, row in many.items()}
    found = effects(grid_table(values, family=Family((member,)), cells=plan["cells"]))
    columns = ["simultaneous_low", "simultaneous_high", "p_holm", "claim"]
    assert found[found["role"] == "primary"][columns].to_numpy().tolist() == alone[columns].to_numpy().tolist()


def test_a_null_table_claims_nothing():
    assert set(claims(study(a=0.0, b=0.0, c=0.0)).values()) == {"no evidence"}


def test_a_null_table_makes_no_difference_within_a_wide_bound():
    assert set(claims(study(a=0.0, b=0.0, c=0.0), bound=0.04).values()) == {"makes no difference"}


def test_reversed_table_turns_every_claim():
    outcomes = study(a=0.1, b=-0.08, c=0.001, d=0.011) | {"head | baseline": BASE - 0.3 + NOISE}
    there = judged(outcomes, bound=0.03)
    back = judged({cell: 1 - values for cell, values in outcomes.items()}, bound=0.03)
    turned = {"helps": "hurts", "hurts": "helps"}
    assert back["claim"].tolist() == [turned.get(claim, claim) for claim in there["claim"]]
    assert set(back["claim"]) == {"helps", "hurts", "makes no difference", "no evidence"}
    assert back["simultaneous_low"].to_numpy() == pytest.approx(-there["simultaneous_high"].to_numpy(), nan_ok=True)
    assert back["p_holm"].to_numpy() == pytest.approx(there["p_holm"].to_numpy(), nan_ok=True)


def test_named_late_nothing_is_claimed():
    found = judged(study(a=0.2), late=True)
    assert found["role"].eq("exploratory").all()
    assert found["claim"].eq("").all()


def test_one_pair_is_no_evidence():
    found = judged({"full | baseline": [0.5], "full | a": [0.9]}, bound=0.5)
    assert found["claim"].tolist() == ["no evidence"]
    assert found[["simultaneous_low", "p_holm"]].isna().all(axis=None)


def test_pairs_that_differ_alike_are_no_evidence():
    assert claims({"full | baseline": [0.5] * 4, "full | a": [0.75] * 4}) == {("full", "a"): "no evidence"}


def test_a_member_of_which_no_pair_finished_counts_and_is_no_evidence():
    """It is one of the family all the same: the others are corrected for it."""
    outcomes = study(a=0.1) | {"full | b": ["failed"] * 6}
    found = judged(outcomes)
    expected = simultaneous([outcomes["full | a"] - BASE, [0.0]])
    a, b = found.to_dict("records")
    assert (a["claim"], b["claim"]) == ("helps", "no evidence")
    assert (a["simultaneous_low"], a["p_holm"]) == pytest.approx((expected.low[0], expected.p_holm[0]))
    assert a["p_holm"] == pytest.approx(2 * a["p"])
    assert (b["role"], b["n"]) == ("primary", 0)
    assert math.isnan(b["simultaneous_low"])


# Divergence.


def with_lost(values, *seeds):
    return ["diverged" if seed in seeds else float(v) for seed, v in enumerate(values)]


@pytest.mark.parametrize("side", ["full | baseline", "full | a"])
def test_nothing_helps_where_a_side_diverged(side):
    outcomes = study(a=0.2, b=0.2)
    assert claims(outcomes) == {("full", "a"): "helps", ("full", "b"): "helps"}
    outcomes[side] = with_lost(outcomes[side], 5)
    found = claims(outcomes)
    assert found["full", "a"] == "no evidence"
    assert found["full", "b"] == ("no evidence" if side == "full | baseline" else "helps")


def test_nothing_makes_no_difference_where_a_side_diverged():
    outcomes = study(a=0.0)
    assert claims(outcomes, bound=0.1) == {("full", "a"): "makes no difference"}
    outcomes["full | a"] = with_lost(outcomes["full | a"], 0)
    assert claims(outcomes, bound=0.1) == {("full", "a"): "no evidence"}


def test_a_harm_stands_where_guesses_in_place_of_what_diverged_leave_it_one():
    outcomes = study(a=-0.2)
    outcomes["full | a"] = with_lost(outcomes["full | a"], 5)
    found = judged(outcomes).to_dict("records")[0]
    assert found["claim"] == "hurts"
    assert found["with_chance"] < found["estimate"] < 0


def test_a_harm_that_guesses_in_place_of_what_diverged_undo_is_no_evidence():
    """Without tricks half of the replicates diverged: with a it trains, if not as well as where that went well."""
    outcomes = study(a=-0.1)
    assert claims(outcomes) == {("full", "a"): "hurts"}
    outcomes["full | baseline"] = with_lost(outcomes["full | baseline"], 3, 4, 5)
    found = judged(outcomes).to_dict("records")[0]
    assert found["simultaneous_high"] < 0 < found["with_chance"]
    assert found["claim"] == "no evidence"


def test_a_harm_among_unknown_classes_is_no_evidence():
    outcomes = study(a=-0.2)
    values = {cell: [float(v) for v in row] for cell, row in outcomes.items()}
    values["full | a"] = with_lost(outcomes["full | a"], 5)
    plan = plan_json(list(values), 6)
    members = tuple({key: getattr(c, key) for key in KEYS} for c in of_plan(plan))
    (found,) = effects(grid_table(values, family=Family(members))).to_dict("records")
    assert found["simultaneous_high"] < 0
    assert found["claim"] == "no evidence"


def test_a_member_of_which_everything_diverged_is_no_evidence():
    assert claims({"full | baseline": BASE, "full | a": ["diverged"] * 6}) == {("full", "a"): "no evidence"}


# How often it is wrong, and how often it finds what is there.


def simulated(gain, seed, studies=400, n=6, sd=0.01):
    """Claims of simulated studies of three tricks, [studies, 3]; the first gains `gain` sd of its differences.

    All are held against one baseline, so that their differences are correlated as those of a study are.
    """
    frame = judged(study(a=0.0, b=0.0, c=0.0))
    names = tuple({key: row[key] for key in KEYS} for row in frame.to_dict("records"))
    found = []
    for tops in np.random.default_rng(seed).normal(0, sd / 2**0.5, size=(studies, 4, n)):
        samples = dict(enumerate(tops[1:] - tops[0]))
        samples[0] += gain * sd
        found.append(judge(frame, samples, Family(names))["claim"])
    return np.array(found)


def wrong(found):
    return ((found == "helps") | (found == "hurts")).any(axis=1).mean()


def test_without_effects_few_families_claim_one():
    """At most 5 % of families do; 400 of them show more than 7.2 % with a probability of 2.5 % at most."""
    assert 0.02 < wrong(simulated(0.0, seed=1)) <= 0.072


def test_the_smallest_effect_is_found_as_often_as_computed():
    """In 80 %, give or take two standard errors; tricks that do nothing are claimed no more often than they may."""
    found = simulated(smallest_effect(6, 3, power=0.8), seed=2)
    assert (found[:, 0] == "helps").mean() == pytest.approx(0.8, abs=0.04)
    assert not (found[:, 0] == "hurts").any()
    assert wrong(found[:, 1:]) <= 0.072


# What can be shown at all.


def members(number):
    return tuple(dict.fromkeys(KEYS, str(n)) for n in range(number))


def test_power_is_told_in_sd_and_in_points():
    bare = Family(members(3), scales=(1.0,) * 3)
    known = Family(members(3), sd=0.02, scales=(1.0,) * 3)
    effect = smallest_effect(6, 3)
    assert f"{effect:.1f} sd" in power_lines(bare, 6)[0]
    assert "points" not in power_lines(bare, 6)[0]
    assert f"{effect:.1f} sd ({2 * effect:.1f} points)" in power_lines(known, 6)[0]
    assert "80%" in power_lines(known, 6)[0]


def test_one_seed_shows_nothing():
    (line,) = power_lines(Family(members(1), scales=(1.0,)), 1)
    assert "nothing can be claimed" in line
