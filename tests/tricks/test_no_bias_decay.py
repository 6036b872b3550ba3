from typing import Any

import pytest
import torch

from harness.errors import HarnessError
from harness.recipe import ParamRule, Recipe
from harness.tricks.no_bias_decay import NoBiasDecayTrick
from tests.watching import PLAIN_SGD, changed, two_steps, watch

TRICK = {"no_bias_decay": NoBiasDecayTrick()}


def is_weight(name: str) -> bool:
    """Whether this parameter of a ResNet is a convolution's or the classifier's weight, by the names alone."""
    norm = "bn" in name or ".downsample.1." in name
    return name.endswith(".weight") and not norm


def test_trick_adds_a_rule_and_nothing_else():
    assert NoBiasDecayTrick()(Recipe()) == Recipe(param_rules=(ParamRule(1, weight_decay_factor=0.0),))


def test_only_convolution_and_linear_weights_are_decayed():
    """He et al. 2018, §3.1."""
    (phase,) = two_steps(TRICK, weight_decay=0.01).phases
    decay = {name: group.weight_decay for group in phase.groups for name in group.names}
    assert len(decay) == 9 + 2 * 9 + 2  # convolutions, their norms, the classifier
    assert decay == {name: 0.01 if is_weight(name) else 0.0 for name in decay}
    assert {group.lr_factor for group in phase.groups} == {1.0}


def test_the_baseline_decays_everything():
    (phase,) = two_steps(weight_decay=0.01).phases
    assert [group.weight_decay for group in phase.groups] == [0.01]


def test_only_what_learns_is_in_a_group():
    (phase,) = two_steps(TRICK, policy="head", weight_decay=0.01).phases
    assert {group.names: group.weight_decay for group in phase.groups} == {("fc.weight",): 0.01, ("fc.bias",): 0.0}


def test_a_step_of_the_baseline_pulls_biases_towards_0_and_one_of_the_trick_does_not(tmp_path):
    """One step of SGD without momentum is p − lr·(g + wd·p): the trick leaves the last term out for vectors."""
    plain: dict[str, Any] = {"optimizer": PLAIN_SGD, "weight_decay": 0.5, "lr": 0.1}
    base, with_trick = (watch(two_steps(tricks, **plain), tmp_path)[0] for tricks in ({}, TRICK))
    assert not changed(base.before, with_trick.before)
    for name, before in base.before.items():
        if is_weight(name) or "running" in name or "num_batches" in name:
            assert torch.equal(base.after[name], with_trick.after[name]), name
        else:
            pulled = with_trick.after[name] - base.after[name]
            torch.testing.assert_close(pulled, 0.1 * 0.5 * before, rtol=1e-4, atol=1e-7)
    # γ starts at 1 and the classifier's bias off 0, so that there was something to pull.
    assert changed(base.after, with_trick.after) >= {"bn1.weight", "fc.bias"}


def test_it_has_no_parameters(read_trick):
    assert read_trick("no_bias_decay: ") == NoBiasDecayTrick()
    with pytest.raises(HarnessError, match=r"unknown parameter of no_bias_decay 'ndim'; legal: \(none\)"):
        read_trick("no_bias_decay: {ndim: 1}")
