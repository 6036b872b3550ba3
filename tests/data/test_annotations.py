"""Boxes and masks as their files say them, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.data.annotations import boxes_of, mask_of
from harness.data.scene_decoding import fitted, scaled
from harness.data.scene_files import VOC
from harness.errors import HarnessError
from tests.scenes import OBJECTS, annotation, image, mask


@pytest.fixture
def files(tmp_path):
    """Paths of an annotation and of an image of 12×8 that is there."""
    image(tmp_path / "a.jpg")
    return str(tmp_path / "a.xml"), str(tmp_path / "a.jpg")


def boxes(files, *objects, **size):
    xml, jpg = files
    annotation(Path(xml), objects, **size)
    return boxes_of(xml, jpg, VOC)


def test_pixels_count_from_one_and_the_last_belongs_to_the_box(files):
    found = boxes(files, *OBJECTS)
    assert found.size == (8, 12)
    assert found.boxes.tolist() == [[0, 0, 6, 4], [6, 1, 12, 8]]
    assert found.boxes.dtype == np.float32
    assert [VOC[label - 1] for label in found.labels] == ["dog", "person"]
    assert found.difficult.tolist() == [False, True]


def test_image_may_hold_nothing(files):
    found = boxes(files)
    assert (found.boxes.shape, len(found.labels)) == ((0, 4), 0)


def test_pixel_of_rounding_is_cut_off(files):
    assert boxes(files, ("cat", (0, 0.5, 13, 8.4), False)).boxes.tolist() == [[0, 0, 12, 8]]


@pytest.mark.parametrize(
    ("box", "parts"),
    [
        ((5, 1, 4, 8), ["box 1, (4, 0) to (4, 8)", "empty", "xmin"]),
        ((5, 6, 8, 5), ["empty"]),
        ((1, 1, 14, 8), ["box 1, (0, 0) to (14, 8)", "outside the image of 12×8"]),
        ((-1, 1, 4, 8), ["outside"]),
        ((1, 1, 4, 10), ["outside"]),
    ],
)
def test_empty_boxes_and_boxes_outside_the_image_name_the_file(files, box, parts):
    with pytest.raises(HarnessError) as error:
        boxes(files, ("cat", box, False))
    for part in [files[0], *parts]:
        assert part in str(error.value)


def test_unknown_class_names_the_file_and_the_legal_ones(files):
    with pytest.raises(HarnessError, match=r"a\.xml: unknown class 'dgo'; legal: aeroplane.*mean 'dog'"):
        boxes(files, ("dgo", (1, 1, 4, 4), False))


@pytest.mark.parametrize("text", ["", "<annotation><size>", "<annotation><size><width>12</width></size></annotation>"])
def test_unreadable_annotation_names_the_file(files, text):
    xml, jpg = files
    with open(xml, "w") as file:
        file.write(text)
    with pytest.raises(HarnessError, match=r"cannot read annotation .*a\.xml: .*mend the file"):
        boxes_of(xml, jpg, VOC)


def test_annotation_of_another_size_is_refused(files):
    with pytest.raises(HarnessError, match=r"a\.xml speaks of an image of 8×12 pixels, and its image has 12×8"):
        boxes(files, width=8, height=12)


LABELS = np.tile(np.array([0, 1, 2, 255]), (8, 3))


def masked(tmp_path, labels, classes=3, **options):
    image(tmp_path / "a.jpg")
    mask(tmp_path / "a.png", labels)
    return mask_of(str(tmp_path / "a.png"), str(tmp_path / "a.jpg"), classes, **options)


def test_mask_holds_its_labels(tmp_path):
    found = masked(tmp_path, LABELS)
    assert found.dtype == np.uint8
    assert np.array_equal(found, LABELS)


def test_palette_is_read_by_its_indices(tmp_path):
    """VOC's masks are colours in a palette, whose places are the labels."""
    image(tmp_path / "a.jpg")
    coloured = Image.fromarray(LABELS.astype(np.uint8))
    coloured.putpalette((np.random.default_rng(0).permutation(768) % 256).tolist())
    assert coloured.mode == "P"
    coloured.save(tmp_path / "a.png")
    assert np.array_equal(mask_of(str(tmp_path / "a.png"), str(tmp_path / "a.jpg"), 3), LABELS)


def test_zero_may_be_what_has_no_class(tmp_path):
    found = masked(tmp_path, LABELS, classes=2, zero_is_other=True)
    assert np.array_equal(found, np.tile([255, 0, 1, 255], (8, 3)))


@pytest.mark.parametrize(
    ("classes", "other", "legal"), [(2, False, "legal: 0 to 1 "), (1, True, "legal: 1 to 1 .*0 for all other, 255")]
)
def test_label_outside_the_classes_names_the_file(tmp_path, classes, other, legal):
    with pytest.raises(HarnessError, match=rf"a\.png has label 2; {legal}"):
        masked(tmp_path, LABELS, classes=classes, zero_is_other=other)


def test_other_masks_that_mean_nothing_name_the_file(tmp_path):
    with pytest.raises(HarnessError, match=r"a\.png speaks of an image of 6×8 pixels, and its image has 12×8"):
        masked(tmp_path, LABELS[:, :6])
    image(tmp_path / "a.png")
    with pytest.raises(HarnessError, match=r"a\.png has 3 values a pixel; it needs one"):
        mask_of(str(tmp_path / "a.png"), str(tmp_path / "a.jpg"), 3)
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(HarnessError, match=r"cannot read mask .*a\.png"):
        mask_of(str(tmp_path / "a.png"), str(tmp_path / "a.jpg"), 3)


def test_scenes_keep_their_shape():
    assert fitted((375, 500), 300) == (300, 400)
    assert fitted((500, 375), 300) == (400, 300)
    assert fitted((100, 1000), 300) == (50, 500)  # at most 5/3 of the shorter side that was asked for
    assert scaled(np.array([[10, 20, 30, 40]], dtype=np.float32), (100, 200), (50, 400)).tolist() == [[20, 10, 60, 20]]
