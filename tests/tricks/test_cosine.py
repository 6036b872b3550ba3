from math import cos, pi
from typing import Any

import pytest
import torch

from harness.errors import HarnessError
from harness.recipe import Conflict, Recipe
from harness.spec import StepDecay
from harness.tricks.cosine import CosineDecay, CosineTrick
from tests.watching import PLAIN_SGD, changed, two_steps, watch

PLAIN: dict[str, Any] = {"optimizer": PLAIN_SGD, "decay": StepDecay(milestones=())}


@pytest.mark.parametrize("total", [1, 7, 100])
def test_factor_is_half_a_cosine(total):
    """He et al. 2018, §5.1: η_t = ½(1 + cos(tπ/T))η."""
    factors = [CosineDecay()(t / total, 0.0) for t in range(total)]
    assert factors == pytest.approx([(1 + cos(t * pi / total)) / 2 for t in range(total)], rel=1e-12)


def test_factor_matches_pytorchs_scheduler():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=50)
    for t in range(50):
        assert CosineDecay()(t / 50, 0.0) == pytest.approx(scheduler.get_last_lr()[0], rel=1e-9)
        optimizer.step()
        scheduler.step()


def test_factor_stays_1_in_warmup_and_then_spans_what_is_left():
    assert [CosineDecay()(progress, 0.25) for progress in (0.0, 0.1, 0.25)] == [1.0, 1.0, 1.0]
    assert CosineDecay()(0.5, 0.25) == pytest.approx(0.5 * (1 + cos(pi / 3)), rel=1e-12)


def test_trick_owns_the_decay_and_nothing_else():
    recipe = CosineTrick()(Recipe())
    assert recipe == Recipe(decay=CosineDecay())
    with pytest.raises(Conflict, match="both CosineDecay and CosineDecay would own the decay"):
        CosineTrick()(recipe)


def test_the_second_of_two_steps_is_half_the_baselines(tmp_path):
    """cos(π/2) = 0; both trainings are at the same weights there, so their gradients are the same."""
    base, with_trick = (watch(two_steps(tricks, **PLAIN), tmp_path) for tricks in ({}, {"cosine": CosineTrick()}))
    assert [step.lr for step in with_trick] == pytest.approx([0.05, 0.025])
    assert not changed(base[0].after, with_trick[0].after)
    for name in ("conv1.weight", "layer2.0.conv1.weight", "fc.bias"):
        whole, part = (steps[1].after[name] - steps[1].before[name] for steps in (base, with_trick))
        assert whole.abs().max() > 1e-4
        torch.testing.assert_close(part, whole / 2, rtol=1e-3, atol=1e-7)


def test_it_takes_the_place_of_the_specs_steps(tmp_path):
    steps = watch(two_steps({"cosine": CosineTrick()}, decay=StepDecay(milestones=(0.25,), factor=0.001)), tmp_path)
    assert [step.lr for step in steps] == pytest.approx([0.05, 0.025])


def test_it_has_no_parameters(read_trick):
    assert read_trick("cosine: ") == CosineTrick()
    with pytest.raises(HarnessError, match=r"unknown parameter of cosine 'epochs'; legal: \(none\)"):
        read_trick("cosine: {epochs: 1}")
