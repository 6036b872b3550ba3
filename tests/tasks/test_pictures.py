"""Pictures of predictions: what is drawn, in which colour, with which words."""

import io

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from harness.tasks import pictures

RIGHT, WRONG, GREY = "#009e73", "#d55e00", "#767676"
BOXES = [(2, 20, 12, 30), (20, 20, 30, 30), (40, 20, 50, 30)]


def objects(boxes, labels, scores=None, crowd=None):
    found = {"boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), "labels": torch.tensor(labels)}
    if scores is not None:
        found["scores"] = torch.tensor(scores)
    if crowd is not None:
        found["iscrowd"] = torch.tensor(crowd)
    return found


def image(height=64, width=64):
    return torch.full((3, height, width), 100, dtype=torch.uint8)


def drawn(panel):
    """Corner, colour and words of each box of a panel."""
    boxes = [patch for patch in panel.patches if isinstance(patch, Rectangle)]
    return [
        ((box.get_x() + 0.5, box.get_y() + 0.5), to_hex(box.get_edgecolor()), text.get_text())
        for box, text in zip(boxes, panel.texts, strict=True)
    ]


def words(figure):
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def test_boxes_say_class_confidence_and_whether_they_are_right():
    """One found, one of the wrong class, one not found; the first once more is wrong; what is in doubt is left out."""
    truth = objects(BOXES, [1, 2, 2])
    found = objects([*BOXES[:2], BOXES[0], BOXES[2]], [1, 1, 1, 2], scores=[0.9, 0.8, 0.7, 0.4])
    figure = pictures.boxes_drawn([image()], [found], [truth], ["cat", "dog"])
    above, below = figure.axes
    assert drawn(above) == [((2, 20), RIGHT, "cat"), ((20, 20), WRONG, "dog"), ((40, 20), WRONG, "dog")]
    assert drawn(below) == [((2, 20), RIGHT, "cat  90%"), ((20, 20), WRONG, "cat  80%"), ((2, 20), WRONG, "cat  70%")]
    assert words(figure) == ["found: same class, IoU of 0.5 or more", "missed above, wrong below"]


def test_difficult_objects_are_grey_and_said():
    truth = objects(BOXES[:2], [1, 1], crowd=[1, 0])
    figure = pictures.boxes_drawn([image()], [objects(BOXES[:1], [1], scores=[0.9])], [truth], ["cat"])
    above, below = figure.axes
    assert [colour for _, colour, _ in drawn(above)] == [GREY, WRONG]
    assert [colour for _, colour, _ in drawn(below)] == [GREY]
    assert words(figure)[-1] == "difficult, not counted"


def test_detections_are_judged_as_the_metric_judges_them():
    """Objects that count go before difficult ones, of which each may hold any number of detections."""
    truth = objects([(0, 0, 20, 20), (0, 0, 20, 16)], [1, 1], crowd=[1, 0])
    found = objects([(0, 0, 20, 18), (0, 0, 20, 19), (2, 2, 6, 6)], [1, 1, 1], scores=[0.9, 0.8, 0.7])
    above, below = pictures.boxes_drawn([image()], [found], [truth], ["cat"]).axes
    assert [colour for _, colour, _ in drawn(above)] == [GREY, RIGHT]
    assert [colour for _, colour, _ in drawn(below)] == [RIGHT, GREY, GREY]


def test_legend_names_no_class_of_what_only_fills_up_a_batch():
    prediction = torch.zeros(8, 8, dtype=torch.uint8)
    prediction[6:] = 2
    target = torch.ones(6, 8, dtype=torch.uint8)
    figure = pictures.masks_drawn([image(6, 8)], [prediction], [target], ["none", "cat", "dog"])
    assert words(figure) == ["none", "cat"]


def test_nothing_found_is_drawn_as_well():
    figure = pictures.boxes_drawn([image()], [objects([], [], scores=[])], [objects([], [])], ["cat"])
    assert drawn(figure.axes[0]) == drawn(figure.axes[1]) == []


def test_masks_have_one_colour_a_class_in_truth_and_prediction():
    target = torch.zeros(4, 6, dtype=torch.int64)
    target[:, 3:], target[0] = 2, 255
    prediction = torch.zeros(6, 8, dtype=torch.int64)  # filled up in its batch
    prediction[:, 4:] = 2
    figure = pictures.masks_drawn([image(4, 6)], [prediction], [target], ["ground", "cat", "dog"])
    shown, truth, predicted = (np.asarray(panel.images[0].get_array()) for panel in figure.axes)
    assert np.array_equal(shown, np.full((4, 6, 3), 100))
    assert predicted.shape == (4, 6, 3)
    assert np.array_equal(truth[0], np.ones((6, 3)))
    assert np.array_equal(truth[1, 0], predicted[1, 0])
    assert np.array_equal(truth[1, 5], predicted[1, 5])
    assert not np.array_equal(truth[1, 0], truth[1, 5])
    assert words(figure) == ["ground", "dog"]  # classes that are there
    assert figure.axes[2].get_xlabel() == f"{15 / 18:.1%} of pixels right"


def test_colours_of_many_classes_differ():
    colours = {tuple(np.round(pictures._colour(label), 3)) for label in range(151)}
    assert len(colours) == 151


@pytest.mark.parametrize("count", [1, 4])
def test_figure_has_a_column_an_image_and_is_drawn(count):
    found = [objects(BOXES, [1, 1, 1], scores=[0.9, 0.8, 0.7])] * count
    figure = pictures.boxes_drawn([image(64, 96)] * count, found, [objects([], [])] * count, ["cat"])
    assert len(figure.axes) == 2 * count
    assert [panel.get_ylabel() for panel in figure.axes if panel.get_ylabel()] == ["truth", "detected"]
    figure.savefig(io.BytesIO())
