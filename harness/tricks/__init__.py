"""The tricks: one file each, listed here in canonical order, the order in which they are applied.

A trick is a frozen dataclass of its parameters (the paper's values by default) that maps a Recipe to a Recipe. Its
first docstring line is what `harness tricks` prints; `source` names the paper.
"""

from collections.abc import Mapping
from typing import ClassVar, Protocol

from harness.recipe import Recipe
from harness.tricks.cosine import CosineTrick
from harness.tricks.cutmix import CutMixTrick
from harness.tricks.distillation import DistillationTrick
from harness.tricks.ema import EmaTrick
from harness.tricks.label_smoothing import LabelSmoothingTrick
from harness.tricks.linear_scaling import LinearScalingTrick
from harness.tricks.mixed_precision import MixedPrecisionTrick
from harness.tricks.mixup import MixupTrick
from harness.tricks.no_bias_decay import NoBiasDecayTrick
from harness.tricks.random_erasing import RandomErasingTrick
from harness.tricks.resnet_b import ResNetBTrick
from harness.tricks.resnet_c import ResNetCTrick
from harness.tricks.resnet_d import ResNetDTrick
from harness.tricks.trivial_augment import TrivialAugmentTrick
from harness.tricks.warmup import WarmupTrick
from harness.tricks.zero_gamma import ZeroGammaTrick


class Trick(Protocol):
    """A pure function from recipe to recipe, with its parameters."""

    source: ClassVar[str]

    def __call__(self, recipe: Recipe) -> Recipe:
        """Return the recipe with this trick; raises Conflict where the seam it wants is taken."""


TRICKS: dict[str, type[Trick]] = {
    "resnet_b": ResNetBTrick,
    "resnet_c": ResNetCTrick,
    "resnet_d": ResNetDTrick,
    "zero_gamma": ZeroGammaTrick,
    "linear_scaling": LinearScalingTrick,
    "warmup": WarmupTrick,
    "no_bias_decay": NoBiasDecayTrick,
    "mixed_precision": MixedPrecisionTrick,
    "cosine": CosineTrick,
    "label_smoothing": LabelSmoothingTrick,
    "distillation": DistillationTrick,
    "trivial_augment": TrivialAugmentTrick,
    "random_erasing": RandomErasingTrick,
    "mixup": MixupTrick,
    "cutmix": CutMixTrick,
    "ema": EmaTrick,
}


def compose(tricks: Mapping[str, Trick]) -> Recipe:
    """Return the recipe of a set of tricks by label, whatever order it comes in.

    Levels of one trick follow each other by label. Raises Conflict where two own one seam.
    """
    order = list(TRICKS.values())
    recipe = Recipe()
    for _, trick in sorted(tricks.items(), key=lambda item: (order.index(type(item[1])), item[0])):
        recipe = trick(recipe)
    return recipe
