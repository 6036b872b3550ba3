"""What a spec may say of scenes."""

import pytest
from pydantic import ValidationError

from harness import specfile
from harness.digest import plain
from harness.errors import HarnessError
from harness.spec import Augment, Data


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"name": "voc_detection"}, "voc_detection needs `root`"),
        ({"name": "digit_scenes", "root": "x"}, "have no `root`"),
        ({"name": "digit_scenes", "stream": True}, "cannot be streamed"),
        ({"name": "digit_scenes", "download": True}, "cannot be fetched"),
        ({"name": "image_mask_folder", "root": "x", "download": True}, "cannot be fetched"),
        ({"name": "digit_scenes", "image_size": 24}, "an image_size of 32 or more for four digits, not 24"),
        ({"name": "digit_scenes", "classes": ("1", "ten")}, "unknown class of digits 'ten'"),
        ({"name": "digit_scenes", "classes": ("1", "1")}, "named twice"),
        ({"name": "digit_scenes", "shift": ("invert",)}, "shift is for classification"),
        ({"name": "digit_scenes", "train_per_class": 8}, "train_per_class is for classification.*; say train_images"),
        ({"name": "digits", "train_images": 8}, "train_images is for digit_scenes, .* and not for digits"),
        ({"name": "digits", "zero_is_other": True}, "zero_is_other is for"),
        ({"name": "voc_segmentation", "root": "x", "zero_is_other": True}, "zero_is_other is for image_mask_folder"),
        ({"name": "voc_detection", "root": "x", "classes": ("cat", "dog")}, "the 20 classes of Pascal VOC"),
    ],
)
def test_data_that_mean_nothing_are_refused(section, message):
    with pytest.raises(ValidationError, match=message):
        Data(**section)


def test_image_size_of_scenes_need_not_be_a_multiple_of_eight():
    assert Data(name="digit_scenes", image_size=100).image_size == 100


def test_identity_of_older_sections_is_what_it_was():
    """What came with scenes enters an identity where it says something alone."""
    assert not {"train_images", "val_images", "test_images", "zero_is_other"} & plain(Data(name="digits")).keys()
    assert plain(Data(name="digit_scenes", train_images=8))["train_images"] == 8
    assert "rescale" not in plain(Augment())


def test_rescale_is_a_range():
    with pytest.raises(ValidationError, match="the lower end comes first"):
        Augment(rescale=(2.0, 0.5))


@pytest.mark.parametrize(
    ("data", "augment", "message"),
    [
        ("digits", "{rescale: [0.5, 2]}", "rescale is for images with masks, and not for digits"),
        ("digit_scenes", "{crop_padding: 2}", "crop_padding moves images without their boxes and masks"),
        ("digit_scenes", "{resized_crop: true}", "resized_crop moves images without their boxes"),
    ],
)
def test_augmentation_fits_the_data(write_spec, data, augment, message):
    masks = ["task=segmentation", "model={name: mini_resnet14, head: fcn}"] if data == "digit_scenes" else []
    with pytest.raises(HarnessError, match=message):
        specfile.read(write_spec(), [*masks, f"data={{name: {data}, image_size: 32}}", f"train.augment={augment}"])
