"""Masks whose labels cannot be what was meant are refused before anything is trained."""

import numpy as np
import pytest
import torch

from harness.data import scene_files, scenes
from harness.data.annotations import IGNORED
from harness.errors import HarnessError
from harness.spec import Data
from tests.data.publishers import jpeg
from tests.scenes import mask


def folder(root, labels, classes, name="classes.txt", header=""):
    """Four images with masks of these labels in rows, in each of two splits."""
    for split in ("train", "test"):
        for number in range(4):
            jpeg(root / "images" / split / f"{number}.jpg")
            (root / "annotations" / split).mkdir(parents=True, exist_ok=True)
            rows = np.resize(np.array(labels), 8)[:, None].repeat(8, axis=1)
            mask(root / "annotations" / split / f"{number}.png", rows)
    (root / name).write_text(header + "\n".join(classes) + "\n")
    return Data(name="image_mask_folder", root=str(root), image_size=8, val_images=1)


def checked(data, tmp_path):
    content = scenes.survey(data, "segmentation").content
    return scenes.check(data, "segmentation", content, 0, tmp_path / "cache")


def test_masks_of_nothing_and_ignored_are_refused(tmp_path):
    with pytest.raises(HarnessError, match=rf"has label 0 \({IGNORED} is what does not count\)"):
        checked(folder(tmp_path, [0, 255], ["background", "thing"]), tmp_path)
    (tmp_path / "two").mkdir()
    assert checked(folder(tmp_path / "two", [0, 1, 255], ["background", "thing"]), tmp_path) is not None


@pytest.mark.parametrize(("count", "zero_is_other"), [(256, False), (255, True)])
def test_more_classes_than_a_byte_tells_apart_are_refused(tmp_path, count, zero_is_other):
    data = folder(tmp_path, [1, 2], [f"class {number}" for number in range(count)])
    data = data.model_copy(update={"zero_is_other": zero_is_other})
    with pytest.raises(HarnessError, match=f"has {count} classes, and masks tell at most {count - 1} apart"):
        scene_files.files_of(data)


def test_ade20k_counts_from_one(tmp_path):
    data = folder(tmp_path, [1, 2], ["1\twall", "2\tbuilding"], "objectInfo150.txt", "Idx\tName\n")
    with pytest.raises(HarnessError, match="whose masks count from 1"):
        scene_files.files_of(data)
    assert scene_files.files_of(data.model_copy(update={"zero_is_other": True})).classes == ("wall", "building")


def test_labels_from_one_hint_at_what_they_want(tmp_path):
    with pytest.raises(HarnessError, match=r"has label 2; .*zero_is_other: true"):
        checked(folder(tmp_path, [1, 2], ["wall", "building"]), tmp_path)


def test_scenes_in_files_are_streamed_by_the_most_that_they_can_be(monkeypatch, tmp_path):
    data = folder(tmp_path, [0, 1], ["background", "thing"])
    content = scenes.survey(data, "segmentation").content
    kinds = []
    for limit in (8 * 64 * 4, 8 * 64 * 4 * 2):  # squares would fit into both
        monkeypatch.setattr("harness.data.decoding.STREAMED_BYTES", limit)
        splits = scenes.load(data, "segmentation", content, 0, tmp_path / "cache", torch.device("cpu"))
        kinds.append(type(splits.train).__name__)
    assert kinds[0] == "StreamedScenes" != kinds[1]
