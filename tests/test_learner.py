from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from harness.freezing.resolve import Group
from harness.learner import Learner, initial_model
from tests.watching import CPU, PLAIN_SGD, copy_of, two_steps

IMAGES, TARGETS = torch.rand(4, 3, 8, 8), torch.eye(2)[[0, 1, 0, 1]]


def test_a_step_is_sgd_at_the_rate_of_each_group():
    training = two_steps(optimizer=PLAIN_SGD, weight_decay=0.0)
    (phase,) = two_steps(policy="head").phases
    slow = replace(phase, groups=(Group(("fc.weight",), 0.0, 1.0), Group(("fc.bias",), 0.0, 0.1)))
    learner = Learner(initial_model(training, CPU), training, slow)
    before = copy_of(learner.module.state_dict())
    features: list[torch.Tensor] = []
    learner.module.get_submodule("fc").register_forward_pre_hook(lambda _, inputs: features.append(inputs[0]))

    loss = learner.step(IMAGES, TARGETS, lr=0.5)

    (codes,) = features
    probabilities = F.softmax(codes @ before["fc.weight"].T + before["fc.bias"], dim=1)
    torch.testing.assert_close(loss, -(TARGETS * probabilities.log()).sum(1).mean())
    error = (probabilities - TARGETS) / 4
    after = learner.module.state_dict()
    torch.testing.assert_close(after["fc.weight"], before["fc.weight"] - 0.5 * error.T @ codes)
    torch.testing.assert_close(after["fc.bias"], before["fc.bias"] - 0.05 * error.sum(0))
    assert all(parameter.grad is None for parameter in learner.module.parameters())
    assert not loss.requires_grad


def test_a_group_remembers_the_highest_rate_of_its_phase():
    (phase,) = two_steps(policy="head").phases
    slow = replace(phase, groups=tuple(replace(group, lr_factor=0.1) for group in phase.groups))
    learner = Learner(initial_model(two_steps(), CPU), two_steps(), slow)
    peaks = [group["peak_lr"] for group in learner.optimizer.param_groups]
    for lr in (0.1, 0.5, 0.2):
        learner.step(IMAGES, TARGETS, lr)
        peaks += [group["peak_lr"] for group in learner.optimizer.param_groups]
    assert peaks == pytest.approx([0.0, 0.01, 0.05, 0.05])
    learner.enter(phase)
    assert [group["peak_lr"] for group in learner.optimizer.param_groups] == [0.0]
