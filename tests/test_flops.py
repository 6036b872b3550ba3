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
