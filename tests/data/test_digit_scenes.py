"""Digits on canvases: boxes, masks, splits, and what decides them."""

import numpy as np
import pytest

from harness.data import digit_scenes, digits
from harness.data.split import partition
from harness.spec import Data

FEW = {"train_images": 30, "val_images": 10, "test_images": 15}


def drawn(**options):
    return digit_scenes.draw(Data(**{"name": "digit_scenes", "image_size": 48, **FEW, **options}))


@pytest.fixture(scope="module")
def splits():
    return drawn()


def everything(splits):
    return [canvas for part in splits.values() for canvas in part]


def same(left, right):
    return len(left) == len(right) and all(
        np.array_equal(getattr(a, name), getattr(b, name))
        for a, b in zip(left, right, strict=True)
        for name in ("image", "mask", "boxes", "labels")
    )


def test_as_many_as_asked_for_of_one_to_four_digits(splits):
    assert {split: len(part) for split, part in splits.items()} == {"train": 30, "val": 10, "test": 15}
    assert {len(canvas.labels) for canvas in everything(splits)} == {1, 2, 3, 4}
    for canvas in everything(splits):
        assert (canvas.image.shape, canvas.image.dtype) == ((3, 48, 48), np.uint8)
        assert (canvas.mask.shape, canvas.mask.dtype) == ((48, 48), np.uint8)
        assert (canvas.boxes.dtype, canvas.labels.dtype) == (np.float32, np.int64)
    assert digit_scenes.counts(Data(name="digit_scenes")) == {"train": 400, "val": 100, "test": 200}


def test_mask_and_boxes_are_of_the_same_pixels(splits):
    """Every pixel of a class lies in a box of it, and every box touches its class on all four sides."""
    for canvas in everything(splits):
        covered = np.zeros((48, 48), dtype=bool)
        assert set(np.unique(canvas.mask)) == {0, *canvas.labels}
        for box, label in zip(canvas.boxes.astype(int), canvas.labels, strict=True):
            x1, y1, x2, y2 = box
            assert 0 <= x1 < x2 <= 48
            assert 0 <= y1 < y2 <= 48
            ink = canvas.mask[y1:y2, x1:x2] == label
            assert ink[0].any() and ink[-1].any() and ink[:, 0].any() and ink[:, -1].any()  # noqa: PT018
            covered[y1:y2, x1:x2] |= ink
        assert np.array_equal(covered, canvas.mask > 0)


def test_ink_is_brighter_than_the_ground(splits):
    for canvas in everything(splits):
        luma = canvas.image.mean(0)
        assert luma[canvas.mask > 0].mean() > luma[canvas.mask == 0].mean() + 30


def test_overlap_is_bounded(splits):
    shares = []
    for canvas in everything(splits):
        for place, box in enumerate(canvas.boxes):
            for other in canvas.boxes[:place]:
                sides = (np.minimum(box[2:], other[2:]) - np.maximum(box[:2], other[:2])).clip(min=0)
                shares.append(sides.prod() / min((box[2:] - box[:2]).prod(), (other[2:] - other[:2]).prod()))
    assert 0 < max(shares) < 0.35  # 0.2 of what the digits covered before others hid a part of them


def test_sizes_differ_by_more_than_a_factor_of_two(splits):
    heights = np.concatenate([canvas.boxes[:, 3] - canvas.boxes[:, 1] for canvas in everything(splits)])
    assert heights.max() > 2 * heights.min()


def test_no_digit_is_in_two_splits(monkeypatch):
    """The digits that each split draws from are those of a partition, whose parts share none, not even a copy."""
    pools = []
    draw = digit_scenes._canvases

    def spy(inks, *rest):
        pools.append({ink.tobytes() for ink in inks})
        return draw(inks, *rest)

    monkeypatch.setattr(digit_scenes, "_canvases", spy)
    drawn()
    train, val, test = pools
    assert not train & val
    assert not train & test
    assert not val & test
    pool = digits.read(Data(name="digits", image_size=8))
    parts = partition(pool, Data(name="digits", image_size=8), 0)
    assert [len(found) for found in pools] == [len(rows) for rows in (parts.train, parts.val, parts.test)]


def test_split_seed_decides_everything(splits):
    again, other = drawn(), drawn(split_seed=1)
    for split, canvases in splits.items():
        assert same(canvases, again[split])
        assert not same(canvases, other[split])
        assert (canvases[0].image == other[split][0].image).mean() < 0.2  # the ground is another, too


def test_more_scenes_come_after_the_others(splits):
    assert same(drawn(train_images=40)["train"][:30], splits["train"])


def test_classes_are_labelled_in_the_order_they_are_named():
    """Of one drawing, the other order of names gives the other labels of other digits."""
    canvases = everything(drawn(classes=("7", "1")))
    assert {int(label) for canvas in canvases for label in canvas.labels} == {1, 2}
    widths = [
        np.mean([box[2] - box[0] for c in canvases for box, label in zip(c.boxes, c.labels, strict=True) if label == n])
        for n in (1, 2)
    ]
    assert widths[0] > widths[1]  # a 7 is wider than a 1
