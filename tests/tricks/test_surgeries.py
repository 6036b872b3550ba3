"""ResNet-B, C and D as edits of the network's description; what they compute is tested with the models."""

from typing import Any

import pytest
import torch

from harness.errors import HarnessError
from harness.models.build import build_model
from harness.recipe import Recipe, Surgery
from harness.spec import Model
from harness.tricks.resnet_b import ResNetBTrick, StrideInSecond
from harness.tricks.resnet_c import DeepStem, ResNetCTrick
from harness.tricks.resnet_d import AverageShortcut, ResNetDTrick
from tests.watching import BOTTLENECKS, two_steps, watch

TRICKS: dict[str, Any] = {"resnet_b": ResNetBTrick, "resnet_c": ResNetCTrick, "resnet_d": ResNetDTrick}
SURGERIES: dict[str, Surgery] = {"resnet_b": StrideInSecond(), "resnet_c": DeepStem(), "resnet_d": AverageShortcut()}
MINI = "mini_resnet14"


@pytest.mark.parametrize("name", TRICKS)
@pytest.mark.parametrize("where", ["source", "target", "both"])
def test_tricks_add_their_surgery_where_it_is_asked_for_and_nothing_else(name, where, read_trick):
    trick = read_trick(f"{name}: {{where: {where}}}")
    assert trick == TRICKS[name](where)
    assert trick(Recipe()) == Recipe(surgeries=((where, SURGERIES[name]),))


@pytest.mark.parametrize("name", TRICKS)
def test_both_networks_are_edited_by_default(name, read_trick):
    assert read_trick(f"{name}: ") == TRICKS[name]("both")


@pytest.mark.parametrize("name", TRICKS)
def test_another_place_is_refused(name, read_trick):
    with pytest.raises(HarnessError, match=rf"tiny.yaml:10: tricks\.{name}\.where: \"head\" should be 'source', 'tar"):
        read_trick(f"{name}: {{where: head}}")


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("resnet_b", Model(name="resnet50", variant="a"), Model(name="resnet50")),
        ("resnet_c", Model(name="resnet18"), Model(name="resnet18", deep_stem=True)),
        ("resnet_d", Model(name="cifar_resnet8"), Model(name="cifar_resnet8", avg_down=True)),
    ],
)
def test_a_surgery_edits_its_part_and_no_other(name, before, after):
    assert SURGERIES[name](before) == after
    assert SURGERIES[name](after) == after


def test_resnet_b_is_what_torchvision_builds_already():
    """torchvision/models/resnet.py: the stride is at the 3×3 convolution."""
    for name in ("resnet50", MINI):
        assert StrideInSecond()(Model(name=name)) == Model(name=name)


def test_all_three_together_are_one_network_in_any_order():
    b, c, d = SURGERIES.values()
    together = Model(name=MINI, deep_stem=True, avg_down=True)
    assert b(c(d(BOTTLENECKS))) == d(c(b(BOTTLENECKS))) == c(b(d(BOTTLENECKS))) == together


@pytest.mark.parametrize(
    ("name", "model", "said"),
    [
        ("resnet_b", "resnet34", "variant means nothing for resnet34: it has no bottleneck blocks, whose stride"),
        ("resnet_b", "cifar_resnet20", "it has no bottleneck blocks"),
        ("resnet_c", "cifar_resnet8", "deep_stem means nothing for cifar_resnet8: it has no 7×7 stem, in whose place"),
        ("resnet_c", "mobilenet_v2", "it has no 7×7 stem"),
        ("resnet_d", "alexnet", "avg_down means nothing for alexnet: it has no downsampling shortcuts, which could"),
    ],
)
def test_networks_with_nothing_to_edit_are_refused_with_a_reason(name, model, said):
    with pytest.raises(ValueError, match=said):
        SURGERIES[name](Model(name=model))


@pytest.mark.parametrize("name", TRICKS)
def test_a_surgery_trains_the_network_it_describes(name, tmp_path):
    """Two steps with the trick are two steps of the network edited by hand."""
    parts: dict[str, dict[str, Any]] = {
        "resnet_b": {"variant": "b"},
        "resnet_c": {"deep_stem": True},
        "resnet_d": {"avg_down": True},
    }
    by_hand = Model.model_validate({**BOTTLENECKS.model_dump(), **parts[name]})
    with_trick = watch(two_steps({name: TRICKS[name]()}, model=BOTTLENECKS), tmp_path)
    described = watch(two_steps(model=by_hand), tmp_path)
    assert [step.loss for step in with_trick] == [step.loss for step in described]
    assert set(with_trick[0].before) == set(build_model(by_hand, 2, 0).state_dict())
    plain = watch(two_steps(model=BOTTLENECKS), tmp_path)
    assert with_trick[0].loss != plain[0].loss
    assert torch.equal(with_trick[0].images, plain[0].images)
