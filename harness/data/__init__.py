"""Images as they live on the device: uint8, decoded once, split without overlap."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from harness.data import digits, folder
from harness.data.split import Pool, partition, sizes

if TYPE_CHECKING:
    from harness.spec import Data


@dataclass(frozen=True)
class ImageSet:
    """Images [N, 3, H, W] as uint8 and labels [N] as int64, on one device."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Splits:
    """The three parts of a data set; no image is in two of them."""

    train: ImageSet
    val: ImageSet
    test: ImageSet
    classes: tuple[str, ...]
    duplicates_dropped: int


def class_counts(data: Data) -> dict[str, dict[int, int]]:
    """Return the classes in the order of their labels, each with its images by split given; nothing is decoded."""
    return digits.counts(data) if data.name == "digits" else folder.counts(data)


def content(data: Data) -> str:
    """Return what stands for the files of the data set in a digest."""
    return "digits" if data.name == "digits" else folder.fingerprint(data)


def train_size(data: Data) -> int:
    """Return how many training images a seed gets (of an image folder, before copies are dropped).

    Raises HarnessError where a class has too few images.
    """
    return sum(sizes(given, data, name).train for name, given in class_counts(data).items())


def decode(data: Data, cache: Path) -> Pool:
    """Return the whole decoded pool of the data set, as the spec shifts it; `cache` keeps what is slow to decode."""
    pool = digits.read(data) if data.name == "digits" else folder.read(data, cache)
    for shift in data.shift:
        pool = pool.mapped(SHIFTS[shift])
    return pool


def load(data: Data, seed: int, cache: Path, device: torch.device) -> Splits:
    """Return the splits of one seed: test and validation are the data's, the training subset is drawn by `seed`."""
    pool = decode(data, cache)
    parts = partition(pool, data, seed)

    def part(rows: np.ndarray) -> ImageSet:
        return ImageSet(
            torch.from_numpy(np.ascontiguousarray(pool.images[rows])).to(device),
            torch.from_numpy(pool.labels[rows]).to(device),
        )

    return Splits(part(parts.train), part(parts.val), part(parts.test), pool.classes, parts.duplicates_dropped)


SHIFTS = {
    "invert": lambda images: 255 - images,
    "rotate90": lambda images: np.rot90(images, 1, axes=(2, 3)),
    "rotate180": lambda images: np.rot90(images, 2, axes=(2, 3)),
}
"""Shifts of a target task from its source: maps of uint8 images [N, 3, H, W]."""
