"""From files to scenes: an image in its own shape, and what is in it at the same scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import PIL.Image

from harness.data.annotations import mask_of
from harness.data.decoding import rgb_of

Decoded = tuple[np.ndarray, np.ndarray | None]
"""Image [3, h, w] and mask [h, w] where there are masks, both uint8."""
LONGEST = 5 / 3
"""The longer side of a scene at most, of its `image_size`; torchvision's detectors take 1333 with 800."""


def fitted(size: tuple[int, int], shorter: int) -> tuple[int, int]:
    """Return height and width at which a scene is read: `shorter` pixels on one side, LONGEST times that at most."""
    scale = min(shorter / min(size), LONGEST * shorter / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def scaled(boxes: np.ndarray, old: tuple[int, int], new: tuple[int, int]) -> np.ndarray:
    """Return boxes [M, 4] of an image of the size `old` as they lie in it once it has the size `new`."""
    factor = np.array([new[1] / old[1], new[0] / old[0]] * 2, dtype=np.float32)
    return boxes * factor


@dataclass(frozen=True)
class Undecoded:
    """Images, and masks where there are any, decoded whenever they are asked for."""

    images: tuple[str, ...]
    masks: tuple[str, ...] | None
    """None where the annotations are boxes, which are read once."""
    shorter: int
    classes: int
    zero_is_other: bool

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: Sequence[int]) -> list[Decoded]:
        """Return image and mask in each of `rows`."""
        return [self.decode(row) for row in rows]

    def decode(self, row: int) -> Decoded:
        """Return image and mask in one row; raises HarnessError naming the file that is wrong."""
        rgb = rgb_of(self.images[row], upright=False)
        height, width = fitted((rgb.height, rgb.width), self.shorter)
        image = np.asarray(rgb.resize((width, height), PIL.Image.Resampling.BILINEAR)).transpose(2, 0, 1)
        if self.masks is None:
            return np.ascontiguousarray(image), None
        labels = mask_of(self.masks[row], self.images[row], self.classes, self.zero_is_other)
        mask = PIL.Image.fromarray(labels).resize((width, height), PIL.Image.Resampling.NEAREST)
        return np.ascontiguousarray(image), np.array(mask)
