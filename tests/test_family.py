"""The family: which effects a spec names, what is refused and where, and that it changes nothing that is trained."""

import json
import math

import pytest

from harness import specfile
from harness.contrasts import KEYS, of_plan
from harness.errors import HarnessError
from harness.facts import Facts
from harness.family import family_of
from harness.planning import make_plan
from harness.spec import Primary
from harness.summary import summarise
from tests.grids import plan_of

PLAN = plan_of(["one_in", "all", "factorial"], "abc", ("full", "head"))
SCENARIOS = plan_of(["one_in"], "ab", ("full", "head"), [{"size": "8"}, {"size": "16"}])


def named(*contrasts, plan=PLAN, **given):
    """The members that entries of a spec name: kind, policy, trick, against, scenario, design."""
    family = family_of(Primary.model_validate_json(json.dumps({"contrasts": list(contrasts), **given})), plan, Facts())
    assert family is not None
    return [tuple(member[key] for key in KEYS) for member in family.members]


def test_none_are_named():
    assert family_of(None, PLAN, Facts()) is None


def test_a_trick_is_meant_alone_and_a_policy_without_tricks():
    assert named({"policy": "head", "trick": "b"}, {"policy": "head"}) == [
        ("one_in", "head", "b", "baseline", "", "one_in"),
        ("policy", "head", "", "full", "", ""),
    ]


def test_lists_are_every_combination():
    found = named({"policy": ["full", "head"], "trick": ["c", "a"]})
    assert [(policy, trick) for _, policy, trick, *_ in found] == [
        ("full", "c"),
        ("full", "a"),
        ("head", "c"),
        ("head", "a"),
    ]


def test_a_policy_is_held_against_any_other_that_is_named():
    three = plan_of(["one_in"], "a", ("full", "head", "head_bn"), [{"size": "8"}, {"size": "16"}])
    held = {**three, "held": [["head_bn", "head"], ["full", "head"]]}
    wanted = {"policy": ["head_bn", "full"], "against": "head", "scenario": "size 16"}
    assert [member[:5] for member in named(wanted, plan=held)] == [
        ("policy", "head_bn", "", "head", "size 16"),
        ("policy", "full", "", "head", "size 16"),
    ]
    with pytest.raises(HarnessError, match="against may be 'full'"):
        named(wanted, plan=three)


def test_policies_that_are_held_against_each_other_are_effects_of_the_plan(primary, workspace):
    text = "{contrasts: [{policy: full, against: head}, {policy: head}]}"
    plan = make_plan(specfile.read(primary(text)), workspace)
    pairs = [(c.policy, c.against, sorted(c.weights.values())) for c in of_plan(summarise(plan)) if c.kind == "policy"]
    assert pairs == [("full", "head", [-1, 1]), ("head", "full", [-1, 1])]


def test_an_effect_named_twice_is_one():
    found = named({"policy": "full", "trick": ["a", "b"]}, {"policy": ["head", "full"], "trick": "a"})
    assert [(policy, trick) for _, policy, trick, *_ in found] == [("full", "a"), ("full", "b"), ("head", "a")]


@pytest.mark.parametrize(
    ("wanted", "member"),
    [
        ({"kind": "main", "policy": "full", "trick": "a"}, ("main", "full", "a", "", "", "factorial")),
        ({"kind": "shapley", "policy": "head", "trick": "c"}, ("shapley", "head", "c", "", "", "factorial")),
        (
            {"kind": "interaction", "trick": "a × b", "policy": "head"},
            ("interaction", "head", "a × b", "", "", "factorial"),
        ),
        (
            {"kind": "interaction", "trick": "a", "design": "one_in"},
            ("interaction", "head", "a", "full", "", "one_in"),
        ),
        ({"kind": "synergy", "policy": "full"}, ("synergy", "full", "a + b + c", "the sum of each alone", "", "all")),
    ],
)
def test_every_kind_can_be_named(wanted, member):
    assert named(wanted) == [member]


def test_scales_are_standard_deviations_in_those_of_a_difference():
    """Of cells that vary alike and independently: a difference of two has variance 2, an interaction of four 4."""
    wanted = [{"policy": "full", "trick": "a"}, {"kind": "main", "policy": "full", "trick": "a"}]
    wanted += [{"kind": "interaction", "trick": "a", "design": "one_in"}]
    family = family_of(Primary.model_validate_json(json.dumps({"contrasts": wanted})), PLAN, Facts())
    assert family is not None
    assert family.scales == pytest.approx((1, math.sqrt(8 / 16 / 2), math.sqrt(2)))


def test_scenarios_are_told_apart():
    entry = {"policy": "head", "trick": "b", "scenario": ["size 8", "size 16"]}
    assert [member[4] for member in named(entry, plan=SCENARIOS)] == ["size 8", "size 16"]


# What is refused.


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"policy": "haed", "trick": "a"}, ["contrast 1", "policy 'haed'", "policy may be 'full', 'head'"]),
        ({"policy": "full", "trick": "x"}, ["trick may be 'a', 'b', 'c'"]),
        ({"policy": "full"}, ["kind 'policy'", "policy may be 'head'"]),
        ({"kind": "leave_one_out", "trick": "a", "policy": "full", "against": "b"}, ["against may be 'b + c'"]),
        ({"kind": "step", "trick": "a"}, ["kind may be", "'one_in'", "'shapley'"]),
        ({"trick": "a"}, ["2 effects", "policy: full, head"]),
        ({"kind": "interaction", "trick": "a"}, ["2 effects", "design: one_in, factorial"]),
        ({"policy": ["full", "haed"], "trick": "a"}, ["policy 'haed'"]),
    ],
)
def test_what_names_no_effect_or_several_is_refused(entry, words):
    with pytest.raises(HarnessError) as error:
        named(entry)
    for word in words:
        assert word in str(error.value)


def test_what_is_refused_has_its_number():
    with pytest.raises(HarnessError, match=r"^contrast 2: "):
        named({"policy": "full", "trick": "a"}, {"policy": "full", "trick": "x"})


def test_several_scenarios_must_be_told():
    with pytest.raises(HarnessError, match=r"2 effects .*scenario: size 8, size 16"):
        named({"policy": "full", "trick": "a"}, plan=SCENARIOS)


@pytest.fixture
def primary(write_spec):
    """A function that writes the tiny spec with primary contrasts on line 13."""
    return lambda text: write_spec(("seeds: 2", f"seeds: 2\nprimary: {text}"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{contrasts: []}", ["primary.contrasts", "at least 1"]),
        ("{contrasts: [{kind: one_in}]}", ["name a policy or a trick"]),
        ("{contrasts: [{trick: []}]}", ["at least 1"]),
        ("{contrasts: [{kind: some, trick: mixup}]}", ["kind", "'one_in'", "'shapley'"]),
        ("{contrasts: [{trick: mixup, polciy: full}]}", ["polciy"]),
        ("{contrasts: [{policy: full, against: haed}]}", ["primary", "unknown policy 'haed'", "head"]),
        ("{contrasts: [{trick: mixup}], bound: 2}", ["primary.bound", "less than 1"]),
        ("{contrasts: [{trick: mixup}], sd: 0.01, pilot: a.csv}", ["sd or pilot, not both"]),
    ],
)
def test_what_the_spec_refuses_has_its_line(primary, text, words):
    path = primary(text)
    with pytest.raises(HarnessError) as error:
        specfile.read(path)
    assert str(error.value).startswith(f"{path}:13: ")
    for word in words:
        assert word in str(error.value)


def test_what_the_plan_refuses_has_its_line(primary, workspace):
    path = primary("{contrasts: [{trick: mixup}]}")
    with pytest.raises(HarnessError) as error:
        make_plan(specfile.read(path), workspace)
    assert str(error.value).startswith(f"{path}:13: primary.contrasts: contrast 1: 2 effects")
    assert "policy: full, head" in str(error.value)


def test_primary_contrasts_change_nothing_that_is_trained(primary, write_spec, workspace):
    text = "{contrasts: [{trick: mixup, policy: full}, {policy: head}], bound: 0.01, sd: 0.02, power: 0.9}"
    with_them = specfile.read(primary(text))
    named_then = make_plan(with_them, workspace)
    assert named_then.family is not None
    assert [m["kind"] for m in named_then.family.members] == ["one_in", "policy"]
    assert (named_then.family.bound, named_then.family.sd, named_then.family.power) == (0.01, 0.02, 0.9)
    without = specfile.read(write_spec())
    bare = make_plan(without, workspace)
    assert bare.family is None
    assert with_them.grid == without.grid
    assert list(named_then.trainings) == list(bare.trainings)
    assert summarise(bare)["primary"] is None


def test_a_pilot_is_relative_to_the_spec(primary, workspace):
    study = specfile.read(primary("{contrasts: [{trick: mixup, policy: full}], pilot: runs.csv}"))
    with pytest.raises(
        HarnessError, match=f"cannot read the pilot {workspace.root}/experiments/runs.csv: No such file"
    ):
        make_plan(study, workspace)
