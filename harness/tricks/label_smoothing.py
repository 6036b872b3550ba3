"""Label smoothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from harness.recipe import Recipe

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Smoothing:
    """q = 1 − ε on the true class and ε/(K − 1) on each other (He et al. 2018, §5.2).

    PyTorch spreads ε over all K classes instead; ε here equals ε·K/(K − 1) there.
    """

    epsilon: float

    def __call__(self, targets: Tensor) -> Tensor:
        """Map targets [N, K]; linear, so it smooths mixed targets as it mixes smooth ones."""
        return (1 - self.epsilon) * targets + self.epsilon / (targets.shape[1] - 1) * (1 - targets)


@dataclass(frozen=True)
class LabelSmoothingTrick:
    """A little of the target goes to the other classes."""

    source: ClassVar[str] = "He et al. 2018, §5.2"
    epsilon: Annotated[float, Field(gt=0, lt=1)] = 0.1

    def __call__(self, recipe: Recipe) -> Recipe:
        """Add the smoothing to the recipe's target maps."""
        return recipe.adding("target_maps", Smoothing(self.epsilon))
