"""Real digits pasted onto canvases: one to four each, at several sizes, on a textured ground, with boxes and masks.

Drawn from `split_seed` alone, so that every training of a study sees the same; no digit is in two splits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import PIL.Image

from harness.data import digits
from harness.data.split import partition
from harness.seeds import stream

if TYPE_CHECKING:
    from harness.spec import Data

Split = Literal["train", "val", "test"]
BACKGROUND = "background"
CONTENT = "digit_scenes-1"
"""What stands for the images in a digest; to be raised where the same seed draws others."""
COUNTS: dict[Split, int] = {"train": 400, "val": 100, "test": 200}
"""Scenes of each split where the spec says nothing."""
_MOST = 4
_SIDES = (1 / 5, 1 / 2)
"""Smallest and largest side of a digit's 8×8 pixels, as a share of the canvas."""
_INK = 102
"""A shade from which on a pixel of a digit belongs to its box and mask, of 255."""
_COVERED = 0.2
"""Largest share of a digit's box that another box may cover."""
_TRIES = 20


@dataclass(frozen=True)
class Canvas:
    """One scene: image [3, S, S] uint8, mask [S, S] uint8 with 0 for the ground, boxes [M, 4], labels [M] from 1 on."""

    image: np.ndarray
    mask: np.ndarray
    boxes: np.ndarray
    """Tight around the pixels that are seen: x1, y1, x2, y2, the last column and row not included."""
    labels: np.ndarray


def names(data: Data) -> tuple[str, ...]:
    """Return the digits that there are, by label from 1 on; what masks call their background is none of them."""
    return tuple(name for name in data.classes or digits.CLASSES if name != BACKGROUND)


def counts(data: Data) -> dict[Split, int]:
    """Return how many scenes each split has."""
    asked: dict[Split, int | None] = {"train": data.train_images, "val": data.val_images, "test": data.test_images}
    return {split: asked[split] or count for split, count in COUNTS.items()}


def draw(data: Data) -> dict[Split, list[Canvas]]:
    """Return the scenes of each split; those asked for in addition come after the others, which stay as they are.

    `test_share` and `val_share` are of the digits, of which copies are dropped as in classification.
    """
    pool = digits.read(data.model_copy(update={"name": "digits", "image_size": 8, "classes": names(data)}))
    parts = partition(pool, data, seed=0)
    inks = np.asarray(pool.images)[:, 0]
    rows_of: dict[Split, np.ndarray] = {"train": parts.train, "val": parts.val, "test": parts.test}
    return {
        split: list(_canvases(inks[rows], pool.labels[rows], data.image_size, count, _stream(data, split)))
        for (split, rows), count in zip(rows_of.items(), counts(data).values(), strict=True)
    }


def _stream(data: Data, split: Split) -> np.random.Generator:
    return stream(data.split_seed, f"digit_scenes/{split}")


def _canvases(
    inks: np.ndarray, labels: np.ndarray, size: int, count: int, rng: np.random.Generator
) -> Iterator[Canvas]:
    rows_of = [np.flatnonzero(labels == label) for label in range(labels.max() + 1)]
    for _ in range(count):
        image, owner = _ground(size, rng), np.full((size, size), -1)
        found: list[int] = []
        taken = np.zeros((0, 4), dtype=np.int64)
        for _ in range(rng.integers(1, _MOST + 1)):
            label = int(rng.integers(len(rows_of)))
            shade = _enlarged(inks[rng.choice(rows_of[label])], size, rng)
            colour = rng.integers(150, 256, size=3)
            corner = _place(shade.shape, taken, size, rng)
            if corner is None:
                continue
            top, left = corner
            window = slice(top, top + shade.shape[0]), slice(left, left + shade.shape[1])
            share = shade / 255
            image[:, *window] = share * colour[:, None, None] + (1 - share) * image[:, *window]
            owner[window][shade >= _INK] = len(found)
            found.append(label)
            taken = np.concatenate([taken, [[left, top, left + shade.shape[1], top + shade.shape[0]]]])
        mask = np.array([0, *(label + 1 for label in found)], dtype=np.uint8)[owner + 1]
        boxes = np.array([_box(owner == number) for number in range(len(found))], dtype=np.float32)
        yield Canvas(np.round(image).astype(np.uint8), mask, boxes, np.array(found, dtype=np.int64) + 1)


def _ground(size: int, rng: np.random.Generator) -> np.ndarray:
    """Return a ground [3, S, S] of dark clouds of some colour under noise, from 0 to 255."""
    coarse = rng.integers(0, 80, size=(5, 5, 1), dtype=np.uint8) + rng.integers(0, 60, size=(5, 5, 3), dtype=np.uint8)
    clouds = np.asarray(PIL.Image.fromarray(coarse).resize((size, size), PIL.Image.Resampling.BICUBIC))
    return np.clip(clouds.transpose(2, 0, 1) + rng.normal(0, 10, size=(3, size, size)), 0, 255)


def _enlarged(ink: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Return the shades of a digit [8, 8] at a size of its own, cut to its ink."""
    smallest, largest = (round(share * size) for share in _SIDES)
    side = int(rng.integers(max(8, smallest), largest + 1))
    shade = np.asarray(PIL.Image.fromarray(ink).resize((side, side), PIL.Image.Resampling.BILINEAR))
    left, top, right, bottom = _box(shade >= _INK)
    return shade[top:bottom, left:right]


def _box(ink: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = (np.flatnonzero(ink.any(axis=axis)) for axis in (1, 0))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


def _place(shape: tuple[int, ...], taken: np.ndarray, size: int, rng: np.random.Generator) -> tuple[int, int] | None:
    """Return a corner (top, left) where a box neither covers another nor is covered too far, if any is found."""
    height, width = shape
    for _ in range(_TRIES):
        top, left = int(rng.integers(size - height + 1)), int(rng.integers(size - width + 1))
        box = np.array([left, top, left + width, top + height])
        sides = np.minimum(taken[:, 2:], box[2:]) - np.maximum(taken[:, :2], box[:2])
        shared = sides.clip(min=0).prod(axis=1)
        smaller = np.minimum((taken[:, 2:] - taken[:, :2]).prod(axis=1), height * width)
        if (shared <= _COVERED * smaller).all():
            return top, left
    return None
