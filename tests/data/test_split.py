"""Splits: without overlap, not even of copies, deterministic, and of the sizes that were planned."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from harness import data as images
from harness.data.sizes import OPEN, TEST, TRAIN, VAL, Sizes, sizes
from harness.data.split import Parts, Pool, partition
from harness.errors import HarnessError
from harness.spec import Data

FOLDER = {"name": "image_folder", "root": "unused", "image_size": 2}


def settings(**options):
    return Data(**{**FOLDER, **options})


def pool_of(given, seed=0):
    """Return a pool of distinct images, `given` saying for each class how many it has by split given; shuffled."""
    rng = np.random.default_rng(seed)
    labels = [label for label, counts in enumerate(given) for count in counts.values() for _ in range(count)]
    parts = [part for counts in given for part, count in counts.items() for _ in range(count)]
    order = rng.permutation(len(labels))
    pixels = np.arange(len(labels), dtype=np.uint32).view(np.uint8).reshape(-1, 1, 2, 2)
    return Pool(
        np.broadcast_to(pixels, (len(labels), 3, 2, 2)).copy(),
        np.array(labels, dtype=np.int64)[order],
        np.array(parts)[order],
        tuple("abcdefgh"[: len(given)]),
    )


def counts_of(pool, rows):
    return np.bincount(pool.labels[rows], minlength=len(pool.classes)).tolist()


def as_sets(parts: Parts):
    return set(parts.train.tolist()), set(parts.val.tolist()), set(parts.test.tolist())


GIVEN = {
    "open": {OPEN: 20},
    "train": {TRAIN: 20},
    "train and val": {TRAIN: 20, VAL: 5},
    "train and test": {TRAIN: 20, TEST: 6},
    "train, val and test": {TRAIN: 20, VAL: 5, TEST: 6},
    "open and test": {OPEN: 20, TEST: 6},
    "open and val": {OPEN: 20, VAL: 4},
}
OPTIONS = {
    "shares": {},
    "other shares": {"test_share": 0.1, "val_share": 0.5},
    "counts": {"test_per_class": 4, "val_per_class": 3},
    "few to train on": {"train_per_class": 5},
    "counts and few": {"test_per_class": 2, "val_per_class": 2, "train_per_class": 1},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("given", GIVEN.values(), ids=GIVEN)
def test_splits_are_disjoint_and_of_the_planned_sizes(given, options):
    data = settings(**options)
    pool = pool_of([given, {part: count + 3 for part, count in given.items()}])
    parts = partition(pool, data, seed=0)
    train, val, test = as_sets(parts)
    assert len(train | val | test) == len(train) + len(val) + len(test)
    assert len(train) + len(val) + len(test) == len(parts.train) + len(parts.val) + len(parts.test)  # no row twice
    for label, name in enumerate(pool.classes):
        here = pool.labels == label
        found = {part: int((here & (pool.given == part)).sum()) for part in (TRAIN, VAL, TEST, OPEN)}
        actual = Sizes(*(counts_of(pool, rows)[label] for rows in (parts.train, parts.val, parts.test)))
        assert actual == sizes(found, data, name)
        assert min(actual.train, actual.val, actual.test) > 0


@pytest.mark.parametrize("given", GIVEN.values(), ids=GIVEN)
def test_images_stay_in_the_split_their_publisher_gave(given):
    pool = pool_of([given, given])
    parts = partition(pool, settings(), seed=0)
    for split, rows in ((TEST, parts.test), (VAL, parts.val)):
        if split in given:
            assert set(rows.tolist()) == set(np.flatnonzero(pool.given == split).tolist())


def test_class_that_the_published_test_split_lacks_takes_its_share_of_train():
    pool = pool_of([{TRAIN: 20, TEST: 5}, {TRAIN: 20}])
    parts = partition(pool, settings(test_share=0.3), seed=0)
    assert counts_of(pool, parts.test) == [5, 6]
    assert len(parts.train) + len(parts.val) + len(parts.test) == 45


def test_shares_are_of_each_class_and_validation_of_what_is_left():
    assert sizes({OPEN: 100}, settings(test_share=0.3, val_share=0.2), "a") == Sizes(train=56, val=14, test=30)
    assert sizes({TRAIN: 100, TEST: 7}, settings(val_share=0.2), "a") == Sizes(train=80, val=20, test=7)
    assert sizes({TRAIN: 100}, settings(test_share=0.3, val_share=0.2), "a") == Sizes(train=56, val=14, test=30)
    assert sizes({OPEN: 100}, settings(train_per_class=5), "a") == Sizes(train=5, val=14, test=30)


def test_even_a_small_share_is_one_image():
    assert sizes({OPEN: 10}, settings(test_share=0.01, val_share=0.01), "a") == Sizes(train=8, val=1, test=1)


def test_counts_cut_what_the_publisher_gave():
    data = settings(test_per_class=3, val_per_class=2)
    assert sizes({TRAIN: 10, VAL: 5, TEST: 6}, data, "a") == Sizes(train=10, val=2, test=3)


@pytest.mark.parametrize(
    ("given", "options"),
    [
        ({OPEN: 2}, {}),
        ({OPEN: 10}, {"test_per_class": 10}),
        ({OPEN: 10}, {"test_per_class": 40}),
        ({OPEN: 10}, {"train_per_class": 7}),
        ({TEST: 10}, {}),
        ({TRAIN: 1, TEST: 10}, {}),
        ({}, {}),
    ],
)
def test_class_with_too_few_images_is_named(given, options):
    with pytest.raises(HarnessError, match=r"class 'rare' has (0|6) images left"):
        sizes(given, settings(**options), "class 'rare'")


def test_too_few_images_names_how_many_were_asked_for():
    with pytest.raises(HarnessError, match=r"6 images left .* 1 for validation and 3 for test, fewer than the 7"):
        sizes({OPEN: 10}, settings(train_per_class=7), "class 'rare'")


# What the seeds decide.


@pytest.fixture
def pool():
    return pool_of([{OPEN: 40}, {OPEN: 30}, {OPEN: 35}])


def test_splits_are_deterministic(pool):
    first, again = (partition(pool, settings(train_per_class=5), seed=3) for _ in range(2))
    assert as_sets(first) == as_sets(again)
    assert [rows.tolist() for rows in (first.train, first.val, first.test)] == [
        sorted(rows.tolist()) for rows in (again.train, again.val, again.test)
    ]


def test_seeds_share_test_and_validation_and_draw_their_own_training_images(pool):
    data = settings(train_per_class=5)
    (train0, val0, test0), (train1, val1, test1) = (as_sets(partition(pool, data, seed)) for seed in (0, 1))
    assert (val0, test0) == (val1, test1)
    assert train0 != train1
    assert not train1 & (val0 | test0)


def test_without_a_limit_all_seeds_train_on_all_that_is_left(pool):
    first, second = (partition(pool, settings(), seed) for seed in (0, 1))
    assert as_sets(first) == as_sets(second)
    assert sum(map(len, as_sets(first))) == len(pool.labels)


def test_split_seed_moves_test_and_validation(pool):
    first, second = (as_sets(partition(pool, settings(split_seed=seed), 0)) for seed in (0, 1))
    assert first[1] != second[1]
    assert first[2] != second[2]


def test_fewer_training_images_are_a_subset_of_more(pool):
    """A study of how many images are needed then adds images instead of drawing new ones."""
    few, more = (set(partition(pool, settings(train_per_class=n), 0).train.tolist()) for n in (4, 9))
    assert few < more


# Copies.


def test_copies_never_straddle_splits():
    """Test wins over validation, and validation over training."""
    pool = pool_of([{TRAIN: 20, VAL: 5, TEST: 5}, {TRAIN: 20, VAL: 5, TEST: 5}])
    rows = {part: np.flatnonzero((pool.given == part) & (pool.labels == 0)) for part in (TRAIN, VAL, TEST)}
    pool.images[rows[TRAIN][0]] = pool.images[rows[TEST][0]]
    pool.images[rows[TRAIN][1]] = pool.images[rows[VAL][0]]
    pool.images[rows[VAL][1]] = pool.images[rows[TEST][1]]
    pool.images[rows[TRAIN][3]] = pool.images[rows[TRAIN][2]]
    parts = partition(pool, settings(), seed=0)
    train, val, test = as_sets(parts)
    assert {rows[TRAIN][0], rows[TRAIN][1]} & train == set()
    assert len({rows[TRAIN][2], rows[TRAIN][3]} & train) == 1
    assert rows[VAL][0] in val
    assert rows[VAL][1] not in val
    assert set(rows[TEST].tolist()) <= test
    assert parts.duplicates_dropped == 4


def test_copies_under_another_label_are_copies():
    pool = pool_of([{TRAIN: 20, TEST: 5}, {TRAIN: 20, TEST: 5}])
    tested = np.flatnonzero((pool.given == TEST) & (pool.labels == 0))[0]
    trained = np.flatnonzero((pool.given == TRAIN) & (pool.labels == 1))[0]
    pool.images[trained] = pool.images[tested]
    parts = partition(pool, settings(), seed=0)
    assert trained not in parts.train
    assert tested in parts.test


def test_all_given_test_images_are_kept_even_copies_of_each_other():
    """They are what others report on, so the set stays what its publisher made it."""
    pool = pool_of([{TRAIN: 20, TEST: 5}, {TRAIN: 20, TEST: 5}])
    tested = np.flatnonzero(pool.given == TEST)
    pool.images[tested[1]] = pool.images[tested[0]]
    parts = partition(pool, settings(), seed=0)
    assert parts.test.tolist() == tested.tolist()
    assert parts.duplicates_dropped == 0


def test_copies_in_an_open_pool_are_one_image_whatever_the_split():
    pool = pool_of([{OPEN: 30}, {OPEN: 30}])
    for label in (0, 1):
        rows = np.flatnonzero(pool.labels == label)
        pool.images[rows[10:20]] = pool.images[rows[:10]]
    for split_seed in range(5):
        parts = partition(pool, settings(split_seed=split_seed), seed=0)
        kept = np.concatenate([parts.train, parts.val, parts.test])
        assert len(kept) == len({pool.images[row].tobytes() for row in kept}) == 40
        assert parts.duplicates_dropped == 20


def test_sizes_are_taken_of_what_is_left_after_copies():
    pool = pool_of([{OPEN: 30}, {OPEN: 30}])
    rows = np.flatnonzero(pool.labels == 0)
    pool.images[rows[10:]] = pool.images[rows[0]]
    parts = partition(pool, settings(test_per_class=2, val_per_class=2), seed=0)
    assert [counts_of(pool, rows)[0] for rows in (parts.train, parts.val, parts.test)] == [6, 2, 2]


def test_class_of_copies_is_refused():
    pool = pool_of([{OPEN: 30}, {OPEN: 30}])
    pool.images[pool.labels == 1] = pool.images[np.flatnonzero(pool.labels == 1)[0]]
    with pytest.raises(HarnessError, match="class 'b'"):
        partition(pool, settings(), seed=0)


# Loading.


@pytest.fixture
def load(tmp_path):
    def of(seed=0, **options):
        data = Data(name="digits", **{"classes": ("5", "6", "7"), "image_size": 8, **options})
        return images.load(data, "digits", seed, tmp_path, torch.device("cpu"))

    return of


def test_loaded_splits_are_tensors_of_the_planned_size(load):
    splits = load(train_per_class=8)
    data = Data(name="digits", classes=("5", "6", "7"), image_size=8, train_per_class=8)
    assert len(splits.train) == images.survey(data).train_size == 24
    assert splits.train.images.shape == (24, 3, 8, 8)
    assert splits.train.images.dtype == torch.uint8
    assert splits.train.labels.dtype == torch.int64
    assert splits.train.labels.bincount().tolist() == [8, 8, 8]
    assert splits.duplicates_dropped == 0


def test_loaded_labels_belong_to_their_images(load):
    source = load_digits()
    pixels = [np.round(image * 255 / 16).astype(np.uint8).tobytes() for image in source.images]
    digit = dict(zip(pixels, source.target, strict=True))
    for part in (load().train, load().val, load().test):
        assert [digit[image[0].numpy().tobytes()] for image in part.images] == (part.labels + 5).tolist()


def test_shift_changes_pixels_and_no_split(load):
    plain, shifted = load(), load(shift=("invert",))
    for one, other in zip(
        (plain.train, plain.val, plain.test), (shifted.train, shifted.val, shifted.test), strict=True
    ):
        assert torch.equal(one.labels, other.labels)
        assert torch.equal(255 - one.images, other.images)


def test_train_size_is_that_of_every_seed(load):
    assert len(load(seed=0, train_per_class=8).train) == len(load(seed=1, train_per_class=8).train) == 24
    data = Data(name="digits", classes=("5", "6", "7"), image_size=8)
    assert len(load().train) == images.survey(data).train_size
