"""Operations by phase, against torch's own count of a step forward and backward."""

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from harness import flops
from harness.freezing.apply import begin_phase, training_mode
from harness.freezing.policies import POLICIES
from harness.freezing.policy import Phase, Policy
from harness.freezing.resolve import resolve
from harness.models import outputs
from harness.models.build import build_model, layout_of
from harness.spec import Model
from tests.watching import two_steps

SHORTCUT = Policy((Phase(("layer2.0.conv1.weight", "head")),))
"""The second block's first convolution learns, and not the shortcut beside it, whose input then needs no gradient."""


@pytest.mark.parametrize("model", [Model(name="resnet18"), Model(name="mini_resnet14", variant="a", deep_stem=True)])
@pytest.mark.parametrize("policy", [*map(POLICIES.get, ("full", "head", "last_stage", "bn_only", "lp_ft")), SHORTCUT])
def test_operations_of_each_phase_are_those_that_torch_counts(model, policy):
    training = two_steps()
    phases = resolve(policy, layout_of(model, 2), 0.0)
    counted = []
    with torch.device("meta"):
        module, images, targets = build_model(model, 2, seed=0), torch.empty(2, 3, 32, 32), torch.empty(2, 2)
    for phase in phases:
        begin_phase(module, phase)
        training_mode(module, phase)
        with FlopCounterMode(display=False) as counter:
            outputs.loss(module(images), targets).backward()
        counted.append(counter.get_total_flops() / 2)
    data = training.data.model_copy(update={"image_size": 32})
    for phase, expected in zip(phases, counted, strict=True):
        alone = replace(training, model=model, data=data, phases=(replace(phase, start=0.0),))
        assert flops.of_training(alone) == expected


@pytest.mark.parametrize("policy", ["full", "head", "last_stage"])
def test_operations_of_a_segmentor_are_those_that_torch_counts(policy):
    model = Model(name="mini_resnet14", head="deeplabv3")
    (phase,) = resolve(POLICIES[policy], layout_of(model, 3), 0.0)
    with torch.device("meta"):
        module, images = build_model(model, 3, seed=0), torch.empty(2, 3, 32, 32)
    begin_phase(module, phase)
    training_mode(module, phase)
    with FlopCounterMode(display=False) as counter:
        made = module(images)
        (made["out"].sum() + made["aux"].sum()).backward()
    assert flops.of_training(of_model(model, phase, 32)) == counter.get_total_flops() / 2


def of_model(model, phase, size):
    """A training of a model on images of that size."""
    training = two_steps()
    data = training.data.model_copy(update={"image_size": size})
    return replace(training, model=model, classes=3, data=data, phases=(phase,))


BOX = {"boxes": torch.tensor([[4.0, 4.0, 40.0, 36.0]]), "labels": torch.tensor([1])}


@pytest.mark.parametrize("policy", ["full", "last_3_stages_bn_frozen", "head"])
def test_operations_of_a_faster_rcnn_are_about_those_of_a_step_on_images(policy):
    """The estimate has the most regions that there may be; after suppression images have fewer."""
    model = Model(name="mini_resnet14", head="faster_rcnn")
    (phase,) = resolve(POLICIES[policy], layout_of(model, 3), 0.0)
    module = build_model(model, 3, seed=0, image_size=64)
    begin_phase(module, phase)
    training_mode(module, phase)
    with FlopCounterMode(display=False) as counter:
        sum(module([*torch.rand(2, 3, 64, 64)], [BOX, BOX]).values()).backward()
    counted = counter.get_total_flops() / 2
    assert counted <= flops.of_training(of_model(model, phase, 64)) < 1.5 * counted


def test_operations_of_an_ssdlite_are_those_of_a_pass_over_images():
    """Forward: what torch counts backward of grouped convolutions is too much by the number of groups."""
    model = Model(name="mobilenet_v3_small", head="ssdlite")
    (phase,) = resolve(POLICIES["full"], layout_of(model, 3), 0.0)
    module = build_model(model, 3, seed=0, image_size=64).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module([*torch.rand(2, 3, 64, 64)])
    forward = counter.get_total_flops() / 2
    assert flops.of_forward(of_model(model, phase, 64)) == forward
    assert 2.5 * forward < flops.of_training(of_model(model, phase, 64)) <= 3 * forward


def test_the_time_of_a_detector_is_that_of_detecting():
    model = Model(name="mini_resnet14", head="faster_rcnn")
    (phase,) = resolve(POLICIES["full"], layout_of(model, 3), 0.0)
    assert 0 < flops.seconds_per_image(of_model(model, phase, 40), torch.device("cpu")) < 60
