import pytest
import torch
import torchvision

from harness.errors import HarnessError
from harness.freezing.policies import POLICIES, Codes, Phase, Policy
from harness.freezing.resolve import ResolvedPhase, resolve, resolve_codes, select
from harness.models.build import layout_of
from harness.models.layout import Layout
from harness.recipe import ParamRule
from harness.spec import Model

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
    ("last 1",): {"layer10.weight"},
    ("last 2",): STAGE1 | {"layer10.weight"},
    ("last 3",): set(NAMES) - HEAD,
    ("all", "not last 2"): STEM | HEAD,
    ("last 1 layers",): {"layer10.weight"},
    ("last 2 layers",): STAGE1 | {"layer10.weight"},
    ("last 3 layers", "not bn"): {"conv1.weight", "layer1.0.conv1.weight", "layer10.weight"},
    ("from stem",): set(NAMES),
    ("from stage1",): STAGE1 | {"layer10.weight"} | HEAD,
    ("from layer1",): STAGE1 | {"layer10.weight"} | HEAD,
    ("from layer1.0.norm",): {"layer1.0.norm.weight", "layer1.0.norm.bias", "layer10.weight"} | HEAD,
    ("from layer1.0.norm.bias",): {"layer1.0.norm.bias", "layer10.weight"} | HEAD,
    ("from head",): HEAD,
    ("from fc.bias",): {"fc.bias"},
    ("all", "not from stage10"): STEM | STAGE1,
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
    ("head",): set(),
    ("stage10",): set(),
    ("last 1",): set(),
    ("last 2",): {"layer1.0.norm"},
    ("last 1 layers",): set(),
    ("last 2 layers",): {"layer1.0.norm"},
    ("last 3 layers",): {"bn1", "layer1.0.norm"},
    ("from stem",): {"bn1", "layer1.0.norm"},
    ("from bn1",): {"bn1", "layer1.0.norm"},
    ("from bn1.bias",): {"layer1.0.norm"},
    ("from layer1.0.conv1",): {"layer1.0.norm"},
    ("from layer10",): set(),
    ("all", "not from stage1"): {"bn1"},
}


@pytest.mark.parametrize(("selection", "expected"), NORMS.items(), ids=map(str, NORMS))
def test_selection_of_norms(selection, expected):
    assert select(selection, LAYOUT.norms, LAYOUT) == expected


@pytest.mark.parametrize("selection", [("bn",), ("stem",), ("last 2",), ("last 2 layers",), ("from stage1",)])
def test_a_part_of_the_model_without_batch_norm_is_no_error(selection):
    assert select(selection, (), WITHOUT_NORMS) == set()


RESNET8_2 = {
    *("layer3.0.conv2.weight", "layer3.0.bn2.weight", "layer3.0.bn2.bias"),
    *("layer3.0.downsample.0.weight", "layer3.0.downsample.1.weight", "layer3.0.downsample.1.bias"),
}
RESNET8_4 = RESNET8_2 | {
    *("layer3.0.conv1.weight", "layer3.0.bn1.weight", "layer3.0.bn1.bias"),
    *("layer2.0.downsample.0.weight", "layer2.0.downsample.1.weight", "layer2.0.downsample.1.bias"),
}
RESNET50_4 = {
    *("layer4.2.conv3.weight", "layer4.2.bn3.weight", "layer4.2.bn3.bias"),
    *("layer4.2.conv2.weight", "layer4.2.bn2.weight", "layer4.2.bn2.bias"),
    *("layer4.2.conv1.weight", "layer4.2.bn1.weight", "layer4.2.bn1.bias"),
    *("layer4.1.conv3.weight", "layer4.1.bn3.weight", "layer4.1.bn3.bias"),
}


@pytest.mark.parametrize(
    ("model", "count", "expected"),
    [("cifar_resnet8", 2, RESNET8_2), ("cifar_resnet8", 4, RESNET8_4), ("resnet50", 4, RESNET50_4)],
)
def test_last_layers_of_a_model(model, count, expected):
    layout = layout_of(Model(name=model), 2)
    names = [name for name, _ in layout.parameters]
    assert select([f"last {count} layers"], names, layout) == expected
    norms = {name.removesuffix(".bias") for name in expected if name.endswith(".bias")}
    assert select([f"last {count} layers"], layout.norms, layout) == norms


def test_last_layers_of_a_vgg_are_counted_across_convolutions_and_linear_layers():
    with torch.device("meta"):
        module = torchvision.models.vgg11_bn()
    parameters = tuple((name, tuple(p.shape)) for name, p in module.named_parameters())
    norms = tuple(name for name, child in module.named_modules() if isinstance(child, torch.nn.BatchNorm2d))
    stages = (("stem", ("features",)), ("fc", ("classifier.0", "classifier.3")), ("head", ("classifier.6",)))
    layout = Layout(parameters, norms, stages)
    expected = {
        *("classifier.3.weight", "classifier.3.bias", "classifier.0.weight", "classifier.0.bias"),
        *("features.25.weight", "features.25.bias", "features.26.weight", "features.26.bias"),
    }
    assert select(["last 3 layers"], [name for name, _ in parameters], layout) == expected
    assert select(["last 3 layers"], norms, layout) == {"features.26"}


IMPOSSIBLE = {
    "last 4": "the model has 3 stages before the head, so N is 1 to 3",
    "last 0": "the model has 3 stages before the head, so N is 1 to 3",
    "last -1": "the model has 3 stages before the head, so N is 1 to 3",
    "last two": "the model has 3 stages before the head, so N is 1 to 3",
    "last 4 layers": "the model has 3 layers before the head, so N is 1 to 3",
}


@pytest.mark.parametrize(("entry", "message"), IMPOSSIBLE.items(), ids=IMPOSSIBLE)
def test_more_than_there_is_is_refused(entry, message):
    for names in (NAMES, LAYOUT.norms):
        with pytest.raises(HarnessError) as caught:
            select([entry], names, LAYOUT)
        assert str(caught.value) == f"{entry!r} is not possible: {message}"


@pytest.mark.parametrize("name", ["stage2", "layer", "fc.weigh", "bn", "relu"])
def test_a_beginning_that_is_nowhere_is_refused_with_what_is_legal(name):
    with pytest.raises(HarnessError) as caught:
        select([f"from {name}"], NAMES, LAYOUT)
    assert str(caught.value) == (
        f"'from {name}' begins nowhere; legal: stem, stage1, stage10, head, "
        "or a module or parameter such as 'conv1.weight'"
    )


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


def test_layer_decay_falls_with_each_stage_down_from_the_head():
    """As in BEiT: the head is at full rate, what lies just below it one factor down."""
    rate = {"head": 0.1, "stage10": 0.05, "stage1": 0.025, "stem": 0.0125}
    (phase,) = resolve(Policy((Phase(("all",), lr_factor=0.1),), layer_decay=0.5), LAYOUT, 0.01)
    found = {name: group.lr_factor for group in phase.groups for name in group.names}
    assert found == {name: rate[LAYOUT.stage(name)] for name in NAMES}
    (ruled,) = resolve(Policy((Phase(("all",)),), layer_decay=0.5), LAYOUT, 0.01, [ParamRule(1, lr_factor=2.0)])
    factors = {name: group.lr_factor for group in ruled.groups for name in group.names}
    assert (factors["conv1.weight"], factors["bn1.bias"], factors["fc.bias"]) == (0.125, 0.25, 2.0)


def test_layer_decay_of_1_leaves_no_trace():
    phases = (Phase(("all",)),)
    assert resolve(Policy(phases, layer_decay=1.0), LAYOUT, 0.01) == resolve(Policy(phases), LAYOUT, 0.01)


def test_codes_have_one_phase_in_which_nothing_learns():
    policy = Policy(codes=Codes("svm"))
    assert resolve(policy, LAYOUT, 0.01) == (ResolvedPhase(0.0, (), (), False),)


@pytest.mark.parametrize(("stage", "found"), [("last", "stage10"), ("stage10", "stage10"), ("stem", "stem")])
def test_codes_name_their_stage(stage, found):
    codes = Codes("softmax", stage, rectified=False, cs=(0.5, 1.0))
    assert resolve_codes(Policy(codes=codes), LAYOUT) == Codes("softmax", found, rectified=False, cs=(0.5, 1.0))


@pytest.mark.parametrize("stage", ["head", "layer1", "stage2"])
def test_codes_of_a_stage_that_is_not_there_are_refused(stage):
    with pytest.raises(HarnessError, match=f"unknown stage of codes '{stage}'; legal: last, stem, stage1, stage10"):
        resolve_codes(Policy(codes=Codes("svm", stage)), LAYOUT)


def test_a_policy_without_codes_has_none():
    assert resolve_codes(POLICIES["full"], LAYOUT) is None


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
