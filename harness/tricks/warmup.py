"""Gradual warmup of the learning rate."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from harness.recipe import Recipe


@dataclass(frozen=True)
class LinearWarmup:
    """η·i/m at batch i of the first m batches, i from 1 (He et al. 2018, §3.1)."""

    epochs: float

    def steps(self, steps_per_epoch: int) -> int:
        """Return m, the number of warmup batches."""
        return round(self.epochs * steps_per_epoch)

    def __call__(self, step: int, steps_per_epoch: int) -> float:
        """Return i/m for `step` = i − 1 below m, then 1."""
        m = self.steps(steps_per_epoch)
        return (step + 1) / m if step < m else 1.0


@dataclass(frozen=True)
class WarmupTrick:
    """Learning rate rises linearly from 0 over the first epochs."""

    source: ClassVar[str] = "He et al. 2018, §3.1"
    epochs: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 5.0

    def __call__(self, recipe: Recipe) -> Recipe:
        """Add the ramp to the recipe."""
        return recipe.adding("warmups", LinearWarmup(self.epochs))
