"""Cosine decay of the learning rate."""

import math
from dataclasses import dataclass
from typing import ClassVar

from harness.recipe import Recipe


@dataclass(frozen=True)
class CosineDecay:
    """½(1 + cos(πt/T)) over the T batches after warmup (He et al. 2018, §5.1; Loshchilov & Hutter 2017)."""

    def __call__(self, progress: float, warmup_end: float) -> float:
        """Return the factor; 1 while `progress` is below `warmup_end`."""
        t = max(0.0, progress - warmup_end) / (1.0 - warmup_end)
        return 0.5 * (1.0 + math.cos(math.pi * t))


@dataclass(frozen=True)
class CosineTrick:
    """Learning rate falls along half a cosine, in place of the steps."""

    source: ClassVar[str] = "He et al. 2018, §5.1"

    def __call__(self, recipe: Recipe) -> Recipe:
        """Own the recipe's decay."""
        return recipe.owning("decay", CosineDecay())
