"""Images with boxes or masks, split without overlap: on the device, or streamed where they are too many."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from harness.data import Survey, digit_scenes
from harness.data.annotations import IGNORED, Boxes, boxes_of
from harness.data.decoding import streams
from harness.data.scene_decoding import LONGEST, Decoded, Undecoded, fitted, scaled
from harness.data.scene_files import SceneFiles, files_of
from harness.data.sizes import sizes
from harness.data.split import Parts, Pool, partition
from harness.digest import digest
from harness.errors import HarnessError

if TYPE_CHECKING:
    import torch

    from harness.data.scene_sets import Scenes
    from harness.spec import Data
    from harness.tasks.metrics import Task

_READERS = 4


@dataclass(frozen=True)
class SceneSplits:
    """The three parts of a set of scenes; no image is in two of them, and no digit."""

    train: Scenes
    """Without the objects that are too difficult to count."""
    val: Scenes
    test: Scenes
    duplicates_dropped: int
    classes: tuple[str, ...]
    """Names, of objects by label from 1 on, of masks from 0 on."""


def survey(data: Data, task: Task, cache: Path | None = None) -> Survey:
    """Look through a set without decoding it; its classes are those of objects, for masks after the background.

    `cache` remembers the digests of files. Raises HarnessError where a file is missing, or there are too few images.
    """
    if data.name == "digit_scenes":
        count = digit_scenes.counts(data)
        return Survey(_named(data, task), count["train"], count["val"], count["test"], digit_scenes.CONTENT)
    files = files_of(data)
    given = dict(zip(*np.unique(files.given, return_counts=True), strict=True))
    size = sizes({int(part): int(count) for part, count in given.items()}, _one_class(data), str(files.root))
    return Survey(files.classes, size.train, size.val, size.test, files.content(cache))


def check(data: Data, task: Task, content: str, seed: int, cache: Path) -> Parts | None:
    """Read every file once, and return which are in which split; None for digits, which are known to be well.

    Raises HarnessError naming the file that is wrong, and where the files are no longer those of `content`.
    """
    if data.name == "digit_scenes":
        return None
    files = _unchanged(data, content, cache)
    done = cache / "data" / f"{content}-{digest([data.name, files.classes, data.zero_is_other])}.checked"
    if not done.exists():
        undecoded = _undecoded(files, data, task)
        with ThreadPoolExecutor(_READERS) as pool:
            seen = set().union(*pool.map(lambda row: _labels(undecoded.decode(row)), range(len(files.images))))
        if task == "detection":
            _boxes(files, data, range(len(files.images)))
        elif len(seen) < 2:
            raise HarnessError(
                f"masks of {files.root} tell no classes apart: all that counts has label {', '.join(map(str, seen))} "
                f"({IGNORED} is what does not count); draw class k as k, from 0 on"
            )
        done.parent.mkdir(parents=True, exist_ok=True)
        done.touch()
    return _parts(files, data, seed, cache)


def load(data: Data, task: Task, content: str, seed: int, cache: Path, device: torch.device) -> SceneSplits:
    """Return the splits of one seed: test and validation are the data's, a training subset is drawn by `seed`."""
    from harness.data import scene_sets

    if data.name == "digit_scenes":
        drawn = digit_scenes.draw(data)
        sets = {split: scene_sets.of_canvases(drawn[split], task, device) for split in digit_scenes.COUNTS}
        return SceneSplits(**sets, duplicates_dropped=0, classes=_named(data, task))
    files = _unchanged(data, content, cache)
    parts = _parts(files, data, seed, cache)
    undecoded = _undecoded(files, data, task)

    def part(rows: np.ndarray, difficult: bool = True) -> Scenes:
        found = _boxes(files, data, rows.tolist(), difficult) if task == "detection" else None
        # Of the most that an image can be: it keeps its shape, and may have a mask beside three colours.
        if streams(data, len(files.images), (3 + (task == "segmentation")) * LONGEST * data.image_size**2):
            return scene_sets.StreamedScenes(undecoded, rows, found, data.workers, device)
        with ThreadPoolExecutor(_READERS) as pool:
            return scene_sets.of_decoded(list(pool.map(undecoded.decode, rows)), found, device)

    train, val, test = part(parts.train, difficult=False), part(parts.val), part(parts.test)
    return SceneSplits(train, val, test, parts.duplicates_dropped, files.classes)


def _labels(decoded: Decoded) -> set[int]:
    """Return the labels of the pixels that count."""
    _, mask = decoded
    return set() if mask is None else {*np.unique(mask).tolist()} - {IGNORED}


def _named(data: Data, task: Task) -> tuple[str, ...]:
    """Return the classes of digits on canvases."""
    background = (digit_scenes.BACKGROUND,) if task == "segmentation" else ()
    return (*background, *digit_scenes.names(data))


def _unchanged(data: Data, content: str, cache: Path) -> SceneFiles:
    files = files_of(data)
    if files.content(cache) != content:
        raise HarnessError(f"the files under {data.root} have changed since the grid was planned; run it again")
    return files


def _undecoded(files: SceneFiles, data: Data, task: Task) -> Undecoded:
    masks = files.annotations if task == "segmentation" else None
    return Undecoded(files.images, masks, data.image_size, len(files.classes), data.zero_is_other)


def _parts(files: SceneFiles, data: Data, seed: int, cache: Path) -> Parts:
    """Return the rows of each split, all images being of one class as far as splitting goes."""
    everything = np.zeros(len(files.images), dtype=np.int64)
    pool = Pool(everything, everything, files.given, (str(files.root),), files.keys(cache))
    return partition(pool, _one_class(data), seed)


def _one_class(data: Data) -> Data:
    counts = {
        "test_per_class": data.test_images,
        "val_per_class": data.val_images,
        "train_per_class": data.train_images,
    }
    return data.model_copy(update=counts)


def _boxes(files: SceneFiles, data: Data, rows: Iterable[int], difficult: bool = True) -> list[Boxes]:
    """Return the boxes of these images as they lie there once decoded, the difficult ones where asked for."""
    found = []
    for row in rows:
        read = boxes_of(files.annotations[row], files.images[row], files.classes)
        kept = read.difficult <= difficult
        size = fitted(read.size, data.image_size)
        boxes = scaled(read.boxes[kept], read.size, size)
        found.append(replace(read, size=size, boxes=boxes, labels=read.labels[kept], difficult=read.difficult[kept]))
    return found
