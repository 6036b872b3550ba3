"""From files to bytes of one size: every image is decoded once, into a cache, or when a batch asks for it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import PIL.Image
from PIL import ImageOps

from harness.data import folder, published
from harness.data.catalogue import Catalogue, Image
from harness.data.split import Pool, key_of
from harness.digest import digest
from harness.errors import HarnessError

if TYPE_CHECKING:
    from harness.spec import Data

STREAMED_BYTES = 4 * 1024**3
"""Decoded sets larger than this are streamed, unless the spec says otherwise."""
_DECODERS = 4
_BLOCK = 1024
"""Images decoded at a time, so that a large set never stands in memory as a whole."""

SHIFTS = {
    "invert": lambda images: 255 - images,
    "rotate90": lambda images: np.rot90(images, 1, axes=(2, 3)),
    "rotate180": lambda images: np.rot90(images, 2, axes=(2, 3)),
}
"""Shifts of a target task from its source: maps of uint8 images [N, 3, H, W]."""


def shifted(images: np.ndarray, shift: tuple[str, ...]) -> np.ndarray:
    """Return uint8 images [N, 3, H, W] with the shifts of that name applied one after another."""
    for name in shift:
        images = SHIFTS[name](images)
    return images


@dataclass(frozen=True)
class Undecoded:
    """Images that are decoded whenever they are asked for, with the same bytes as those in the cache."""

    images: tuple[Image, ...]
    size: int
    shift: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: Sequence[int]) -> np.ndarray:
        """Return the images in `rows` as uint8 [n, 3, size, size]."""
        decoded = np.stack([decode(self.images[row], self.size) for row in rows])
        return np.ascontiguousarray(shifted(decoded, self.shift))


def catalogue_of(data: Data) -> Catalogue:
    """Return the images of the classes asked for; raises HarnessError where images or a class are not there."""
    root = Path(data.root or ".")
    if data.name == "image_folder":
        catalogue = folder.catalogue(root)
    else:
        catalogue = published.catalogue(data.name, root, data.download)
    return catalogue.of(data.classes) if data.classes else catalogue


def streams(data: Data, images: int, bytes_each: float | None = None) -> bool:
    """Return whether a set of so many images is decoded anew for every batch instead of lying in memory.

    Of each there are `bytes_each`, by default those of a square.
    """
    each = 3 * data.image_size**2 if bytes_each is None else bytes_each
    return images * each > STREAMED_BYTES if data.stream == "auto" else data.stream


def read(data: Data, content: str, cache: Path) -> Pool:
    """Return the pool of the images whose digest is `content`, shifted.

    All are decoded once, which finds broken files and copies. What is not streamed is kept decoded in `cache` and
    shared by all processes as a memory map. Raises HarnessError where the files are no longer those of `content`.
    """
    stem = "-".join([content, str(data.image_size), digest(data.classes)])
    rows, store = (cache / "data" / f"{stem}.{part}.npy" for part in ("rows", "images"))
    if not _whole(data, rows, store):
        _decode_all(data, content, cache, rows, store)
    labels, given, keys = np.load(rows)
    if streams(data, len(labels)):
        catalogue = _unchanged(data, content, cache)
        images = Undecoded(catalogue.images, data.image_size, data.shift)
        return Pool(images, labels, given, catalogue.classes, keys)
    decoded = shifted(np.load(store, mmap_mode="r"), data.shift)
    return Pool(decoded, labels, given, data.classes or catalogue_of(data).classes, keys)


def _whole(data: Data, rows: Path, store: Path) -> bool:
    return rows.exists() and (store.exists() or streams(data, np.load(rows, mmap_mode="r").shape[1]))


def _unchanged(data: Data, content: str, cache: Path) -> Catalogue:
    catalogue = catalogue_of(data)
    if catalogue.content(cache) != content:
        raise HarnessError(f"the images under {data.root} have changed since the grid was planned; run it again")
    return catalogue


def _decode_all(data: Data, content: str, cache: Path, rows: Path, store: Path) -> None:
    """Decode every image; labels, splits and keys are written last, so that they stand for a store that is whole.

    Raises HarnessError where the cache has no room.
    """
    catalogue = _unchanged(data, content, cache)
    count = len(catalogue.images)
    rows.parent.mkdir(parents=True, exist_ok=True)
    draft = rows.with_suffix(f".{os.getpid()}.part")
    keys = np.zeros(count, dtype=np.int64)
    try:
        kept = None
        if not streams(data, count):
            shape = (count, 3, data.image_size, data.image_size)
            kept = np.lib.format.open_memmap(draft, mode="w+", dtype=np.uint8, shape=shape)
            _take_room(draft)
        for row, image in enumerate(_decoded(catalogue, data.image_size)):
            keys[row] = key_of(image)
            if kept is not None:
                kept[row] = image
        if kept is not None:
            kept.flush()
            os.replace(draft, store)
        with draft.open("wb") as file:
            np.save(file, np.stack([catalogue.labels, catalogue.given, keys]))
        os.replace(draft, rows)
    except OSError as error:
        raise HarnessError(f"cannot keep decoded images in {rows.parent}: {error.strerror or error}") from error
    finally:
        draft.unlink(missing_ok=True)


def _take_room(path: Path) -> None:
    """Have the system set aside all of a file: on a full disk, writing to its memory map would end the process."""
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def _decoded(catalogue: Catalogue, size: int) -> Iterator[np.ndarray]:
    with ThreadPoolExecutor(_DECODERS) as pool:
        for start in range(0, len(catalogue.images), _BLOCK):
            yield from pool.map(lambda image: decode(image, size), catalogue.images[start : start + _BLOCK])


def decode(image: Image, size: int) -> np.ndarray:
    """Decode one image to uint8 [3, size, size]: turned upright, shorter side resized to `size`, centre cropped.

    Raises HarnessError naming the file where it is no readable image.
    """
    if not isinstance(image, str):
        return _fitted(PIL.Image.fromarray(np.ascontiguousarray(image)).convert("RGB"), size)
    return _fitted(rgb_of(image), size)


def rgb_of(file: str, upright: bool = True) -> PIL.Image.Image:
    """Decode a file, turned upright unless its pixels are wanted as they lie; raises HarnessError naming it."""
    try:
        with PIL.Image.open(file) as opened:
            return _to_rgb(ImageOps.exif_transpose(opened) if upright else opened)
    except Exception as error:  # the decoders of Pillow raise errors of every kind
        raise HarnessError(f"cannot read image {file}: {error}") from error


def _fitted(rgb: PIL.Image.Image, size: int) -> np.ndarray:
    width, height = rgb.size
    if (width, height) != (size, size):
        scale = size / min(width, height)
        enlarged = max(size, round(width * scale)), max(size, round(height * scale))
        rgb = rgb.resize(enlarged, PIL.Image.Resampling.BILINEAR)
        left, top = (rgb.width - size) // 2, (rgb.height - size) // 2
        rgb = rgb.crop((left, top, left + size, top + size))
    return np.asarray(rgb).transpose(2, 0, 1)


def _to_rgb(image: PIL.Image.Image) -> PIL.Image.Image:
    if image.mode.startswith("I"):  # 16 bits a pixel, which Pillow would cut off at 255
        shades = np.clip(np.asarray(image, dtype=np.float64) / 257, 0, 255)
        image = PIL.Image.fromarray(np.round(shades).astype(np.uint8))
    if "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")
