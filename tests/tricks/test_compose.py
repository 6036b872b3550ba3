from dataclasses import dataclass, replace
from itertools import combinations, permutations
from typing import ClassVar

import pytest

from harness.recipe import Conflict, ParamRule, Recipe
from harness.spec import Model
from harness.train import state_sha256
from harness.tricks import TRICKS, Trick, compose
from harness.tricks.cosine import CosineTrick
from harness.tricks.label_smoothing import LabelSmoothingTrick, Smoothing
from harness.tricks.mixup import BatchMixup, MixupTrick
from harness.tricks.no_bias_decay import NoBiasDecayTrick
from harness.tricks.resnet_b import StrideInSecond
from harness.tricks.resnet_c import DeepStem
from harness.tricks.resnet_d import AverageShortcut
from harness.tricks.warmup import LinearWarmup, WarmupTrick
from harness.tricks.zero_gamma import ZeroLastGamma
from tests.watching import BOTTLENECKS, two_steps, watch

# The paper's five epochs of warmup would outlast the tiny trainings, and so hide every decay.
ALL: dict[str, Trick] = {name: kind() for name, kind in TRICKS.items()} | {"warmup": WarmupTrick(epochs=1)}


@pytest.fixture(scope="module")
def weights_of(tmp_path_factory):
    """A function that returns the sha256 of the weights after two steps with the tricks named, in that order."""
    known: dict[tuple[str, ...], str] = {}
    cache = tmp_path_factory.mktemp("cache")

    def weights(*names: str) -> str:
        if names not in known:
            steps = watch(two_steps({name: ALL[name] for name in names}, model=BOTTLENECKS, epochs=2), cache)
            known[names] = state_sha256(steps[1].after)
        return known[names]

    return weights


def test_no_tricks_are_the_empty_recipe():
    assert compose({}) == Recipe()


def test_all_tricks_fill_the_seams_that_are_theirs():
    assert compose(ALL) == Recipe(
        surgeries=(("both", StrideInSecond()), ("both", DeepStem()), ("both", AverageShortcut())),
        inits=(("target", ZeroLastGamma()),),
        warmups=(LinearWarmup(1),),
        decay=ALL["cosine"](Recipe()).decay,
        param_rules=(ParamRule(1, weight_decay_factor=0.0),),
        target_maps=(Smoothing(0.1),),
        mixes=(BatchMixup(0.2),),
    )


def edited(recipe: Recipe) -> Model:
    """Return the network after a recipe's surgeries, whose order does not matter."""
    model = BOTTLENECKS
    for _, surgery in recipe.surgeries:
        model = surgery(model)
    return model


@pytest.mark.parametrize(("first", "second"), list(permutations(ALL, 2)))
def test_two_tricks_give_one_recipe_in_either_order(first, second):
    assert compose({first: ALL[first], second: ALL[second]}) == compose({second: ALL[second], first: ALL[first]})
    # The functions themselves commute; that they are sorted first is not what makes it so.
    either, other = ALL[first](ALL[second](Recipe())), ALL[second](ALL[first](Recipe()))
    assert replace(either, surgeries=()) == replace(other, surgeries=())
    assert edited(either) == edited(other)


@pytest.mark.parametrize(("first", "second"), list(combinations(ALL, 2)))
def test_two_tricks_give_the_same_weights_in_either_order(first, second, weights_of):
    together = weights_of(first, second)
    assert together == weights_of(second, first)
    # Neither is lost beside the other.
    assert len({together, weights_of(first), weights_of(second), weights_of()}) == 4


def test_levels_of_one_trick_follow_each_other_by_label():
    first, second = ("a", LabelSmoothingTrick(0.3)), ("b", LabelSmoothingTrick(0.1))
    for tricks in ([first, second], [second, first]):
        assert compose(dict(tricks)).target_maps == (Smoothing(0.3), Smoothing(0.1))


@dataclass(frozen=True)
class First:
    """A trick that maps targets, as label smoothing does."""

    source: ClassVar[str] = "made up"

    def __call__(self, recipe: Recipe) -> Recipe:
        return recipe.adding("target_maps", Smoothing(0.5))


def test_tricks_that_share_a_seam_stand_in_canonical_order_whatever_their_labels(monkeypatch):
    monkeypatch.setattr("harness.tricks.TRICKS", {"first": First, **TRICKS})
    for label, other in (("a", "z"), ("z", "a")):
        tricks: dict[str, Trick] = {other: LabelSmoothingTrick(0.1), label: First()}
        assert compose(tricks).target_maps == (Smoothing(0.5), Smoothing(0.1))


def test_labels_do_not_change_the_recipe():
    tricks: dict[str, Trick] = {"c": WarmupTrick(2), "b": MixupTrick(), "a": WarmupTrick(1), "d": NoBiasDecayTrick()}
    assert compose(tricks) == compose(
        {"a": WarmupTrick(1), "c": WarmupTrick(2), "x": NoBiasDecayTrick(), "y": MixupTrick()}
    )
    assert compose(tricks).warmups == (LinearWarmup(1), LinearWarmup(2))


@pytest.mark.parametrize(
    ("one", "other", "seam"), [(MixupTrick(0.1), MixupTrick(1.0), "mixes"), (CosineTrick(), CosineTrick(), "decay")]
)
def test_two_owners_of_one_seam_conflict_in_either_order(one, other, seam):
    for tricks in ({"one": one, "other": other}, {"other": other, "one": one}):
        with pytest.raises(Conflict, match=f"the {seam} of the recipe; only one can"):
            compose(tricks)


def test_a_trick_leaves_the_recipe_it_is_given_as_it_was():
    recipe = Recipe(warmups=(LinearWarmup(1),))
    for trick in ALL.values():
        assert trick(recipe) != recipe
    assert recipe == Recipe(warmups=(LinearWarmup(1),))
