"""Linear scaling of the learning rate with the batch size."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from harness.recipe import Recipe


@dataclass(frozen=True)
class BatchRatio:
    """batch_size / reference (He et al. 2018, §3.1: 0.1·b/256; Goyal et al. 2017, §2.1)."""

    reference: int

    def __call__(self, batch_size: int) -> float:
        """Return the factor on the learning rate."""
        return batch_size / self.reference


@dataclass(frozen=True)
class LinearScalingTrick:
    """Learning rate grows with the batch size: the spec's is that of the reference batch."""

    source: ClassVar[str] = "He et al. 2018, §3.1"
    reference: Annotated[int, Field(gt=0)] = 256
    """Batch size at which the learning rate is the spec's own."""

    def __call__(self, recipe: Recipe) -> Recipe:
        """Add the factor to the recipe's learning-rate scales."""
        return recipe.adding_one("lr_scales", BatchRatio(self.reference))
