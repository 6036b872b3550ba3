import pytest

from harness.errors import HarnessError
from harness.freezing.policies import POLICIES, Phase, Policy
from harness.freezing.resolve import resolve, select
from harness.models.layout import Layout
from harness.recipe import ParamRule

LAYOUT = Layout(
    parameters=(
        ("conv1.weight", (4, 3, 3, 3)),
        ("bn1.weight", (4,)),
        ("bn1.bias", (4,)),
        ("layer1.0.conv1.weight", (4, 4, 3, 3)),
        ("layer1.0.norm.weight", (4,)),
        ("layer1.0.norm.bias", (4,)),
        ("layer10.weight", (4, 4, 3, 3)),
        ("fc.weight", (2, 4)),
        ("fc.bias", (2,)),
    ),
    # One of them is not called bn: what a batch norm is, is no matter of its name.
    norms=("bn1", "layer1.0.norm"),
    stages=(("stem", ("conv1", "bn1")), ("stage1", ("layer1",)), ("stage10", ("layer10",)), ("head", ("fc",))),
)
NAMES = [name for name, _ in LAYOUT.parameters]
BN = {"bn1.weight", "bn1.bias", "layer1.0.norm.weight", "layer1.0.norm.bias"}
HEAD = {"fc.weight", "fc.bias"}
STEM = {"conv1.weight", "bn1.weight", "bn1.bias"}
STAGE1 = {"layer1.0.conv1.weight", "layer1.0.norm.weight", "layer1.0.norm.bias"}
WITHOUT_NORMS = Layout(
    parameters=tuple((name, shape) for name, shape in LAYOUT.parameters if name not in BN),
    norms=(),
    stages=LAYOUT.stages,
)


PARAMETERS = {
    ("all",): set(NAMES),
    ("none",): set(),
    (): set(),
    ("head",): HEAD,
    ("stem",): STEM,
    ("stage1",): STAGE1,
    ("stem", "head"): STEM | HEAD,
    ("bn",): BN,
    ("head", "bn"): HEAD | BN,
    ("all", "not bn"): set(NAMES) - BN,
    ("all", "not stem", "not stage1"): HEAD | {"layer10.weight"},
    ("stem", "not bn"): {"conv1.weight"},
    ("*.bias",): {"bn1.bias", "layer1.0.norm.bias", "fc.bias"},
    ("fc.weight",): {"fc.weight"},
    ("layer1*",): STAGE1 | {"layer10.weight"},
    ("layer1.*",): STAGE1,
    ("all", "not *.bias"): {name for name in NAMES if not name.endswith(".bias")},
    ("all", "none"): set(NAMES),
    ("head", "not head"): set(),
}


@pytest.mark.parametrize(("selection", "expected"), PARAMETERS.items(), ids=map(str, PARAMETERS))
def test_selection_of_parameters(selection, expected):
    assert select(selection, NAMES, LAYOUT) == expected


NORMS = {
    ("all",): {"bn1", "layer1.0.norm"},
    ("bn",): {"bn1", "layer1.0.norm"},
    ("none",): set(),
    ("stem",): {"bn1"},
    ("stage1",): {"layer1.0.norm"},
    ("all", "not stem"): {"layer1.0.norm"},
    ("layer1.*",): {"layer1.0.norm"},
}


@pytest.mark.parametrize(("selection", "expected"), NORMS.items(), ids=map(str, NORMS))
def test_selection_of_norms(selection, expected):
    assert select(selection, LAYOUT.norms, LAYOUT) == expected


def test_entries_are_read_from_left_to_right():
    assert select(["all", "not bn", "bn1.bias"], NAMES, LAYOUT) == set(NAMES) - BN | {"bn1.bias"}
    assert select(["not bn", "all"], NAMES, LAYOUT) == set(NAMES)


@pytest.mark.parametrize("entry", ["stage2", "Head", "fc", "FC.weight", "not stage2", "nothing*"])
def test_an_entry_that_matches_nothing_is_refused_with_what_is_legal(entry):
    with pytest.raises(HarnessError) as caught:
        select(["all", entry], NAMES, LAYOUT)
    assert str(caught.value) == (
        f"{entry.removeprefix('not ')!r} matches nothing; legal: all, none, bn, stem, stage1, stage10, head, last N, "
        "last N layers, from NAME, or a glob over names such as 'conv1.weight'"
    )


def test_an_unknown_norm_is_refused_on_a_model_without_norms_too():
    with pytest.raises(HarnessError, match=r"'bn7' matches nothing; legal: all, none, bn, stem"):
        select(["bn7"], (), WITHOUT_NORMS)


@pytest.mark.parametrize("name", ["fcx.weight", "xfc.weight", "layer2.0.weight", "f"])
def test_a_name_in_no_stage_is_an_error(name):
    with pytest.raises(KeyError, match="in no stage"):
        LAYOUT.stage(name)


def test_a_stage_goes_by_whole_names():
    assert [LAYOUT.stage(name) for name in ("layer1.0.norm", "layer10.weight", "fc")] == ["stage1", "stage10", "head"]


def test_without_batch_norm_head_bn_is_head():
    head, head_bn = (resolve(POLICIES[name], WITHOUT_NORMS, 1e-4) for name in ("head", "head_bn"))
    assert head == head_bn
    assert head[0].trainable == HEAD


def test_with_batch_norm_head_bn_is_more_than_head():
    (phase,) = resolve(POLICIES["head_bn"], LAYOUT, 1e-4)
    assert phase.trainable == HEAD | BN
    assert phase.bn_stats == ("bn1", "layer1.0.norm")


def test_affine_parameters_and_statistics_are_two_axes():
    for trainable, learns in ((("head",), HEAD), (("head", "bn"), HEAD | BN)):
        for bn_stats, follow in ((("none",), ()), (("all",), ("bn1", "layer1.0.norm"))):
            (phase,) = resolve(Policy((Phase(trainable, bn_stats),)), LAYOUT, 1e-4)
            assert phase.trainable == learns
            assert phase.bn_stats == follow


def test_statistics_stand_in_the_order_of_the_model():
    (phase,) = resolve(Policy((Phase(("all",), ("stage1", "stem")),)), LAYOUT, 1e-4)
    assert phase.bn_stats == ("bn1", "layer1.0.norm")


@pytest.mark.parametrize("trainable", [("none",), (), ("not bn",), ("all", "not all")])
def test_a_phase_in_which_nothing_learns_is_refused(trainable):
    with pytest.raises(HarnessError, match=r"trainable: \[.*\] leaves nothing to learn"):
        resolve(Policy((Phase(trainable),)), LAYOUT, 1e-4)


def test_bn_alone_leaves_nothing_to_learn_where_there_is_none():
    with pytest.raises(HarnessError, match=r"trainable: \['bn'\] leaves nothing to learn"):
        resolve(Policy((Phase(("bn",)),)), WITHOUT_NORMS, 1e-4)


@pytest.mark.parametrize("starts", [(0.1,), (0.0, 0.5, 0.5), (0.0, 0.6, 0.3), (0.5, 0.0)])
def test_phases_must_start_at_0_and_then_later_and_later(starts):
    phases = tuple(Phase(("all",), start=start) for start in starts)
    with pytest.raises(HarnessError, match="phases must start at 0 and then later and later"):
        resolve(Policy(phases), LAYOUT, 1e-4)


def test_phases_keep_their_start_and_whether_they_restart_the_schedule():
    phases = (Phase(("head",)), Phase(("all",), start=0.25, restart_schedule=True))
    resolved = resolve(Policy(phases), LAYOUT, 1e-4)
    assert [(phase.start, phase.restart_schedule) for phase in resolved] == [(0.0, False), (0.25, True)]
    assert [len(phase.trainable) for phase in resolved] == [2, 9]


def test_without_rules_there_is_one_group_in_the_order_of_the_model():
    (phase,) = resolve(Policy((Phase(("all",), lr_factor=0.1),)), LAYOUT, 0.01)
    (group,) = phase.groups
    assert (list(group.names), group.weight_decay, group.lr_factor) == (NAMES, 0.01, 0.1)


def test_rules_multiply_over_the_parameters_they_match():
    rules = [ParamRule(1, 0.5, 3.0), ParamRule(1, 0.5), ParamRule(4, lr_factor=2.0), ParamRule(3, 0.0, 0.0)]
    (phase,) = resolve(Policy((Phase(("all",), lr_factor=0.1),)), LAYOUT, 0.04, rules)
    factors = {name: (group.weight_decay, group.lr_factor) for group in phase.groups for name in group.names}
    assert list(factors) != NAMES  # three groups, by what they share
    for name, shape in LAYOUT.parameters:
        expected = {1: (0.01, 0.3), 2: (0.04, 0.1), 4: (0.04, 0.2)}[len(shape)]
        assert factors[name] == pytest.approx(expected), name


def test_a_rule_without_effect_leaves_no_trace():
    """Two cells that are one program must have one digest."""
    rule = ParamRule(1, weight_decay_factor=0.0)
    no_vectors = Policy((Phase(("*.weight", "not bn")),))
    for policy, weight_decay in ((POLICIES["full"], 0.0), (no_vectors, 0.01)):
        assert resolve(policy, LAYOUT, weight_decay, [rule]) == resolve(policy, LAYOUT, weight_decay)


def test_a_parameter_is_in_one_group_only():
    (phase,) = resolve(POLICIES["full"], LAYOUT, 0.01, [ParamRule(1, 0.0)])
    names = [name for group in phase.groups for name in group.names]
    assert sorted(names) == sorted(NAMES)


def test_an_overlap_of_entries_selects_a_parameter_once():
    selection = Policy((Phase(("head", "fc.*", "all"), ("all", "bn", "stem")),))
    assert resolve(selection, LAYOUT, 0.01) == resolve(POLICIES["full"], LAYOUT, 0.01)
