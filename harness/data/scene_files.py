"""Scenes in files before they are decoded: Pascal VOC, and folders of images and masks."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.data.annotations import IGNORED
from harness.data.catalogue import Catalogue
from harness.data.folder import SUFFIXES
from harness.data.sizes import OPEN, TEST, TRAIN, VAL
from harness.errors import HarnessError

if TYPE_CHECKING:
    from harness.spec import Data

VOC = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
"""The classes of Pascal VOC in the order of its labels, from 1 on; in masks 0 is the background."""
_PARTS: Mapping[str, tuple[tuple[int, str, str], ...]] = {
    "voc_detection": ((TRAIN, "2007", "trainval"), (TRAIN, "2012", "trainval"), (TEST, "2007", "test")),
    # The masks of its test images were never published.
    "voc_segmentation": ((TRAIN, "2012", "train"), (TEST, "2012", "val")),
}
_SPLITS = {"train": TRAIN, "training": TRAIN, "val": VAL, "validation": VAL, "test": TEST}


@dataclass(frozen=True)
class SceneFiles:
    """The images of a set in a fixed order, each with the file that says what is in it."""

    root: Path
    images: tuple[str, ...]
    annotations: tuple[str, ...]
    given: np.ndarray
    """TRAIN, VAL, TEST or OPEN [N], int64."""
    classes: tuple[str, ...]
    """In the order of the labels; of masks with their background."""

    def __post_init__(self) -> None:
        for image, annotation in zip(self.images, self.annotations, strict=True):
            for file, other in ((annotation, image), (image, annotation)):
                if not os.path.isfile(file):
                    raise HarnessError(f"{file} is missing, which belongs to {other}; add it, or remove that")

    def content(self, cache: Path | None = None) -> str:
        """Return a digest of the bytes of all files, as `Catalogue.content` does."""
        return self._catalogue.content(cache)

    def keys(self, cache: Path | None = None) -> np.ndarray:
        """Return a number [N] that images with the same bytes share."""
        found = list(self._catalogue.digests(cache))[: len(self.images)]
        return np.array([int(sha[:15], 16) for _, sha in found], dtype=np.int64)

    @cached_property
    def _catalogue(self) -> Catalogue:
        files = (*self.images, *self.annotations)
        return Catalogue(self.root, files, np.zeros(len(files), int), np.tile(self.given, 2), (" ".join(self.classes),))


def files_of(data: Data) -> SceneFiles:
    """Return the files of a set of scenes; raises HarnessError where they are not there, or not whole."""
    root = Path(data.root or ".")
    return _folder(data, root) if data.name == "image_mask_folder" else _voc(data, root)


def _voc(data: Data, root: Path) -> SceneFiles:
    images: list[str] = []
    annotations: list[str] = []
    given: list[int] = []
    for part, year, name in _PARTS[data.name]:
        dataset = _open(data, root, year, name)
        images += dataset.images
        annotations += dataset.targets
        given += [part] * len(dataset)
    classes = VOC if data.name == "voc_detection" else ("background", *VOC)
    return SceneFiles(root, tuple(images), tuple(annotations), np.array(given), classes)


def _open(data: Data, root: Path, year: str, name: str) -> Any:
    from torchvision import datasets  # takes a second to import

    loader = datasets.VOCDetection if data.name == "voc_detection" else datasets.VOCSegmentation
    try:
        try:
            return loader(root, year, name)
        except (OSError, RuntimeError):
            if not data.download:
                raise
        return loader(root, year, name, download=True)  # which unpacks the archive anew each time
    except Exception as error:
        mend = "" if data.download else f"; expected {root}/VOCdevkit/VOC{year}, which `download: true` fetches"
        raise HarnessError(f"cannot read {name} of VOC {year} in {root}: {error}{mend}") from error


def _folder(data: Data, root: Path) -> SceneFiles:
    """Return the files of `images/<split>/x.jpg` with `annotations/<split>/x.png`, or of both without splits.

    Where no split is called test, that for validation is: the masks of published tests are often kept back (ADE20K).
    """
    pictures = root / "images"
    if not pictures.is_dir():
        raise HarnessError(f"{pictures} does not exist or is no folder; expected {root}/images/<split>/<image>")
    folders = {child: _SPLITS.get(child.name.lower()) for child in sorted(pictures.iterdir()) if child.is_dir()}
    parts = {child: part for child, part in folders.items() if part is not None} or {pictures: OPEN}
    if TEST not in parts.values():
        parts = {child: TEST if part == VAL else part for child, part in parts.items()}
    images: list[str] = []
    given: list[int] = []
    for child, part in parts.items():
        found = sorted(file for file in os.listdir(child) if Path(file).suffix.lower() in SUFFIXES)
        images += [f"{child}{os.sep}{file}" for file in found]
        given += [part] * len(found)
    if not images:
        raise HarnessError(f"no images under {pictures}: expected {root}/images/<split>/<image>")
    places = [os.path.splitext(file)[0].removeprefix(str(pictures)) for file in images]
    masks = [f"{root}{os.sep}annotations{place}.png" for place in places]
    if not any(os.path.isfile(mask) for mask in masks):
        raise HarnessError(f"none of the {len(images)} images has a mask; expected {masks[0]} for {images[0]}")
    stray = {f"{child}{os.sep}{file}" for child in {os.path.dirname(mask) for mask in masks} for file in _pngs(child)}
    if stray := stray - set(masks):
        raise HarnessError(f"mask {min(stray)} belongs to no image; add the image, or remove the mask")
    return SceneFiles(root, tuple(images), tuple(masks), np.array(given), _classes(data, root))


def _pngs(folder: str) -> list[str]:
    return [file for file in os.listdir(folder) if file.endswith(".png")] if os.path.isdir(folder) else []


def _classes(data: Data, root: Path) -> tuple[str, ...]:
    classes = data.classes or _named(data, root)
    most = IGNORED - 1 if data.zero_is_other else IGNORED  # what a pixel's byte can tell apart
    if len(classes) > most:
        raise HarnessError(f"{root} has {len(classes)} classes, and masks tell at most {most} apart; merge some")
    return classes


def _named(data: Data, root: Path) -> tuple[str, ...]:
    """Return the classes that the folder itself names."""
    plain, ade20k = root / "classes.txt", root / "objectInfo150.txt"
    if plain.is_file():
        return tuple(line.strip() for line in plain.read_text(encoding="utf-8").splitlines() if line.strip())
    if ade20k.is_file():
        if not data.zero_is_other:
            raise HarnessError(
                f"{root} is ADE20K, whose masks count from 1, with 0 for all other: `zero_is_other: true`"
            )
        rows = ade20k.read_text(encoding="utf-8").splitlines()[1:]
        return tuple(row.split("\t")[-1].strip() for row in rows if row.strip())
    raise HarnessError(
        f"{root} does not say what its classes are called: name them in `classes`, or in {plain}, one a line"
    )
