"""Augmentations that move an image and what is in it together; what is drawn is an argument."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.data.annotations import IGNORED
from harness.data.scene_sets import Target


def mirrored(image: Tensor, target: Target) -> tuple[Tensor, Target]:
    """Mirror an image [3, h, w] left to right, with its mask [h, w] or its boxes."""
    if isinstance(target, Tensor):
        return image.flip(2), target.flip(1)
    x1, y1, x2, y2 = target["boxes"].unbind(1)
    width = image.shape[2]
    return image.flip(2), {**target, "boxes": torch.stack([width - x2, y1, width - x1, y2], dim=1)}


def rescaled(
    image: Tensor, mask: Tensor, factor: float, corner: tuple[float, float], size: int
) -> tuple[Tensor, Tensor]:
    """Scale an image [3, h, w] and its mask [h, w] by `factor`, and cut a square of `size` out of both.

    `corner`, two numbers in [0, 1), says where the square lies of all places that it can take. Right and below it is
    filled up where the image ends: black, and 255 in the mask. As torchvision's reference for segmentation does
    (references/segmentation/transforms.py: RandomResize and RandomCrop).
    """
    height, width = (max(1, round(factor * side)) for side in image.shape[1:])
    enlarged = F.interpolate(image[None].float(), (height, width), mode="bilinear", antialias=True)[0]
    labels = F.interpolate(mask[None, None].float(), (height, width), mode="nearest-exact")[0, 0]
    top, left = (int(share * (max(0, side - size) + 1)) for share, side in zip(corner, (height, width), strict=True))
    window = slice(top, top + size), slice(left, left + size)
    image = enlarged[:, *window].round().clamp(0, 255).to(image.dtype)
    return padded(image, labels[*window].to(mask.dtype), size, size)


def padded(image: Tensor, mask: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Fill an image [3, h, w] and its mask [h, w] up to a size, right and below: with 0, and with 255 in the mask."""
    border = (0, width - image.shape[2], 0, height - image.shape[1])
    return F.pad(image, border), F.pad(mask, border, value=IGNORED)
