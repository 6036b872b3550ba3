"""TrivialAugment."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from harness.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from torch import Tensor

_BINS = 31
"""Magnitudes of an operation, evenly spaced, before their signs."""


class Operation(NamedTuple):
    """A map of uint8 images [N, 3, H, W] at one of its magnitudes, each as likely as any other."""

    magnitudes: tuple[float, ...]
    apply: Callable[[Tensor, float], Tensor]


@cache
def operations() -> dict[str, Operation]:
    """Return the wide space of Müller & Hutter 2021 as torchvision has it: nearest neighbour, black border.

    It moves images by up to 32 pixels whatever their size, so small ones may come out black.
    """
    import torch  # here, so that listing the tricks does not wait for it
    from torchvision.transforms.v2 import functional as F

    def spaced(first: float, last: float) -> tuple[float, ...]:
        return tuple(torch.linspace(first, last, _BINS).tolist())

    def signed(last: float) -> tuple[float, ...]:
        return (*spaced(0, last), *spaced(0, -last))

    def shear(images: Tensor, x: float, y: float) -> Tensor:
        degrees = [math.degrees(math.atan(x)), math.degrees(math.atan(y))]
        sheared: Tensor = F.affine(images, angle=0.0, translate=[0, 0], scale=1.0, shear=degrees, center=[0, 0])
        return sheared

    def translate(images: Tensor, x: float, y: float) -> Tensor:
        moved: Tensor = F.affine(images, angle=0.0, translate=[int(x), int(y)], scale=1.0, shear=[0.0, 0.0])
        return moved

    return {
        "identity": Operation((0,), lambda images, _: images),
        "shear_x": Operation(signed(0.99), lambda images, slope: shear(images, slope, 0)),
        "shear_y": Operation(signed(0.99), lambda images, slope: shear(images, 0, slope)),
        "translate_x": Operation(signed(32), lambda images, pixels: translate(images, pixels, 0)),
        "translate_y": Operation(signed(32), lambda images, pixels: translate(images, 0, pixels)),
        "rotate": Operation(signed(135), F.rotate),
        "brightness": Operation(signed(0.99), lambda images, more: F.adjust_brightness(images, 1 + more)),
        "color": Operation(signed(0.99), lambda images, more: F.adjust_saturation(images, 1 + more)),
        "contrast": Operation(signed(0.99), lambda images, more: F.adjust_contrast(images, 1 + more)),
        "sharpness": Operation(signed(0.99), lambda images, more: F.adjust_sharpness(images, 1 + more)),
        "posterize": Operation(spaced(8, 2), lambda images, bits: F.posterize(images, round(bits))),
        "solarize": Operation(spaced(1, 0), lambda images, threshold: F.solarize(images, 255 * threshold)),
        "autocontrast": Operation((0,), lambda images, _: F.autocontrast(images)),
        "equalize": Operation((0,), lambda images, _: F.equalize(images)),
    }


@dataclass(frozen=True)
class OneOperation:
    """One operation at one magnitude for each image, all drawn uniformly (Müller & Hutter 2021, Algorithm 1)."""

    def __call__(self, images: Tensor, generator: np.random.Generator) -> Tensor:
        """Map uint8 images [N, 3, H, W]; those that drew alike are mapped together."""
        import numpy as np
        import torch  # here, so that listing the tricks does not wait for it

        from harness.devices import sent

        space = list(operations().values())
        operation = generator.integers(len(space), size=len(images))
        sizes = np.array([len(each.magnitudes) for each in space])
        magnitude = (generator.random(len(images)) * sizes[operation]).astype(int)
        drawn, group = np.unique(np.stack([operation, magnitude]), axis=1, return_inverse=True)
        order = sent(np.argsort(group, kind="stable"), images.device)
        parts = images[order].split(np.bincount(group).tolist())
        mapped = []
        for part, (which, at) in zip(parts, drawn.T, strict=True):
            chosen = space[which]
            mapped.append(chosen.apply(part, chosen.magnitudes[at]))
        return torch.cat(mapped)[order.argsort()]


@dataclass(frozen=True)
class TrivialAugmentTrick:
    """Each image goes through one random operation of fourteen, at a random strength."""

    source: ClassVar[str] = "Müller & Hutter 2021, §3"

    def __call__(self, recipe: Recipe) -> Recipe:
        """Add the operation to the recipe's augmentations."""
        return recipe.adding_one("augments", OneOperation())
