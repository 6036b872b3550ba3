"""Scenes in files that several tests make on the spot: Pascal VOC and folders of masks; every pixel is random."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

RNG = np.random.default_rng(0)

Object = tuple[str, tuple[float, float, float, float], bool]
"""Class, box as VOC counts it (xmin, ymin, xmax, ymax, from 1, the last included), whether it is difficult."""


def image(path: Path, width: int = 12, height: int = 8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)


def mask(path: Path, labels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(labels.astype(np.uint8)).save(path)


def annotation(path: Path, objects: Sequence[Object], width: int = 12, height: int = 8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    found = "".join(
        f"<object><name>{name}</name><difficult>{int(difficult)}</difficult><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin>"
        f"<xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
        for name, (x1, y1, x2, y2), difficult in objects
    )
    size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    path.write_text(f"<annotation>{size}{found}</annotation>")


def listed(root: Path, year: str, kind: str, part: str, names: Sequence[str]) -> Path:
    folder = root / "VOCdevkit" / f"VOC{year}"
    (folder / "ImageSets" / kind).mkdir(parents=True, exist_ok=True)
    (folder / "ImageSets" / kind / f"{part}.txt").write_text("\n".join(names) + "\n")
    return folder


OBJECTS: tuple[Object, ...] = (("dog", (1, 1, 6, 4), False), ("person", (7, 2, 12, 8), True))


def voc_detection(root: Path, count: int = 6) -> Path:
    """So many images in each of 2007's trainval, 2012's trainval and 2007's test, each with the same OBJECTS."""
    for year, part in (("2007", "trainval"), ("2012", "trainval"), ("2007", "test")):
        names = [f"{part}_{number}" for number in range(count)]
        folder = listed(root, year, "Main", part, names)
        for name in names:
            image(folder / "JPEGImages" / f"{name}.jpg")
            annotation(folder / "Annotations" / f"{name}.xml", OBJECTS)
    return root


def voc_segmentation(root: Path, count: int = 6) -> Path:
    """So many images in 2012's train and val, their masks 0, 15 and 255 in columns."""
    for part in ("train", "val"):
        names = [f"{part}_{number}" for number in range(count)]
        folder = listed(root, "2012", "Segmentation", part, names)
        for name in names:
            image(folder / "JPEGImages" / f"{name}.jpg")
            mask(folder / "SegmentationClass" / f"{name}.png", np.tile(np.repeat([0, 15, 255], 4), (8, 1)))
    return root


def mask_folder(root: Path, splits: Sequence[str] = ("training", "validation"), count: int = 6) -> Path:
    """So many images in each split, of labels 0 to 2 in rows."""
    for split in splits:
        for number in range(count):
            image(root / "images" / split / f"{number}.jpg")
            mask(root / "annotations" / split / f"{number}.png", np.tile(np.arange(8)[:, None] % 3, (1, 12)))
    return root
