from dataclasses import dataclass, replace
from itertools import combinations, permutations
from typing import ClassVar

import numpy as np
import pytest
import torch

from harness.models import weights
from harness.models.build import build_model
from harness.recipe import Conflict, ParamRule, Recipe, TeacherSpec
from harness.seeds import stream
from harness.spec import Augment, Model
from harness.training import Origin, Teacher
from harness.tricks import TRICKS, Trick, compose
from harness.tricks.cosine import CosineTrick
from harness.tricks.cutmix import BatchCutMix
from harness.tricks.distillation import Distillation
from harness.tricks.ema import WarmAverage
from harness.tricks.label_smoothing import LabelSmoothingTrick, Smoothing
from harness.tricks.linear_scaling import BatchRatio
from harness.tricks.mixed_precision import HalfPrecision
from harness.tricks.mixup import BatchMixup, MixupTrick
from harness.tricks.no_bias_decay import NoBiasDecayTrick
from harness.tricks.random_erasing import EraseBoxes
from harness.tricks.resnet_b import StrideInSecond
from harness.tricks.resnet_c import DeepStem
from harness.tricks.resnet_d import AverageShortcut
from harness.tricks.trivial_augment import OneOperation
from harness.tricks.warmup import LinearWarmup, WarmupTrick
from harness.tricks.zero_gamma import ZeroLastGamma
from tests.watching import BOTTLENECKS, run, two_steps

# The paper's five epochs of warmup would outlast the tiny trainings, and so hide every decay.
ALL: dict[str, Trick] = {name: kind() for name, kind in TRICKS.items()} | {"warmup": WarmupTrick(epochs=1)}


ONE_SEQUENCE = [{"trivial_augment", "random_erasing"}, {"mixup", "cutmix"}]
"""Two that stand in one sequence of the recipe: there the functions alone keep the order they are called in."""
AUGMENT = Augment(flip=True, crop_padding=1)


@dataclass(frozen=True)
class Outcome:
    """What came of a training: the weights it evaluates, and how far each random stream was drawn."""

    weights: str
    streams: dict[str, str]


@pytest.fixture(scope="module")
def outcome_of(tmp_path_factory):
    """A function that trains four steps with the tricks named, in that order."""
    known: dict[tuple[str, ...], Outcome] = {}
    cache = tmp_path_factory.mktemp("cache")
    weights.save(build_model(BOTTLENECKS, 2, seed=9).state_dict(), cache / "teacher.pt")
    teacher = Teacher(BOTTLENECKS, Origin("teacher", str(cache / "teacher.pt")))

    def outcome(*names: str) -> Outcome:
        if names not in known:
            opened: dict[str, np.random.Generator] = {}

            def spy(seed, name):
                return opened.setdefault(name, stream(seed, name))

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("harness.data.batches.stream", spy)
                tricks = {name: ALL[name] for name in names}
                training = two_steps(tricks, model=BOTTLENECKS, epochs=2, augment=AUGMENT)
                _, last = run(replace(training, teacher=teacher) if "distillation" in names else training, cache)
            streams = {name: repr(generator.bit_generator.state) for name, generator in opened.items()}
            streams["torch"] = torch.get_rng_state().numpy().tobytes().hex()
            known[names] = Outcome(last.weights_sha256, streams)
        return known[names]

    return outcome


def test_no_tricks_are_the_empty_recipe():
    assert compose({}) == Recipe()


def test_all_tricks_fill_the_seams_that_are_theirs():
    assert compose(ALL) == Recipe(
        lr_scales=(BatchRatio(256),),
        surgeries=(("both", StrideInSecond()), ("both", DeepStem()), ("both", AverageShortcut())),
        inits=(("target", ZeroLastGamma()),),
        warmups=(LinearWarmup(1),),
        decay=ALL["cosine"](Recipe()).decay,
        param_rules=(ParamRule(1, weight_decay_factor=0.0),),
        augments=(OneOperation(), EraseBoxes(0.5, (0.02, 0.33), (0.3, 3.3), (124, 116, 104))),
        target_maps=(Smoothing(0.1),),
        loss_terms=(Distillation(20.0, 1.0, 1.0),),
        teacher=TeacherSpec(),
        mixes=(BatchMixup(0.2), BatchCutMix(1.0)),
        precision=HalfPrecision(),
        average=WarmAverage(0.9998),
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
    # Sorting is not what makes it so: the functions themselves commute, but for two in one sequence.
    one, other = ALL[first](ALL[second](Recipe())), ALL[second](ALL[first](Recipe()))
    assert (replace(one, surgeries=()) == replace(other, surgeries=())) is ({first, second} not in ONE_SEQUENCE)
    assert edited(one) == edited(other)


@pytest.mark.parametrize(("first", "second"), list(combinations(ALL, 2)))
def test_two_tricks_give_the_same_weights_in_either_order(first, second, outcome_of):
    together = outcome_of(first, second)
    assert together == outcome_of(second, first)
    # Neither is lost beside the other.
    assert len({together.weights, *(outcome_of(*names).weights for names in ((first,), (second,), ()))}) == 4


@pytest.mark.parametrize("name", ALL)
def test_a_trick_changes_no_draw_but_its_own(name, outcome_of):
    without, alone = outcome_of().streams, outcome_of(name).streams
    assert set(without) == {"order", "crop", "flip", "window", "colour", "choice of mix", "torch"}
    assert without.items() <= alone.items()
    for other in ALL:
        beside = outcome_of(*sorted({other, name}, key=list(ALL).index)).streams
        if {name, other} == {"mixup", "cutmix"}:
            # Which of them is drawn for a batch decides how often each draws.
            assert {key: beside[key] for key in without if key != "choice of mix"}.items() <= alone.items()
        else:
            assert alone.items() <= beside.items()


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
