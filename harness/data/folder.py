"""An image folder: `<class>/…`, or `train/<class>/…` with `val/` and `test/` where the publisher made them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.data.catalogue import Catalogue
from harness.data.sizes import OPEN, TEST, TRAIN, VAL
from harness.errors import HarnessError

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
_SPLITS = {"train": TRAIN, "val": VAL, "valid": VAL, "validation": VAL, "test": TEST}


@dataclass(frozen=True)
class Entry:
    """One file of the listing, its path relative to the root."""

    path: str
    label: str
    given: int


def listing(root: Path) -> list[Entry]:
    """List the images under `root`, sorted by path; raises HarnessError where there are none."""
    if not root.is_dir():
        raise HarnessError(f"image folder {root} does not exist or is no folder")
    splits = [child for child in sorted(root.iterdir()) if child.is_dir() and child.name.lower() in _SPLITS]
    if any(child.name.lower() == "train" for child in splits):
        entries = [e for child in splits for e in _classes(root, child, _SPLITS[child.name.lower()])]
    else:
        entries = list(_classes(root, root, OPEN))
    if not entries:
        raise HarnessError(f"no images under {root}: expected {root}/<class>/<image> or {root}/train/<class>/<image>")
    return sorted(entries, key=lambda entry: entry.path)


def _classes(root: Path, folder: Path, given: int) -> Iterator[Entry]:
    for child in sorted(folder.iterdir()):
        if child.is_dir() and not child.name.startswith("."):
            for directory, inner, names in os.walk(child):
                inner[:] = [name for name in inner if not name.startswith(".")]
                place = Path(directory).relative_to(root).as_posix()
                for name in names:
                    if os.path.splitext(name)[1].lower() in SUFFIXES and not name.startswith("."):
                        yield Entry(f"{place}/{name}", child.name, given)


def catalogue(root: Path) -> Catalogue:
    """Return the images under `root`, sorted by path, classes by name; raises HarnessError where there are none."""
    entries = listing(root)
    classes = sorted({entry.label for entry in entries})
    label_of = {name: label for label, name in enumerate(classes)}
    return Catalogue(
        root,
        tuple(f"{root}{os.sep}{entry.path}" for entry in entries),
        np.array([label_of[entry.label] for entry in entries], dtype=np.int64),
        np.array([entry.given for entry in entries], dtype=np.int64),
        tuple(classes),
    )
