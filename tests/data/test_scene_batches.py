"""Batches of scenes: what is moved is moved with its target, and random streams do not disturb each other."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2.functional import resize

from harness.data.normalise import Normalise
from harness.data.scene_augment import mirrored, rescaled
from harness.data.scene_batches import SceneBatches, evaluation_batches
from harness.data.scene_sets import SceneSet
from harness.recipe import Recipe
from harness.spec import Augment, Data, Train
from harness.tricks.label_smoothing import Smoothing
from harness.tricks.mixup import BatchMixup

CPU = torch.device("cpu")
DATA = Data(name="digit_scenes", image_size=32)


@pytest.fixture
def batches_of(plan):
    """A function that returns the batches of a training on scenes with some augmentation."""
    template = plan.replicates[0].training

    def make(scenes, seed=0, batch_size=4, recipe=None, **augment):
        train = Train(epochs=2, batch_size=batch_size, lr=0.1, augment=Augment(**augment))
        training = replace(template, seed=seed, data=DATA, train=train, recipe=recipe or Recipe())
        return SceneBatches(training, scenes, CPU)

    return make


def with_boxes(n=10, size=32):
    """Images that are white where their one box is, and black elsewhere; labels number them."""
    images = torch.zeros(n, 3, size, size, dtype=torch.uint8)
    objects = []
    for row, (x, y) in enumerate(np.random.default_rng(0).integers(0, size - 10, size=(n, 2)).tolist()):
        images[row, :, y : y + 5, x : x + 8] = 255
        box = torch.tensor([[x, y, x + 8, y + 5]], dtype=torch.float32)
        objects.append({"boxes": box, "labels": torch.tensor([row + 1])})
    return SceneSet(images, None, objects)


def with_masks(n=10, sizes=((32, 32),)):
    """Images whose shade is a hundred times their mask, of sizes that take turns."""
    rng = np.random.default_rng(0)
    masks = [
        torch.from_numpy(rng.integers(0, 3, size=sizes[row % len(sizes)], dtype=np.uint8)).clone() for row in range(n)
    ]
    return SceneSet([(100 * mask).expand(3, *mask.shape) for mask in masks], masks)


def shades(inputs):
    """Undo the normalisation of [..., 3, H, W], of one channel."""
    return torch.round((inputs[..., 0, :, :] * DATA.std[0] + DATA.mean[0]) * 255).int()


def everything(batches, epochs=2) -> list[Any]:
    return [batch for _ in range(epochs) for batch in batches.epoch()]


def evaluated(scenes) -> list[Any]:
    return list(evaluation_batches(scenes, 4, Normalise(DATA, CPU)))


def equal(left, right):
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(equal, left, right))
    return torch.equal(left, right)


def order_of(batches):
    return [int(target["labels"]) for _, targets in batches.epoch() for target in targets]


# Order.


def test_a_pass_has_every_scene_once_but_for_a_batch_that_is_not_full(batches_of):
    batches = batches_of(with_boxes())
    assert batches.per_epoch == 2
    first, second = order_of(batches), order_of(batches)
    assert len(first) == len(set(first)) == 8
    assert first != second
    assert order_of(batches_of(with_boxes())) == first
    assert order_of(batches_of(with_boxes(), seed=1)) != first
    with pytest.raises(ValueError, match="10 training images do not fill a batch of 11"):
        batches_of(with_boxes(), batch_size=11)


def test_passes_go_on_where_they_were(batches_of):
    options = {"flip": True, "rescale": (0.5, 2.0), "color_jitter": 0.4}
    whole, broken = batches_of(with_masks(), **options), batches_of(with_masks(), **options)
    list(broken.epoch())
    state = broken.state()
    goes_on = batches_of(with_masks(), **options)
    goes_on.restore(state)
    assert equal(everything(whole)[whole.per_epoch :], everything(goes_on, 1))


# What a batch holds.


def test_images_of_one_size_are_one_tensor_beside_their_objects(batches_of):
    inputs, targets = next(batches_of(with_boxes()).epoch())
    assert (inputs.shape, inputs.dtype) == ((4, 3, 32, 32), torch.float32)
    assert [target.keys() for target in targets] == [{"boxes", "labels"}] * 4


def test_images_of_several_sizes_stay_a_list_beside_objects(batches_of):
    objects = [{"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}] * 4
    images = [torch.zeros(3, 8, width, dtype=torch.uint8) for width in (5, 6, 7, 8)]
    inputs, _ = next(batches_of(SceneSet(images, None, objects)).epoch())
    assert sorted(each.shape[2] for each in inputs) == [5, 6, 7, 8]


def test_masks_of_several_sizes_are_filled_up_with_what_nothing_counts():
    scenes = with_masks(3, sizes=((6, 9), (8, 5)))
    ((inputs, masks),) = evaluated(scenes)
    assert inputs.shape == (3, 3, 8, 9)
    assert (masks.shape, masks.dtype) == ((3, 8, 9), torch.int64)
    for row, (height, width) in enumerate([(6, 9), (8, 5), (6, 9)]):
        assert torch.equal(masks[row, :height, :width], scenes.masks[row].long())
        assert torch.equal(shades(inputs)[row, :height, :width], 100 * scenes.masks[row].int())
        outside = torch.ones(8, 9, dtype=torch.bool)
        outside[:height, :width] = False
        assert (masks[row][outside] == 255).all()
        assert (inputs[row, :, outside] == 0).all()


def test_evaluation_has_every_scene_in_order_as_it_is():
    scenes = with_boxes()
    found = evaluated(scenes)
    assert [len(targets) for _, targets in found] == [4, 4, 2]
    assert equal([target for _, targets in found for target in targets], scenes.objects)
    assert torch.equal(shades(torch.cat([inputs for inputs, _ in found])), scenes.images[:, 0].int())


# Augmentation.


def test_boxes_are_mirrored_with_their_images(batches_of):
    """However it was mirrored, the box holds what is white, and nothing else is."""
    scenes, moved = with_boxes(), 0
    for inputs, targets in everything(batches_of(scenes, flip=True)):
        for image, target in zip(shades(inputs), targets, strict=True):
            x1, y1, x2, y2 = target["boxes"][0].int().tolist()
            assert (image[y1:y2, x1:x2] == 255).all()
            assert (image == 255).sum() == 40 == (x2 - x1) * (y2 - y1)
            moved += not torch.equal(target["boxes"], scenes.objects[int(target["labels"]) - 1]["boxes"])
    assert 2 < moved < 14


def test_mirror_by_hand():
    image = torch.arange(12, dtype=torch.uint8).reshape(1, 3, 4)
    boxes = torch.tensor([[0.0, 1, 3, 2], [1, 0, 2, 3]])
    target: Any
    found, target = mirrored(image, {"boxes": boxes, "labels": torch.tensor([1, 2]), "iscrowd": torch.tensor([0, 1])})
    assert found[0, 0].tolist() == [3, 2, 1, 0]
    assert target["boxes"].tolist() == [[1, 1, 4, 2], [2, 0, 3, 3]]
    assert (target["labels"].tolist(), target["iscrowd"].tolist()) == ([1, 2], [0, 1])
    assert boxes[0].tolist() == [0, 1, 3, 2]  # what it was made of is left alone
    assert equal(mirrored(image, image[0])[1], image[0].flip(1))


def test_masks_stay_on_their_images(batches_of):
    for options in ({"flip": True}, {"rescale": (1.0, 1.0)}, {"flip": True, "rescale": (1.0, 1.0)}):
        for inputs, masks in everything(batches_of(with_masks(sizes=((32, 32), (40, 60))), **options)):
            counted = masks != 255
            assert torch.equal(shades(inputs)[counted], 100 * masks[counted].int())


def test_scenes_are_cut_to_one_size(batches_of):
    seen = []
    for inputs, masks in everything(batches_of(with_masks(sizes=((32, 40), (36, 32))), rescale=(0.5, 2.0))):
        assert inputs.shape == (4, 3, 32, 32)
        assert masks.shape == (4, 32, 32)
        black = Normalise(DATA, CPU)(torch.zeros(1, 3, 1, 1))[0]
        for image, mask in zip(inputs, masks, strict=True):
            assert torch.equal(image[:, mask == 255], black[:, 0].expand(3, int((mask == 255).sum())))
            seen.append((mask != 255).sum().item())
    assert max(seen) == 32 * 32  # enlarged, it fills the square
    assert min(seen) < 0.6 * 32 * 32


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.5, 2.0])
def test_rescaled_scene_lies_where_it_says(factor):
    """A square of half the image's sides, in its lower right quarter, stays there at any scale."""
    mask = torch.zeros(32, 32, dtype=torch.int64)
    mask[16:, 16:] = 1
    image = (200 * mask).to(torch.uint8).expand(3, 32, 32)
    side = round(32 * factor)
    found, labels = rescaled(image, mask, factor, (0.999, 0.999), 32)
    cut = max(0, side - 32)  # of the upper left, for the corner is the last there is
    wanted = torch.full((32, 32), 255)
    wanted[: side - cut, : side - cut] = 0
    wanted[side // 2 - cut : side - cut, side // 2 - cut : side - cut] = 1
    assert torch.equal(labels, wanted)
    scaled = resize(image, [side, side], antialias=True)[:, cut:, cut:]  # torchvision's
    assert (found[:, : side - cut, : side - cut].int() - scaled.int()).abs().max() <= 1
    assert (found[:, wanted == 255] == 0).all()


def test_labels_are_those_of_the_nearest_pixel():
    mask = with_masks(1).masks[0].long()
    found = rescaled(torch.zeros(3, 32, 32, dtype=torch.uint8), mask, 0.7, (0, 0), 32)[1]
    assert torch.equal(found[:22, :22], resize(mask[None], [22, 22], InterpolationMode.NEAREST_EXACT)[0])


def test_each_step_has_a_stream_of_its_own(batches_of):
    """Images that no flip, no window and no colour changes show whether order or flips were drawn otherwise."""

    def labels(**augment):
        return [order_of(batches) for batches in [batches_of(with_boxes(), **augment)] for _ in range(2)]

    assert labels() == labels(flip=True) == labels(flip=True, color_jitter=0.4)
    flat = SceneSet([torch.full((3, 32, 32), row, dtype=torch.uint8) for row in range(10)], [torch.zeros(32, 32)] * 10)
    plain, drawn = (everything(batches_of(flat, rescale=(1.0, 2.0), flip=flip)) for flip in (False, True))
    assert equal(plain, drawn)
    assert not equal(everything(batches_of(with_masks())), everything(batches_of(with_masks(), color_jitter=0.4)))


def test_what_has_no_meaning_is_refused(batches_of):
    for recipe in (Recipe(target_maps=(Smoothing(0.1),)), Recipe(mixes=(BatchMixup(0.2),))):
        with pytest.raises(ValueError, match="for classification alone"):
            batches_of(with_masks(), recipe=recipe)
    with pytest.raises(ValueError, match="rescale is for masks"):
        batches_of(with_boxes(), rescale=(0.5, 2.0))
