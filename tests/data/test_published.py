"""Published sets: the images, labels and splits that torchvision's own loaders give, without opening any."""

from pathlib import Path
from typing import Any, get_args

import numpy as np
import PIL.Image
import pytest
import torch
from torchvision import datasets

from harness import data as images
from harness.data import decoding
from harness.data.published import PUBLISHED
from harness.data.sizes import OPEN, TEST, TRAIN, VAL
from harness.errors import HarnessError
from harness.spec import Data
from harness.spec.data import SCENES
from tests.data.publishers import MAKE, SIDE, pixels
from tests.samples import pixels_of

ALL_THREE = {TRAIN: {"split": "train"}, VAL: {"split": "val"}, TEST: {"split": "test"}}
TRAIN_TEST = {TRAIN: {"split": "train"}, TEST: {"split": "test"}}
VAL_FOR_TEST = {TRAIN: {"split": "train"}, TEST: {"split": "val"}}
FLAG = {TRAIN: {"train": True}, TEST: {"train": False}}
SPLITS: dict[str, dict[int, dict[str, Any]]] = {
    "cifar10": FLAG,
    "cifar100": FLAG,
    "mnist": FLAG,
    "fashion_mnist": FLAG,
    "svhn": TRAIN_TEST,
    "stl10": TRAIN_TEST,
    "food101": TRAIN_TEST,
    "flowers102": ALL_THREE,
    "dtd": ALL_THREE,
    "fgvc_aircraft": ALL_THREE,
    "oxford_iiit_pet": {TRAIN: {"split": "trainval"}, TEST: {"split": "test"}},
    "imagenette": VAL_FOR_TEST,
    "imagenet": VAL_FOR_TEST,
    "caltech101": {OPEN: {}},
    "eurosat": {OPEN: {}},
}
"""Which argument asks torchvision for which split, written out once more from its documentation."""

COUNTS = {
    "cifar10": {"cat": {TRAIN: 10, TEST: 2}, "ship": {TRAIN: 10, TEST: 2}, "airplane": {TRAIN: 10, TEST: 2}},
    "mnist": {"7 - seven": {TRAIN: 10, TEST: 3}, "1 - one": {TRAIN: 10, TEST: 3}},
    "fashion_mnist": {"Sneaker": {TRAIN: 10, TEST: 3}, "Trouser": {TRAIN: 10, TEST: 3}},
    "svhn": {"0": {TRAIN: 6, TEST: 2}, "4": {TRAIN: 6, TEST: 2}},
    "flowers102": {name: {TRAIN: 1, VAL: 1, TEST: 4} for name in ("pink primrose", "passion flower")},
    "oxford_iiit_pet": {name: {TRAIN: 4, TEST: 2} for name in ("Abyssinian", "American Bulldog")},
    "dtd": {name: {TRAIN: 2, VAL: 1, TEST: 2} for name in ("banded", "zigzagged")},
    "caltech101": {"ant": {OPEN: 5}, "yin_yang": {OPEN: 5}},
    "fgvc_aircraft": {name: {TRAIN: 1, VAL: 1, TEST: 1} for name in ("707-320", "DR-400")},
    "imagenette": {"tench": {TRAIN: 4, TEST: 2}, "parachute": {TRAIN: 4, TEST: 2}},
    "imagenet": {name: {TRAIN: 4, TEST: 2} for name in ("tench", "crane (n02012849)", "crane (n03126707)")},
}
"""What the tiny sets have in each class that has images."""


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A function that makes a tiny set and returns the section of a spec that names it."""

    def make(name, **options):
        root = tmp_path / name
        root.mkdir()
        MAKE[name](root, monkeypatch)
        return Data(**{"name": name, "root": str(root), "image_size": SIDE.get(name, 8), **options})

    return make


def pool_of(data, cache):
    return images.decode(data, decoding.catalogue_of(data).content(), cache)


def test_the_spec_names_every_set():
    assert {*PUBLISHED, *SCENES, "digits", "image_folder"} == set(get_args(Data.model_fields["name"].annotation))
    assert set(MAKE) == set(SPLITS) == set(PUBLISHED)


@pytest.mark.parametrize("name", MAKE)
def test_images_labels_and_splits_are_those_of_torchvision(name, made, tmp_path):
    data = made(name)
    pool = pool_of(data, tmp_path / "cache")
    wanted = [
        (image.convert("RGB"), label, part)
        for part, arguments in SPLITS[name].items()
        for image, label in _torchvision(name, data.root, arguments)
    ]
    assert len(pool.labels) == len(wanted) >= 6
    for row, (image, label, part) in enumerate(wanted):
        assert np.array_equal(pool.images[row], np.asarray(image).transpose(2, 0, 1))
        assert (pool.labels[row], pool.given[row]) == (label, part)


def _torchvision(name, root, arguments):
    dataset = getattr(datasets, PUBLISHED[name].kind)(root, **arguments)
    return [dataset[row] for row in range(len(dataset))]


@pytest.mark.parametrize("name", COUNTS)
def test_counts_are_by_class_and_split(name, made):
    found = decoding.catalogue_of(made(name)).counts()
    assert {label: given for label, given in found.items() if given} == COUNTS[name]


@pytest.mark.parametrize("name", ["cifar10", "svhn", "oxford_iiit_pet", "eurosat"])
def test_classes_asked_for_are_labels_in_their_order(name, made, tmp_path):
    data = made(name)
    counts = decoding.catalogue_of(data).counts()
    wanted = tuple(label for label, given in counts.items() if given)[:2][::-1]
    chosen = data.model_copy(update={"classes": wanted})
    pool, everything = pool_of(chosen, tmp_path), pool_of(data, tmp_path)
    assert pool.classes == wanted
    for label, class_name in enumerate(wanted):
        theirs = everything.images[everything.labels == list(counts).index(class_name)]
        assert np.array_equal(pool.images[pool.labels == label], theirs)


def test_survey_keeps_the_publishers_splits(made):
    found = images.survey(made("flowers102", classes=("pink primrose", "passion flower")))
    assert (found.train_size, found.val_size, found.test_size) == (2, 2, 8)
    assert found.classes == ("pink primrose", "passion flower")


def test_test_images_of_the_publisher_are_those_that_are_tested_on(made, tmp_path):
    data = made("dtd")
    splits = images.load(data, images.survey(data).content, 0, tmp_path, torch.device("cpu"))
    tested = [
        np.asarray(image).transpose(2, 0, 1).tobytes() for image, _ in _torchvision("dtd", data.root, {"split": "test"})
    ]
    assert sorted(tested) == sorted(image.numpy().tobytes() for image in pixels_of(splits.test))


@pytest.mark.parametrize("name", [name for name in MAKE if name not in SIDE])
def test_survey_opens_no_image(name, made, monkeypatch):
    data = made(name)
    monkeypatch.setattr(PIL.Image, "open", lambda *_: pytest.fail("an image was opened"))
    assert decoding.catalogue_of(data).content()


@pytest.mark.parametrize("name", ["mnist", "stl10"])
def test_packed_images_are_resized_as_files_are(name, made, tmp_path):
    data = made(name, image_size=16)
    image, _ = _torchvision(name, data.root, SPLITS[name][TRAIN])[0]
    image.save(tmp_path / "image.png")
    assert np.array_equal(pool_of(data, tmp_path).images[0], decoding.decode(str(tmp_path / "image.png"), 16))


def test_content_is_that_of_pixels_labels_and_splits(made):
    data = made("cifar10")
    catalogue = decoding.catalogue_of(data)
    found = {catalogue.content()}
    for change in ("labels", "given"):
        other = getattr(catalogue, change).copy()
        other[0] = 1
        found.add(type(catalogue)(**{**vars(catalogue), change: other}).content())
    other_pixels = (pixels(32, 32, 3), *catalogue.images[1:])
    found.add(type(catalogue)(**{**vars(catalogue), "images": other_pixels}).content())
    assert len(found) == 4
    assert catalogue.content() in found


def test_content_of_files_changes_with_their_labels(made):
    data = made("dtd")
    before = decoding.catalogue_of(data).content()
    labels = f"{data.root}/dtd/dtd/labels/"
    with open(labels + "train1.txt") as train, open(labels + "val1.txt") as val:
        texts = train.read(), val.read()
    for name, text in zip(("val1.txt", "train1.txt"), texts, strict=True):
        with open(labels + name, "w") as file:
            file.write(text)
    assert decoding.catalogue_of(data).content() != before


@pytest.mark.parametrize("name", MAKE)
def test_missing_set_names_its_folder_and_the_way_to_get_it(name, tmp_path):
    with pytest.raises(HarnessError, match=f"cannot read {name} in {tmp_path}") as caught:
        images.survey(Data(name=name, root=str(tmp_path)))
    assert ("download: true" in str(caught.value)) == (name != "imagenet")


def test_missing_folder_is_not_made(tmp_path):
    with pytest.raises(HarnessError, match="no such folder"):
        images.survey(Data(name="caltech101", root=str(tmp_path / "none")))
    assert not (tmp_path / "none").exists()


def test_set_is_downloaded_where_the_spec_says_so(tmp_path, monkeypatch):
    """The publisher's server stands beside: what is fetched is what the loader then reads."""
    (tmp_path / "data").mkdir()

    def download(self):
        if not Path(self.root, self.base_folder).exists():
            MAKE["cifar10"](Path(self.root), monkeypatch)

    monkeypatch.setattr(datasets.CIFAR10, "download", download)
    data = Data(name="cifar10", root=str(tmp_path / "data"), download=True, classes=("cat", "ship"))
    assert images.survey(data).train_size == 16


def test_sets_of_uneven_classes_are_reported_by_the_mean_over_classes():
    def custom(name):
        return images.accuracy_of(Data(name=name, root=None if name == "digits" else "data", image_size=32))

    by_class = {name for name in [*PUBLISHED, "digits", "image_folder"] if custom(name) == "mean_per_class"}
    assert by_class == {"flowers102", "oxford_iiit_pet", "caltech101", "fgvc_aircraft"}
