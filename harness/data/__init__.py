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
    duplicates_dropped: int


@dataclass(frozen=True)
class Survey:
    """What planning needs to know of a data set; nothing is decoded for it."""

    classes: tuple[str, ...]
    """In the order of the labels."""
    train_size: int
    """Training images that a seed gets (of an image folder, before copies are dropped)."""
    val_size: int
    test_size: int
    content: str
    """What stands for the files of the data set in a digest."""


def survey(data: Data) -> Survey:
    """Look through a data set without decoding it; raises HarnessError where a class has too few images."""
    if data.name == "digits":
        counts, content = digits.counts(data), "digits"
    else:
        counts, content = folder.survey(data)
    found = [sizes(given, data, name) for name, given in counts.items()]
    train, val, test = (sum(getattr(size, split) for size in found) for split in ("train", "val", "test"))
    return Survey(tuple(counts), train, val, test, content)


def decode(data: Data, content: str, cache: Path) -> Pool:
    """Return the whole decoded pool of the data set, as the spec shifts it; `cache` keeps what is slow to decode."""
    pool = digits.read(data) if data.name == "digits" else folder.read(data, content, cache)
    for shift in data.shift:
        pool = pool.mapped(SHIFTS[shift])
    return pool


def load(data: Data, content: str, seed: int, cache: Path, device: torch.device) -> Splits:
    """Return the splits of one seed: test and validation are the data's, the training subset is drawn by `seed`."""
    pool = decode(data, content, cache)
    parts = partition(pool, data, seed)

    def part(rows: np.ndarray) -> ImageSet:
        return ImageSet(
            torch.from_numpy(np.ascontiguousarray(pool.images[rows])).to(device),
            torch.from_numpy(pool.labels[rows]).to(device),
        )

    return Splits(part(parts.train), part(parts.val), part(parts.test), parts.duplicates_dropped)


SHIFTS = {
    "invert": lambda images: 255 - images,
    "rotate90": lambda images: np.rot90(images, 1, axes=(2, 3)),
    "rotate180": lambda images: np.rot90(images, 2, axes=(2, 3)),
}
"""Shifts of a target task from its source: maps of uint8 images [N, 3, H, W]."""
