"""Mixup."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from harness.recipe import Recipe

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


def mixup(images: Tensor, targets: Tensor, lam: float, order: Tensor) -> tuple[Tensor, Tensor]:
    """Return λx + (1 − λ)x′ and λy + (1 − λ)y′, where (x′, y′) is the batch in `order` [N] (Zhang et al. 2018, §1)."""
    return images[order].lerp(images, lam), targets[order].lerp(targets, lam)


@dataclass(frozen=True)
class BatchMixup:
    """One λ ~ Beta(α, α) and one permutation for each batch; only mixed images are trained on."""

    alpha: float

    def __call__(self, images: Tensor, targets: Tensor, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Mix images [N, C, H, W] and targets [N, K]."""
        from harness.devices import sent  # here, so that listing the tricks does not wait for torch

        lam = generator.beta(self.alpha, self.alpha)
        order = sent(generator.permutation(len(images)), images.device)
        return mixup(images, targets, lam, order)


@dataclass(frozen=True)
class MixupTrick:
    """Train on convex combinations of two images and their targets."""

    source: ClassVar[str] = "He et al. 2018, §5.4; Zhang et al. 2018"
    alpha: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.2

    def __call__(self, recipe: Recipe) -> Recipe:
        """Add mixup to the recipe's mixes."""
        return recipe.adding_one("mixes", BatchMixup(self.alpha))
