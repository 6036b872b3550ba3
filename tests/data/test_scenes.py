"""Sets of scenes: which there are, in which split, and the same whether in memory or streamed."""

import shutil
from typing import Any

import numpy as np
import pytest
import torch
from torchvision import datasets

from harness.data import scenes
from harness.data.scene_files import VOC, files_of
from harness.data.scene_sets import SceneSet, StreamedScenes
from harness.errors import HarnessError
from harness.spec import Data
from tests.scenes import image, mask_folder, voc_detection, voc_segmentation

CPU = torch.device("cpu")
MAKE: dict[str, Any] = {
    "voc_detection": voc_detection,
    "voc_segmentation": voc_segmentation,
    "image_mask_folder": mask_folder,
}
TASK: dict[str, Any] = {
    "voc_detection": "detection",
    "voc_segmentation": "segmentation",
    "image_mask_folder": "segmentation",
}
CLASSES = {"voc_detection": VOC, "voc_segmentation": ("background", *VOC), "image_mask_folder": ("a", "b", "c")}
NAMES = pytest.mark.parametrize("name", MAKE)


def section(root, name, **options):
    classes = {"classes": ("a", "b", "c")} if name == "image_mask_folder" else {}
    return Data(**{"name": name, "root": str(root), "image_size": 16, **classes, **options})


def loaded(data, cache, seed=0):
    task = TASK[data.name]
    return scenes.load(data, task, scenes.survey(data, task).content, seed, cache, CPU)


def everything(found):
    """All images and targets of a set, one after another."""
    batches = list(found.batches(torch.arange(len(found)), 4))
    return [image for images, _ in batches for image in images], [
        target for _, targets in batches for target in targets
    ]


def equal(left, right):
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)
    return torch.equal(left, right)


@NAMES
def test_survey_counts_what_is_loaded(tmp_path, name):
    data = section(MAKE[name](tmp_path), name)
    found, splits = scenes.survey(data, TASK[name]), loaded(data, tmp_path / "cache")
    assert found.classes == CLASSES[name]
    sizes = (len(splits.train), len(splits.val), len(splits.test))
    assert (found.train_size, found.val_size, found.test_size) == sizes
    # A fifth of what is given for training is for validation.
    assert sizes == ((10, 2, 6) if name == "voc_detection" else (5, 1, 6))


@NAMES
def test_streamed_scenes_are_the_same(tmp_path, name):
    root = MAKE[name](tmp_path)
    memory = loaded(section(root, name, stream=False), tmp_path / "cache")
    for workers in (0, 1):
        streamed = loaded(section(root, name, stream=True, workers=workers), tmp_path / "cache")
        for part in ("train", "val", "test"):
            ours, theirs = getattr(memory, part), getattr(streamed, part)
            assert isinstance(ours, SceneSet)
            assert isinstance(theirs, StreamedScenes)
            assert ours.task == theirs.task == TASK[name]
            assert list(ours.sizes) == list(theirs.sizes)
            for left, right in zip(everything(ours), everything(theirs), strict=True):
                assert len(left) == len(ours)
                assert all(map(equal, left, right))


def test_voc_detection_has_the_files_of_torchvision(tmp_path):
    files = files_of(section(voc_detection(tmp_path), "voc_detection"))
    parts = [datasets.VOCDetection(tmp_path, *which) for which in (("2007", "trainval"), ("2012", "trainval"))]
    test = datasets.VOCDetection(tmp_path, "2007", "test")
    assert list(files.images) == [*parts[0].images, *parts[1].images, *test.images]
    assert list(files.annotations) == [*parts[0].annotations, *parts[1].annotations, *test.annotations]
    assert files.given.tolist() == [0] * 12 + [2] * 6


def test_voc_classes_are_numbered_as_in_its_masks():
    assert len(VOC) == 20
    assert [VOC.index(name) + 1 for name in ("aeroplane", "cat", "person", "tvmonitor")] == [1, 8, 15, 20]
    assert list(VOC) == sorted(VOC)


def test_boxes_lie_in_the_image_as_it_is_decoded(tmp_path):
    """12×8 pixels become 24×16: boxes are twice as far."""
    splits = loaded(section(voc_detection(tmp_path), "voc_detection"), tmp_path / "cache")
    images, targets = everything(splits.test)
    assert {tuple(found.shape) for found in images} == {(3, 16, 24)}
    assert set(splits.test.sizes) == {(16, 24)}
    assert targets[0]["boxes"].tolist() == [[0, 0, 12, 8], [12, 2, 24, 16]]
    assert targets[0]["labels"].tolist() == [VOC.index("dog") + 1, VOC.index("person") + 1]


def test_difficult_objects_are_for_evaluation_alone(tmp_path):
    splits = loaded(section(voc_detection(tmp_path), "voc_detection"), tmp_path / "cache")
    for part in (splits.val, splits.test):
        assert all(target["iscrowd"].tolist() == [0, 1] for target in part.objects)
    for target in splits.train.objects:
        assert target["iscrowd"].tolist() == [0]
        assert target["labels"].tolist() == [VOC.index("dog") + 1]


def test_masks_are_enlarged_with_their_images(tmp_path):
    splits = loaded(section(voc_segmentation(tmp_path), "voc_segmentation"), tmp_path / "cache")
    images, masks = everything(splits.test)
    assert {tuple(found.shape) for found in images} == {(3, 16, 24)}
    assert masks[0].dtype == torch.int64
    assert torch.equal(masks[0], torch.tensor([0, 15, 255]).repeat_interleave(8).expand(16, 24))


def test_zero_may_be_ignored_and_classes_shifted(tmp_path):
    data = section(mask_folder(tmp_path), "image_mask_folder", classes=("b", "c"), zero_is_other=True)
    masks = everything(loaded(data, tmp_path / "cache").test)[1]
    assert masks[0][:6, 0].tolist() == [255, 255, 0, 0, 1, 1]


def test_classes_of_a_folder_are_said_by_a_file(tmp_path):
    data = section(mask_folder(tmp_path), "image_mask_folder", classes=None, zero_is_other=True)
    with pytest.raises(HarnessError, match=r"does not say what its classes are called: .*classes\.txt"):
        scenes.survey(data, "segmentation")
    (tmp_path / "objectInfo150.txt").write_text("Idx\tRatio\tName\n1\t0.2\twall\n2\t0.1\tbuilding, edifice\n")
    assert scenes.survey(data, "segmentation").classes == ("wall", "building, edifice")
    (tmp_path / "classes.txt").write_text("wall\nhouse\n\n")
    assert scenes.survey(data, "segmentation").classes == ("wall", "house")


@pytest.mark.parametrize(
    ("splits", "sizes"),
    [
        (("training", "validation"), (8, 2, 10)),  # that for validation is the test: no other is labelled
        (("train", "val", "test"), (10, 10, 10)),
        (("train", "test"), (8, 2, 10)),
        (("train",), (6, 1, 3)),
        (("",), (6, 1, 3)),
    ],
)
def test_splits_that_are_not_given_are_drawn(tmp_path, splits, sizes):
    found = scenes.survey(section(mask_folder(tmp_path, splits, count=10), "image_mask_folder"), "segmentation")
    assert (found.train_size, found.val_size, found.test_size) == sizes


def test_sizes_are_counted_in_images_and_training_is_drawn_by_the_seed(tmp_path):
    root = mask_folder(tmp_path, count=12)
    data = section(root, "image_mask_folder", train_images=4, val_images=3, test_images=5)
    found = scenes.survey(data, "segmentation")
    assert (found.train_size, found.val_size, found.test_size) == (4, 3, 5)
    first, again, other = (loaded(data, tmp_path / "cache", seed) for seed in (0, 0, 1))

    def pixels(part):
        return {found.numpy().tobytes() for found in everything(part)[0]}

    assert pixels(first.train) == pixels(again.train) != pixels(other.train)
    assert pixels(first.val) == pixels(other.val)
    assert pixels(first.test) == pixels(other.test)
    assert not (pixels(first.train) | pixels(other.train)) & (pixels(first.val) | pixels(first.test))


def test_too_few_images_are_refused(tmp_path):
    data = section(mask_folder(tmp_path), "image_mask_folder", train_images=7)
    with pytest.raises(HarnessError, match=r"has 5 images left to train on beside 1 .* and 6 .*, fewer than the 7"):
        scenes.survey(data, "segmentation")


def test_copy_of_a_test_image_is_not_trained_on(tmp_path):
    root = mask_folder(tmp_path)
    shutil.copy(root / "images/validation/0.jpg", root / "images/training/3.jpg")
    splits = loaded(section(root, "image_mask_folder"), tmp_path / "cache")
    assert splits.duplicates_dropped == 1
    assert len(splits.train) + len(splits.val) == 5


@NAMES
def test_content_follows_images_and_annotations(tmp_path, name):
    data = section(MAKE[name](tmp_path), name)
    seen = {scenes.survey(data, TASK[name]).content}
    files = files_of(data)
    image(files_of(data).root / files.images[0])
    seen.add(scenes.survey(data, TASK[name]).content)
    with open(files.annotations[-1], "ab") as file:
        file.write(b" ")
    seen.add(scenes.survey(data, TASK[name]).content)
    assert len(seen) == 3
    with pytest.raises(HarnessError, match="have changed since the grid was planned"):
        scenes.load(data, TASK[name], min(seen - {scenes.survey(data, TASK[name]).content}), 0, tmp_path / "cache", CPU)


@NAMES
@pytest.mark.parametrize("which", ["images", "annotations"])
def test_missing_file_is_named_by_the_plan(tmp_path, name, which):
    data = section(MAKE[name](tmp_path), name)
    gone = getattr(files_of(data), which)[3]
    (tmp_path / gone).unlink()
    if (name, which) == ("image_mask_folder", "images"):
        with pytest.raises(HarnessError, match=r"3\.png belongs to no image"):
            scenes.survey(data, TASK[name])
        return
    with pytest.raises(HarnessError) as error:
        scenes.survey(data, TASK[name])
    assert f"{gone} is missing" in str(error.value)


def test_masks_that_lie_elsewhere_are_not_missed_one_by_one(tmp_path):
    data = section(mask_folder(tmp_path), "image_mask_folder")
    (tmp_path / "annotations").rename(tmp_path / "masks")
    with pytest.raises(
        HarnessError, match=r"none of the 12 images has a mask; expected .*annotations/training/0\.png for"
    ):
        scenes.survey(data, "segmentation")


def test_missing_set_says_where_it_is_expected(tmp_path):
    with pytest.raises(HarnessError, match=r"VOCdevkit/VOC2007, which `download: true` fetches"):
        scenes.survey(section(tmp_path, "voc_detection"), "detection")
    with pytest.raises(HarnessError, match=r"images does not exist .*images/<split>/<image>"):
        scenes.survey(section(tmp_path, "image_mask_folder"), "segmentation")


@NAMES
def test_check_reads_every_file_once(tmp_path, name):
    data = section(MAKE[name](tmp_path), name)
    task, cache = TASK[name], tmp_path / "cache"
    parts = scenes.check(data, task, scenes.survey(data, task).content, 0, cache)
    assert parts
    assert len(parts.train) == scenes.survey(data, task).train_size
    bad = files_of(data).annotations[-1]
    with open(bad, "wb") as file:
        file.write(b"broken")
    with pytest.raises(HarnessError) as error:
        scenes.check(data, task, scenes.survey(data, task).content, 0, cache)
    assert bad in str(error.value)


def test_check_names_a_broken_image(tmp_path):
    data = section(mask_folder(tmp_path), "image_mask_folder")
    broken = tmp_path / "images/training/2.jpg"
    broken.write_bytes(broken.read_bytes()[:200])
    with pytest.raises(HarnessError, match=r"training/2\.jpg"):
        scenes.check(data, "segmentation", scenes.survey(data, "segmentation").content, 0, tmp_path / "cache")


@pytest.mark.parametrize("task", ["detection", "segmentation"])
def test_digits_are_for_both_tasks(tmp_path, task):
    data = Data(name="digit_scenes", image_size=32, classes=("3", "5"), train_images=6, val_images=3, test_images=4)
    found = scenes.survey(data, task)
    assert found.classes == (("3", "5") if task == "detection" else ("background", "3", "5"))
    splits = scenes.load(data, task, found.content, 0, tmp_path, CPU)
    assert [len(part) for part in (splits.train, splits.val, splits.test)] == [6, 3, 4]
    assert scenes.check(data, task, found.content, 0, tmp_path) is None
    images, targets = everything(splits.train)
    assert all(found.shape == (3, 32, 32) and found.dtype == torch.uint8 for found in images)
    if task == "detection":
        assert all(target.keys() == {"boxes", "labels"} for target in targets)
        assert set(torch.cat([target["labels"] for target in targets]).tolist()) <= {1, 2}
    else:
        assert set(np.unique(torch.stack(targets))) == {0, 1, 2}
