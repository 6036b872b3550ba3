"""ResNet-D."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from harness.recipe import Recipe, Where

if TYPE_CHECKING:
    from harness.spec import Model


@dataclass(frozen=True)
class AverageShortcut:
    """Shortcuts that downsample average 2×2 pixels where they skipped three of four (He et al. 2018, §4.2)."""

    def __call__(self, model: Model) -> Model:
        """Return the network with averaged shortcuts; raises ValueError where none downsamples."""
        return model.edited("avg_down", True)


@dataclass(frozen=True)
class ResNetDTrick:
    """Downsampling shortcuts average 2×2 pixels before a 1×1 convolution without stride."""

    source: ClassVar[str] = "He et al. 2018, §4.2"
    where: Where = "both"

    def __call__(self, recipe: Recipe) -> Recipe:
        """Add the edit to the recipe's surgeries."""
        return recipe.adding("surgeries", (self.where, AverageShortcut()))
