"""Mean average precision against cases worked out by hand."""

import math

import pytest
import torch

from harness.data.scene_sets import SceneSet
from harness.tasks import detection

SQUARE = (10, 10, 20, 20)
"""A box of 100 pixels."""


def objects(*boxes, labels=None, scores=None, crowd=None):
    """One image's boxes, all of class 1 unless said otherwise."""
    found = {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "labels": torch.tensor(labels or [1] * len(boxes), dtype=torch.int64),
    }
    if scores is not None:
        found["scores"] = torch.tensor(scores, dtype=torch.float32)
    if crowd is not None:
        found["iscrowd"] = torch.tensor(crowd, dtype=torch.int64)
    return found


def apart(count):
    """Boxes of 100 pixels, none of which touches another."""
    return [(20 * place, 10, 20 * place + 10, 20) for place in range(count)]


def approx(expected):
    return pytest.approx(expected, abs=1e-6)  # scores come in 32 bits


def score(predictions, targets):
    return detection.average_precision(predictions, targets)


def test_all_that_is_found_scores_one():
    truth = [objects(*apart(3), labels=[1, 2, 1]), objects(SQUARE, labels=[2])]
    found = [objects(*apart(3), labels=[1, 2, 1], scores=[0.3, 0.9, 0.5]), objects(SQUARE, labels=[2], scores=[0.1])]
    assert score(found, truth) == approx({"map50": 1, "map50_11": 1, "map": 1})


def test_nothing_found_scores_zero():
    assert score([objects(scores=[])], [objects(SQUARE)]) == approx({"map50": 0, "map50_11": 0, "map": 0})


def test_nothing_to_find_has_no_score():
    found = detection.average_precision([objects(SQUARE, scores=[0.9])], [objects()])
    assert set(found) == {"map50", "map50_11", "map"}
    assert all(math.isnan(value) for value in found.values())


def test_duplicate_is_false_and_costs_where_more_is_to_be_found():
    """One of two objects is found twice, the other after that: precision 1 to recall ½, and 2/3 from there to 1."""
    boxes = apart(2)
    found = objects(boxes[0], boxes[0], boxes[1], scores=[0.9, 0.8, 0.7])
    # Of the recalls 0, 0.01, … 1 the first 51 reach up to ½, of 0, 0.1, … 1 the first 6.
    area, eleven = (51 + 50 * 2 / 3) / 101, (6 + 5 * 2 / 3) / 11
    assert score([found], [objects(*boxes)]) == approx({"map50": area, "map50_11": eleven, "map": area})


def test_duplicate_after_all_is_found_costs_nothing():
    found = objects(SQUARE, SQUARE, scores=[0.9, 0.8])
    assert score([found], [objects(SQUARE)])["map50"] == approx(1)


def test_false_detections_above_the_right_one_lower_its_precision():
    far = (40, 40, 50, 50)
    found = objects(far, SQUARE, scores=[0.9, 0.8])
    assert score([found], [objects(SQUARE)]) == approx({"map50": 0.5, "map50_11": 0.5, "map": 0.5})


def test_wrong_class_is_both_missed_and_false():
    """Class 1 of two has one object found of two; class 2 has one, which is missed."""
    boxes = apart(3)
    truth = objects(*boxes, labels=[1, 1, 2])
    found = objects(boxes[0], boxes[2], labels=[1, 1], scores=[0.9, 0.8])
    assert score([found], [truth])["map50"] == approx((51 / 101 + 0) / 2)


def test_class_that_is_nowhere_in_truth_does_not_count():
    found = objects(SQUARE, (40, 40, 50, 50), labels=[1, 7], scores=[0.5, 0.9])
    assert score([found], [objects(SQUARE)])["map50"] == approx(1)


@pytest.mark.parametrize(("shift", "hits"), [(3.3, 1), (3.4, 0)])
def test_overlap_counts_from_one_half_on(shift, hits):
    """A square moved by s has IoU (10 − s)/(10 + s): 0.504 for 3.3, 0.493 for 3.4; a half is at 10/3."""
    moved = objects((10 + shift, 10, 20 + shift, 20), scores=[0.9])
    assert score([moved], [objects(SQUARE)]) == approx({"map50": hits, "map50_11": hits, "map": hits / 10})


def test_map_is_the_mean_over_ten_thresholds():
    """IoU 80/100: found at 0.50, 0.55, … 0.80, which are seven of the ten."""
    found = objects((10, 10, 20, 18), scores=[0.9])
    assert score([found], [objects(SQUARE)]) == approx({"map50": 1, "map50_11": 1, "map": 0.7})


def test_eleven_points_of_a_curve_worked_out_by_hand():
    """Five objects; right, right, wrong, right, wrong, wrong, right, and one is never found.

    Precision at recalls 0.2, 0.4, 0.6, 0.8: 1, 1, 3/4, 4/7. The highest at a recall or beyond is 1 to 0.4, 3/4 to
    0.6, 4/7 to 0.8 and 0 after. Of 0, 0.1, … 1: five at 1, two at 3/4, two at 4/7, two at 0.
    """
    boxes = apart(5)
    wrong = [(20 * place, 60, 20 * place + 10, 70) for place in range(3)]
    order = [boxes[0], boxes[1], wrong[0], boxes[2], wrong[1], wrong[2], boxes[3]]
    found = objects(*order, scores=[0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3])
    eleven = (5 * 1 + 2 * 3 / 4 + 2 * 4 / 7) / 11
    area = (41 * 1 + 20 * 3 / 4 + 20 * 4 / 7) / 101
    assert score([found], [objects(*boxes)]) == approx({"map50": area, "map50_11": eleven, "map": area})


def test_confidence_orders_detections_of_all_images():
    """A false detection in another image, of higher confidence, halves precision."""
    found = [objects(SQUARE, scores=[0.5]), objects((40, 40, 50, 50), scores=[0.9])]
    assert score(found, [objects(SQUARE), objects()])["map50"] == approx(0.5)


def test_difficult_object_counts_neither_as_found_nor_as_missed():
    boxes = apart(2)
    truth = objects(*boxes, crowd=[0, 1])
    assert score([objects(boxes[0], scores=[0.9])], [truth])["map50"] == approx(1)
    both = objects(boxes[1], boxes[0], scores=[0.9, 0.8])
    assert score([both], [truth])["map50"] == approx(1)
    assert score([both], [objects(*boxes)])["map50"] == approx(1)
    assert score([objects(boxes[0], scores=[0.9])], [objects(*boxes)])["map50"] == approx(
        51 / 101
    )  # were it not difficult


def test_detection_inside_a_difficult_object_does_not_count():
    """COCO's rule: a quarter of the difficult object is all it covers, but all of it lies in there."""
    truth = objects((0, 0, 5, 5), SQUARE, crowd=[0, 1])
    found = objects((10, 10, 15, 15), (0, 0, 5, 5), scores=[0.9, 0.8])
    assert score([found], [truth])["map50"] == approx(1)
    outside = objects((30, 10, 35, 15), (0, 0, 5, 5), scores=[0.9, 0.8])
    assert score([outside], [truth])["map50"] == approx(0.5)


def test_constant_is_the_mean_box_of_the_most_frequent_class():
    """Class 2 is the most frequent; its mean share of the image is the left half, whatever the size."""
    images = [torch.zeros(3, 20, 40, dtype=torch.uint8), torch.zeros(3, 40, 20, dtype=torch.uint8)]
    first = objects((0, 0, 10, 20), (0, 0, 30, 20), labels=[2, 2])
    train = SceneSet(images, None, [first, objects((0, 0, 20, 40), (0, 0, 10, 40), labels=[1, 2])])
    # Shares of the width: 1/4, 3/4 and 1/2, of the height all: the mean is the left half.
    split = SceneSet(images, None, [objects((0, 0, 20, 20), labels=[2]), objects((0, 0, 10, 40), labels=[2])])
    assert detection.constant(train, split) == pytest.approx({"map50": 1, "map50_11": 1, "map": 1})
    other = SceneSet(images, None, [objects((0, 0, 20, 20), labels=[1]), objects((0, 0, 10, 40), labels=[2])])
    assert detection.constant(train, other)["map50"] == pytest.approx((0 + 0.5) / 2)


def test_more_than_a_hundred_detections_are_no_warning():
    found = objects(*[SQUARE] * 150, scores=[0.5] * 150)
    assert score([found], [objects(SQUARE)])["map50"] == approx(1)
