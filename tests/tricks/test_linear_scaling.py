import pytest

from harness.errors import HarnessError
from harness.recipe import Conflict, Recipe
from harness.tricks import compose
from harness.tricks.linear_scaling import BatchRatio, LinearScalingTrick
from tests.watching import PLAIN_SGD, changed, two_steps, watch


@pytest.mark.parametrize(("batch_size", "factor"), [(256, 1.0), (1024, 4.0), (64, 0.25), (8, 0.03125), (100, 0.390625)])
def test_factor_is_that_of_the_paper(batch_size, factor):
    """He et al. 2018, §3.1: 0.1 × b/256; efficient training at b = 1024 has a learning rate of 0.4."""
    assert BatchRatio(256)(batch_size) == factor


def test_trick_adds_to_the_scales_and_nothing_else():
    assert LinearScalingTrick()(Recipe()) == Recipe(lr_scales=(BatchRatio(256),))


def test_two_levels_conflict():
    with pytest.raises(Conflict, match="two BatchRatio stand in the lr_scales of the recipe; only one can"):
        compose({"a": LinearScalingTrick(128), "b": LinearScalingTrick(256)})


def test_a_step_is_shorter_by_the_factor(tmp_path):
    tricks = {"linear_scaling": LinearScalingTrick(reference=32)}
    base, with_trick = (watch(two_steps(each, optimizer=PLAIN_SGD), tmp_path) for each in ({}, tricks))
    assert base[0].lr == 0.05
    assert [step.lr for step in with_trick] == pytest.approx([step.lr / 4 for step in base])
    assert changed(base[0].after, with_trick[0].after) >= {"conv1.weight", "fc.weight"}
    whole, part = (steps[0].after["fc.bias"] - steps[0].before["fc.bias"] for steps in (base, with_trick))
    assert part.tolist() == pytest.approx((whole / 4).tolist(), rel=1e-3)


def test_parameters_as_a_user_writes_them(read_trick):
    assert read_trick("linear_scaling: ") == LinearScalingTrick(reference=256)
    assert read_trick("linear_scaling: {reference: 128}") == LinearScalingTrick(reference=128)


@pytest.mark.parametrize("value", ["0", "-256", "0.5", ".inf", "'256'"])
def test_reference_must_be_a_whole_number_above_0(read_trick, value):
    with pytest.raises(HarnessError, match=r"tiny.yaml:10: tricks\.linear_scaling\.reference"):
        read_trick(f"linear_scaling: {{reference: {value}}}")
