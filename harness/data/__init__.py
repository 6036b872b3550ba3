"""Images as uint8, split without overlap: decoded once onto the device, or streamed where they are too many."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.data.sizes import sizes
from harness.errors import HarnessError
from harness.spec.data import SCENES

if TYPE_CHECKING:
    import numpy as np
    import torch

    from harness.data.images import Images, ImageSet, StreamedImages
    from harness.data.published import Accuracy
    from harness.data.split import Pool
    from harness.spec import Data
    from harness.tasks.metrics import Task

__all__ = ["ImageSet", "Images", "Splits", "StreamedImages", "Survey", "accuracy_of", "decode", "load", "survey"]


def __getattr__(name: str) -> Any:
    """Hand on what holds images, for which torch is imported: planning does not wait for it."""
    if name not in ("ImageSet", "Images", "StreamedImages"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from harness.data import images

    return getattr(images, name)


@dataclass(frozen=True)
class Splits:
    """The three parts of a data set; no image is in two of them."""

    train: Images
    val: Images
    test: Images
    duplicates_dropped: int


@dataclass(frozen=True)
class Survey:
    """What planning needs to know of a data set; nothing is decoded for it."""

    classes: tuple[str, ...]
    """In the order of the labels."""
    train_size: int
    """Training images that a seed gets (but of digits, before copies are dropped)."""
    val_size: int
    test_size: int
    content: str
    """What stands for the images of the data set in a digest."""


def survey(data: Data, cache: Path | None = None, task: Task = "classification") -> Survey:
    """Look through a data set without decoding it; `cache` remembers the digests of its files.

    Scenes are looked through for a `task`: masks have one class more than boxes, the background.

    Raises HarnessError where it is not there or a class has too few images.
    """
    if data.name in SCENES:
        from harness.data import scenes

        return scenes.survey(data, task, cache)
    if data.name == "digits":
        from harness.data import digits

        counts, content = digits.counts(data), "digits"
    else:
        from harness.data.decoding import catalogue_of

        catalogue = catalogue_of(data)
        counts = catalogue.counts()
        if len(counts) < 2:
            raise HarnessError(
                f"{data.root} holds one class, {catalogue.classes[0]!r}; a classifier needs two or more folders"
            )
        content = catalogue.content(cache)
    found = [sizes(given, data, f"class {name!r}") for name, given in counts.items()]
    train, val, test = (sum(getattr(size, split) for size in found) for split in ("train", "val", "test"))
    return Survey(tuple(counts), train, val, test, content)


def accuracy_of(data: Data) -> Accuracy:
    """Return which accuracy is the custom for a data set: top-1, or the mean over the classes."""
    from harness.data.published import PUBLISHED

    return PUBLISHED[data.name].accuracy if data.name in PUBLISHED else "top1"


def decode(data: Data, content: str, cache: Path) -> Pool:
    """Return the whole pool of the data set, as the spec shifts it; `cache` keeps what is slow to decode."""
    from harness.data import decoding, digits

    return digits.read(data) if data.name == "digits" else decoding.read(data, content, cache)


def load(data: Data, content: str, seed: int, cache: Path, device: torch.device) -> Splits:
    """Return the splits of one seed: test and validation are the data's, the training subset is drawn by `seed`."""
    import numpy as np
    import torch

    from harness.data.decoding import Undecoded
    from harness.data.images import ImageSet, StreamedImages
    from harness.data.split import partition

    pool = decode(data, content, cache)
    parts = partition(pool, data, seed)

    def part(rows: np.ndarray) -> Images:
        labels = pool.labels[rows]
        if isinstance(pool.images, Undecoded):
            return StreamedImages(pool.images, rows, labels, data.workers, device)
        images = np.ascontiguousarray(pool.images[rows])
        return ImageSet(torch.from_numpy(images).to(device), torch.from_numpy(labels).to(device))

    return Splits(part(parts.train), part(parts.val), part(parts.test), parts.duplicates_dropped)
