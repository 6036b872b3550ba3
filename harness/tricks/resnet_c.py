"""ResNet-C."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from harness.recipe import Recipe, Where

if TYPE_CHECKING:
    from harness.spec import Model


@dataclass(frozen=True)
class DeepStem:
    """Three 3×3 convolutions, the first with stride 2, in place of the 7×7 (He et al. 2018, §4.2)."""

    def __call__(self, model: Model) -> Model:
        """Return the network with a deep stem; raises ValueError where it has no 7×7."""
        return model.edited("deep_stem", True)


@dataclass(frozen=True)
class ResNetCTrick:
    """Three 3×3 convolutions in place of the 7×7 stem, whose pretrained weights they cannot take."""

    source: ClassVar[str] = "He et al. 2018, §4.2"
    where: Where = "both"

    def __call__(self, recipe: Recipe) -> Recipe:
        """Add the edit to the recipe's surgeries."""
        return recipe.adding("surgeries", (self.where, DeepStem()))
