"""CutMix."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from harness.recipe import Recipe

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

Box = tuple[int, int, int, int]
"""Top, left, bottom and right, the last two exclusive."""


def box_around(row: int, column: int, lam: float, height: int, width: int) -> Box:
    """Return the box of sides √(1 − λ) times those of the image, as far as it lies inside (Yun et al. 2019, eq. 2)."""
    half = 0.5 * math.sqrt(1 - lam)
    tall, wide = int(half * height), int(half * width)
    return max(row - tall, 0), max(column - wide, 0), min(row + tall, height), min(column + wide, width)


def cutmix(images: Tensor, targets: Tensor, box: Box, order: Tensor) -> tuple[Tensor, Tensor]:
    """Return x with x′ in `box`, and λy + (1 − λ)y′, where (x′, y′) is the batch in `order` [N].

    λ is the share of the image outside the box (Yun et al. 2019, eq. 1).
    """
    top, left, bottom, right = box
    mixed = images.clone()
    mixed[..., top:bottom, left:right] = images[..., top:bottom, left:right][order]
    lam = 1 - (bottom - top) * (right - left) / (images.shape[-2] * images.shape[-1])
    return mixed, targets[order].lerp(targets, lam)


@dataclass(frozen=True)
class BatchCutMix:
    """One λ ~ Beta(α, α), one box and one permutation for each batch; the centre of the box is any pixel."""

    alpha: float

    def __call__(self, images: Tensor, targets: Tensor, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Mix images [N, C, H, W] and targets [N, K]."""
        from harness.devices import sent  # here, so that listing the tricks does not wait for torch

        height, width = images.shape[-2:]
        lam = generator.beta(self.alpha, self.alpha)
        row, column = int(generator.integers(height)), int(generator.integers(width))
        order = sent(generator.permutation(len(images)), images.device)
        return cutmix(images, targets, box_around(row, column, lam, height, width), order)


@dataclass(frozen=True)
class CutMixTrick:
    """Train on images with a box of another one pasted in, and targets mixed by its area."""

    source: ClassVar[str] = "Yun et al. 2019, §3.1"
    alpha: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0

    def __call__(self, recipe: Recipe) -> Recipe:
        """Add CutMix to the recipe's mixes."""
        return recipe.adding_one("mixes", BatchCutMix(self.alpha))
