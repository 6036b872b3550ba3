"""Stages that a spec describes, for models the harness does not know."""

import pytest
from pydantic import ValidationError

from harness.errors import HarnessError
from harness.models.build import build_model, layout_of
from harness.spec import Model

STAGES = {"stem": ["conv1", "bn1"], "body": ["layer[1-3]", "layer4"], "head": ["fc"]}


def model(stages, name: str = "resnext50_32x4d") -> Model:
    return Model.model_validate({"name": name, "stages": stages})


def test_prefixes_and_globs_stand_for_the_outermost_names_that_match():
    layout = layout_of(model(STAGES), 3)
    assert layout.stages == (
        ("stem", ("conv1", "bn1")),
        ("body", ("layer1", "layer2", "layer3", "layer4")),
        ("head", ("fc",)),
    )
    assert layout.stage("layer3.0.conv2.weight") == "body"
    assert layout.head == ("fc",)
    assert len(layout.last_norms) == 16


def test_the_model_is_torchvisions_and_described_models_are_hashable():
    module = build_model(model(STAGES), 3, seed=0)
    assert module.get_submodule("layer1.0.conv2").groups == 32
    assert hash(model(STAGES)) == hash(model(STAGES))


def test_a_parameter_of_its_own_may_be_named():
    stages = {"stem": ["conv_proj", "class_token"], "body": ["encoder"], "head": ["heads"]}
    assert layout_of(model(stages, "vit_b_16"), 3).stage("class_token") == "stem"


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        ({**STAGES, "stem": ["conv1"]}, "parameter 'bn1.weight' of resnext50_32x4d is in no stage"),
        (
            {"stem": ["conv1", "bn1", "layer1"], **{k: v for k, v in STAGES.items() if k != "stem"}},
            "parameter 'layer1.0.conv1.weight' of resnext50_32x4d is in stages stem, body; each belongs in exactly one",
        ),
        (
            {**STAGES, "stem": ["conv1", "bn1", "norm0"]},
            "'norm0' matches no name in resnext50_32x4d, whose outermost names are conv1, bn1, relu, maxpool, layer1",
        ),
    ],
)
def test_stages_that_do_not_fit_are_refused(stages, said):
    with pytest.raises(HarnessError, match=said):
        layout_of(model(stages), 3)


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        ({}, "the last of the stages must be `head`"),
        ({"head": ["fc"], "body": ["layer1"]}, "the last of the stages must be `head`, not body"),
        ({"bn": ["bn1"], "head": ["fc"]}, "'bn' cannot name a stage"),
        ({"not stem": ["bn1"], "head": ["fc"]}, "'not stem' cannot name a stage"),
        ({"head": []}, "at least 1 item"),
    ],
)
def test_stages_that_mean_nothing_are_refused(stages, said):
    with pytest.raises(ValidationError, match=said):
        model(stages)


def test_known_models_have_stages_of_their_own():
    with pytest.raises(ValidationError, match="resnet18 has stages of its own: stem, stage1, stage2, stage3, stage4"):
        model(STAGES, "resnet18")


def test_models_the_harness_does_not_know_need_stages():
    with pytest.raises(ValidationError, match=r"unknown model 'resnet51'.*\? Other classification models of torchv"):
        Model(name="resnet51")


@pytest.mark.parametrize("name", ["resnext50", "fcn_resnet50"])
def test_models_that_torchvision_does_not_have_or_that_do_not_classify_are_refused(name):
    with pytest.raises(
        HarnessError, match=f"unknown classification model of torchvision '{name}'; legal: .*resnext50_"
    ):
        layout_of(model(STAGES, name), 3)


def test_stages_are_written_in_a_spec_as_a_mapping(write_spec):
    from harness import specfile

    path = write_spec(("{name: cifar_resnet8}", "{name: resnext50_32x4d, stages: {stem: [conv1], head: [fc]}}"))
    assert specfile.read(path).spec.model.stages == (("stem", ("conv1",)), ("head", ("fc",)))
    path = write_spec(("{name: cifar_resnet8}", "{name: resnext50_32x4d, stages: {stem: conv1, head: [fc]}}"))
    with pytest.raises(HarnessError, match=r"tiny.yaml:2: model.stages"):
        specfile.read(path)
