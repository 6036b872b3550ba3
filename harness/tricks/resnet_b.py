"""ResNet-B."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from harness.recipe import Recipe, Where

if TYPE_CHECKING:
    from harness.spec import Model


@dataclass(frozen=True)
class StrideInSecond:
    """Downsampling bottlenecks have their stride in the 3×3 convolution, which skips no pixel (He et al. 2018, §4.2).

    torchvision's networks have it there already: it changes those whose `variant` is `a`.
    """

    def __call__(self, model: Model) -> Model:
        """Return the network in its variant b; raises ValueError where it has no bottlenecks."""
        return model.edited("variant", "b")


@dataclass(frozen=True)
class ResNetBTrick:
    """Downsampling bottlenecks have their stride in the 3×3 instead of the first 1×1 convolution."""

    source: ClassVar[str] = "He et al. 2018, §4.2"
    where: Where = "both"

    def __call__(self, recipe: Recipe) -> Recipe:
        """Add the edit to the recipe's surgeries."""
        return recipe.adding("surgeries", (self.where, StrideInSecond()))
