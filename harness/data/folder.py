"""An image folder: `<class>/…`, or `train/<class>/…` with `val/` and `test/` where the publisher made them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from harness.data.split import OPEN, TEST, TRAIN, VAL, Pool
from harness.digest import digest
from harness.errors import HarnessError, unknown

if TYPE_CHECKING:
    from harness.spec import Data

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
_SPLITS = {"train": TRAIN, "val": VAL, "valid": VAL, "validation": VAL, "test": TEST}
_DECODERS = 4
DECODER = "1"
"""Version of `decode_file`: raise it where the same files give other pixels."""


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
                for name in names:
                    path = Path(directory, name)
                    if path.suffix.lower() in SUFFIXES and not name.startswith("."):
                        yield Entry(path.relative_to(root).as_posix(), child.name, given)


def chosen(data: Data) -> tuple[list[Entry], tuple[str, ...]]:
    """Return the entries of the classes asked for, and the classes; raises HarnessError for one that is not there."""
    entries = listing(Path(data.root or "."))
    present = sorted({entry.label for entry in entries})
    for name in data.classes or ():
        if name not in present:
            raise HarnessError(unknown(f"class of {data.root}", name, present))
    classes = data.classes or tuple(present)
    return [entry for entry in entries if entry.label in classes], classes


def survey(data: Data) -> tuple[dict[str, dict[int, int]], str]:
    """Return how many images each class has by split given, copies counted, and a digest of the files."""
    entries, classes = chosen(data)
    if len(classes) < 2:
        raise HarnessError(f"{data.root} holds one class, {classes[0]!r}; a classifier needs two or more folders")
    found: dict[str, dict[int, int]] = {name: {} for name in classes}
    content = hashlib.sha256()
    for entry in entries:
        found[entry.label][entry.given] = found[entry.label].get(entry.given, 0) + 1
        path = Path(data.root or ".", entry.path)
        try:
            content.update(f"{entry.path}\n".encode() + hashlib.sha256(path.read_bytes()).digest())
        except OSError as error:
            raise HarnessError(f"cannot read image {path}: {error.strerror}") from None
    return found, content.hexdigest()[:16]


def read(data: Data, content: str, cache: Path) -> Pool:
    """Return the decoded pool of the files whose digest is `content`.

    It is decoded once, into `cache`, and shared by all processes as a memory map.
    """
    name = "-".join([content, str(data.image_size), digest(data.classes), DECODER])
    images, labels = (cache / "data" / f"{name}.{part}.npy" for part in ("images", "labels"))
    if not labels.exists():
        _decode_all(data, images, labels)
    given = np.load(labels)
    return Pool(np.load(images, mmap_mode="r"), given[0], given[1], data.classes or chosen(data)[1])


def _decode_all(data: Data, store: Path, labels: Path) -> None:
    """Decode every image; the labels are written last, so that they stand for a store that is whole."""
    entries, classes = chosen(data)
    store.parent.mkdir(parents=True, exist_ok=True)
    draft = store.with_suffix(f".{os.getpid()}.part")
    shape = (len(entries), 3, data.image_size, data.image_size)
    images = np.lib.format.open_memmap(draft, mode="w+", dtype=np.uint8, shape=shape)
    root = Path(data.root or ".")
    try:
        with ThreadPoolExecutor(_DECODERS) as pool:
            for row, image in enumerate(pool.map(lambda e: decode_file(root / e.path, data.image_size), entries)):
                images[row] = image
        images.flush()
        os.replace(draft, store)
        table = np.array([[classes.index(e.label) for e in entries], [e.given for e in entries]], dtype=np.int64)
        with draft.open("wb") as file:
            np.save(file, table)
        os.replace(draft, labels)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def decode_file(path: Path, size: int) -> np.ndarray:
    """Decode one image to uint8 [3, size, size]: shorter side resized to `size`, centre cropped.

    Raises HarnessError naming the file where it is no readable image.
    """
    try:
        with Image.open(path) as image:
            rgb = _to_rgb(image)
    except Exception as error:  # the decoders of Pillow raise errors of every kind
        raise HarnessError(f"cannot read image {path}: {error}") from error
    width, height = rgb.size
    if (width, height) != (size, size):
        scale = size / min(width, height)
        rgb = rgb.resize((max(size, round(width * scale)), max(size, round(height * scale))), Image.Resampling.BILINEAR)
        left, top = (rgb.width - size) // 2, (rgb.height - size) // 2
        rgb = rgb.crop((left, top, left + size, top + size))
    return np.asarray(rgb).transpose(2, 0, 1)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits a pixel, which Pillow would cut off at 255
        shades = np.clip(np.asarray(image, dtype=np.float64) / 257, 0, 255)
        image = Image.fromarray(np.round(shades).astype(np.uint8))
    if "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")
