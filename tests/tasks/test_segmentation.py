"""Mean IoU and pixel accuracy against masks of 4×4 worked out by hand."""

import pytest
import torch

from harness.data.scene_sets import SceneSet
from harness.tasks import segmentation

TRUTH = torch.tensor([[0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 2, 2], [0, 0, 2, 2]])


def score(prediction, target, classes=3):
    return segmentation.overlap([(prediction, target)], classes)


def test_the_truth_itself_scores_one():
    assert score(TRUTH, TRUTH) == {"miou": 1, "pixel_accuracy": 1}


def test_intersections_over_unions_by_hand():
    """The last column is taken for background: 0 has 8 of 12, 1 and 2 have 2 of 4 each; 12 of 16 pixels are right."""
    prediction = TRUTH.clone()
    prediction[:, 3] = 0
    assert score(prediction, TRUTH) == pytest.approx({"miou": (8 / 12 + 2 / 4 + 2 / 4) / 3, "pixel_accuracy": 12 / 16})


def test_ignored_pixels_count_for_nothing():
    """Of the first row nothing counts: 0 has 6 of 6, 1 has 1 of 2, 2 has 4 of 5; 11 of 12 pixels are right."""
    target, prediction = TRUTH.clone(), TRUTH.clone()
    target[0] = 255
    prediction[0] = 2
    prediction[1, 3] = 2
    assert score(prediction, target) == pytest.approx({"miou": (1 + 1 / 2 + 4 / 5) / 3, "pixel_accuracy": 11 / 12})


def test_class_that_is_nowhere_does_not_count():
    prediction = TRUTH.clone()
    prediction[:, 3] = 0
    assert score(prediction, TRUTH, classes=9) == score(prediction, TRUTH)


def test_class_that_is_predicted_alone_counts_as_missed():
    """One pixel of 0 is taken for class 3, which is nowhere: 0 has 7 of 8, 1 and 2 are whole, 3 has 0 of 1."""
    prediction = TRUTH.clone()
    prediction[0, 0] = 3
    assert score(prediction, TRUTH, classes=4)["miou"] == pytest.approx((7 / 8 + 1 + 1 + 0) / 4)


def test_class_of_ignored_pixels_alone_does_not_count():
    target = torch.full((4, 4), 0)
    target[0] = 255
    prediction = torch.zeros(4, 4, dtype=torch.int64)
    prediction[0] = 1
    assert score(prediction, target) == {"miou": 1, "pixel_accuracy": 1}


def test_pixels_of_all_images_are_added_up_before_they_are_divided():
    """Class 1 has 4 of 4 pixels in the one image and 0 of 1 in the other: 4/5 together, ½ were it by image."""
    first, second = torch.zeros(4, 4, dtype=torch.int64), torch.zeros(4, 4, dtype=torch.int64)
    first[0], second[0, 0] = 1, 1
    predictions, targets = [first, torch.zeros_like(second)], [first, second]
    found = segmentation.overlap(zip(predictions, targets, strict=True), 2)
    assert found == pytest.approx({"miou": (4 / 5 + 27 / 28) / 2, "pixel_accuracy": 31 / 32})
    assert segmentation.overlap([(torch.stack(predictions), torch.stack(targets))], 2) == found


def test_constant_is_the_most_frequent_class_of_training():
    """Class 1 fills most of the training masks but for what is ignored; on the split it is right in 4 of 12 pixels."""
    train, split = torch.full((2, 4, 4), 255), TRUTH.clone()[None]
    train[:, 0], train[:, 1, 0] = 1, 2
    split[:, 0] = 255
    images = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    found = segmentation.constant(
        SceneSet(images, train.to(torch.uint8)), SceneSet(images[:1], split.to(torch.uint8)), classes=3
    )
    assert found == pytest.approx({"miou": (0 + 2 / 12 + 0) / 3, "pixel_accuracy": 2 / 12})


def test_many_classes_are_counted_without_a_matrix_of_pixels_by_classes():
    """Asked for deterministic algorithms, torchmetrics alone would take 34 GB for this mask."""
    target = torch.randint(150, (500, 375), generator=torch.Generator().manual_seed(0))
    torch.use_deterministic_algorithms(True)
    try:
        assert segmentation.overlap([(target, target)], 150) == {"miou": 1, "pixel_accuracy": 1}
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
