"""Published classification sets, read by torchvision's loaders, with the splits and the accuracy of their custom."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal

import numpy as np

from harness.data.catalogue import Catalogue, Image
from harness.data.sizes import OPEN, TEST, TRAIN, VAL
from harness.errors import HarnessError

Accuracy = Literal["top1", "mean_per_class"]
Splits = Mapping[int, Mapping[str, Any]]


def _files(dataset: Any) -> list[tuple[Image, int]]:
    """Return file and label of each image of a set whose loader is `str`, which opens nothing."""
    return [dataset[row] for row in range(len(dataset))]


def _pets(dataset: Any) -> list[tuple[Image, int]]:
    return list(zip(map(str, dataset._images), dataset._labels, strict=True))


def _caltech(dataset: Any) -> list[tuple[Image, int]]:
    root = f"{dataset.root}/101_ObjectCategories"
    return [
        (f"{root}/{dataset.categories[label]}/image_{number:04d}.jpg", label)
        for number, label in zip(dataset.index, dataset.y, strict=True)
    ]


def _packed(dataset: Any) -> list[tuple[Image, int]]:
    """Return pixels and label of each image of a set that is one array, channels last."""
    pixels = np.asarray(dataset.data)
    if pixels.shape[1] == 3:
        pixels = pixels.transpose(0, 2, 3, 1)
    labels = dataset.targets if hasattr(dataset, "targets") else dataset.labels
    return list(zip(pixels, np.asarray(labels).tolist(), strict=True))


def _synsets(dataset: Any) -> list[str]:
    """Return the first word of each synset, and with it the WordNet id where two share it (ImageNet's cranes)."""
    words = [names[0] for names in dataset.classes]
    count = Counter(words)
    ids = zip(words, dataset.wnids, strict=True)
    return [word if count[word] == 1 else f"{word} ({wnid})" for word, wnid in ids]


_FLAG = {TRAIN: {"train": True}, TEST: {"train": False}}
_TRAIN_TEST = {TRAIN: {"split": "train"}, TEST: {"split": "test"}}
_ALL_THREE = {TRAIN: {"split": "train"}, VAL: {"split": "val"}, TEST: {"split": "test"}}
# The labels of the test images were never published.
_VAL_FOR_TEST = {TRAIN: {"split": "train"}, TEST: {"split": "val"}}
_ONE_POOL: Splits = {OPEN: {}}


@dataclass(frozen=True)
class Published:
    """How torchvision reads a set, and how its results are reported."""

    kind: str
    """A class of torchvision.datasets."""
    splits: Splits
    """The arguments that ask for each split."""
    images: Callable[[Any], list[tuple[Image, int]]] = _files
    classes: Callable[[Any], Any] = attrgetter("classes")
    accuracy: Accuracy = "top1"
    """The custom of transfer studies (Kornblith et al. 2019)."""


PUBLISHED: dict[str, Published] = {
    "cifar10": Published("CIFAR10", _FLAG, _packed),
    "cifar100": Published("CIFAR100", _FLAG, _packed),
    "mnist": Published("MNIST", _FLAG, _packed),
    "fashion_mnist": Published("FashionMNIST", _FLAG, _packed),
    "svhn": Published("SVHN", _TRAIN_TEST, _packed, lambda _: list("0123456789")),
    "stl10": Published("STL10", _TRAIN_TEST, _packed),
    "flowers102": Published("Flowers102", _ALL_THREE, accuracy="mean_per_class"),
    "oxford_iiit_pet": Published(
        "OxfordIIITPet", {TRAIN: {"split": "trainval"}, TEST: {"split": "test"}}, _pets, accuracy="mean_per_class"
    ),
    "food101": Published("Food101", _TRAIN_TEST),
    "dtd": Published("DTD", _ALL_THREE),
    "caltech101": Published("Caltech101", _ONE_POOL, _caltech, attrgetter("categories"), "mean_per_class"),
    "fgvc_aircraft": Published("FGVCAircraft", _ALL_THREE, accuracy="mean_per_class"),
    "eurosat": Published("EuroSAT", _ONE_POOL),
    "imagenette": Published("Imagenette", _VAL_FOR_TEST, classes=_synsets),
    "imagenet": Published("ImageNet", _VAL_FOR_TEST, classes=_synsets),
}
"""The sets by name; of DTD the first of ten partitions, of Aircraft the 100 variants, of Imagenette the full size."""


def catalogue(name: str, root: Path, download: bool) -> Catalogue:
    """Return the images of the set `name` under `root`, split by split, without decoding them.

    Raises HarnessError where they are not there, or not whole.
    """
    entry = PUBLISHED[name]
    images: list[Image] = []
    labels: list[int] = []
    given: list[int] = []
    classes: set[tuple[str, ...]] = set()
    for split, arguments in entry.splits.items():
        dataset = _open(name, entry, arguments, root, download)
        for image, label in entry.images(dataset):
            images.append(image)
            labels.append(label)
            given.append(split)
        classes.add(tuple(entry.classes(dataset)))
    if len(classes) != 1:
        raise HarnessError(f"{name} in {root} is not whole: its splits name different classes")
    return Catalogue(root, tuple(images), np.array(labels), np.array(given), classes.pop())


def _open(name: str, entry: Published, arguments: Mapping[str, Any], root: Path, download: bool) -> Any:
    from torchvision import datasets  # takes a second to import

    options = dict(arguments)
    if entry.images is _files:
        options["loader"] = str
    if download:
        options["download"] = True
    try:
        if not download and not root.is_dir():
            raise FileNotFoundError("there is no such folder")
        return getattr(datasets, entry.kind)(root, **options)
    except Exception as error:  # each loader has its own way to say that a file is missing or broken
        mend = (
            "" if download else "; place its archives there" if name == "imagenet" else "; `download: true` fetches it"
        )
        raise HarnessError(f"cannot read {name} in {root}: {error}{mend}") from error
