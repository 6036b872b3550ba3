"""The digits: counts, enlarging, the order of labels, and the shifts that make another task of them."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from harness import data as images
from harness.data import digits
from harness.data.sizes import OPEN
from harness.spec import Data


@pytest.fixture(scope="module")
def source():
    return load_digits()


def digits_at(size=8, **options):
    return digits.read(Data(name="digits", image_size=size, **options))


def test_counts_are_those_of_the_real_data(source):
    assert tuple(np.bincount(source.target)) == digits.COUNTS
    assert sum(digits.COUNTS) == 1797


def test_counts_by_class_are_all_open():
    counts = digits.counts(Data(name="digits", classes=("7", "5")))
    assert counts == {"7": {OPEN: 179}, "5": {OPEN: 182}}
    assert list(counts) == ["7", "5"]
    assert len(digits.counts(Data(name="digits"))) == 10


def test_counts_are_what_is_read():
    data = Data(name="digits", classes=("7", "5", "0"), image_size=8)
    pool = digits.read(data)
    counted = {name: sum(given.values()) for name, given in digits.counts(data).items()}
    assert counted == dict(zip(pool.classes, np.bincount(pool.labels), strict=True))


def test_pixels_are_the_real_ones_in_three_equal_channels(source):
    pool = digits_at()
    assert pool.images.shape == (1797, 3, 8, 8)
    assert pool.images.dtype == np.uint8
    assert np.abs(pool.images[:, 0].astype(float) - source.images * 255 / 16).max() <= 0.5
    assert (pool.images.min(), pool.images.max()) == (0, 255)
    assert np.array_equal(pool.images[:, 0], pool.images[:, 1])
    assert np.array_equal(pool.images[:, 0], pool.images[:, 2])


def test_enlarging_repeats_pixels():
    small, large = digits_at(8, classes=("3", "4")).images, digits_at(24, classes=("3", "4")).images
    assert large.shape[2:] == (24, 24)
    for row, column in np.ndindex(3, 3):
        assert np.array_equal(large[:, :, row::3, column::3], small)


def test_labels_are_numbered_in_the_order_of_the_classes(source):
    pool = digits_at(classes=("7", "5"))
    wanted = source.target[np.isin(source.target, (5, 7))]
    assert pool.classes == ("7", "5")
    assert np.array_equal(np.where(pool.labels == 0, 7, 5), wanted)
    assert pool.labels.dtype == np.int64


def test_classes_of_source_and_target_share_no_image():
    first, second = digits_at(classes=tuple("01234")), digits_at(classes=tuple("56789"))
    assert len(first.labels) + len(second.labels) == 1797
    seen = {image.tobytes() for image in first.images}
    assert not seen & {image.tobytes() for image in second.images}


def test_shifts_are_what_they_say(tmp_path):
    def shifted(*shift):
        return images.decode(Data(name="digits", image_size=8, shift=shift), "digits", tmp_path).images

    plain = shifted()
    assert np.array_equal(shifted("invert"), 255 - plain)
    assert shifted("invert").dtype == np.uint8
    # A quarter turn against the clock takes the last column to the first row.
    assert np.array_equal(shifted("rotate90")[:, :, 0, :], plain[:, :, :, -1])
    assert np.array_equal(shifted("rotate180"), plain[:, :, ::-1, ::-1])
    assert np.array_equal(shifted("rotate90", "rotate90"), shifted("rotate180"))
    assert np.array_equal(shifted("invert", "rotate90"), 255 - shifted("rotate90"))


def test_survey_has_classes_size_and_content():
    found = images.survey(Data(name="digits", classes=("7", "5"), train_per_class=9))
    assert found.classes == ("7", "5")
    assert found.train_size == 18
    assert found.content == images.survey(Data(name="digits")).content  # the real data never change
