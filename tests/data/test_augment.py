"""Augmentation: the same draws give the same images as a loop over them, and every image has its own draw."""

import numpy as np
import pytest
import torch

from harness.data.augment import random_crop, random_flip


def random_images(n=40, height=6, width=9, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (n, 3, height, width), dtype=np.uint8)
    return torch.from_numpy(pixels)


@pytest.mark.parametrize("padding", [1, 2, 5])
def test_crop_is_that_of_a_loop_over_images(padding):
    images = random_images()
    cropped = random_crop(images, padding, np.random.default_rng(7))
    rows, columns = np.random.default_rng(7).integers(0, 2 * padding + 1, size=(2, len(images)))
    for image, result, row, column in zip(images.numpy(), cropped.numpy(), rows, columns, strict=True):
        bordered = np.pad(image, ((0, 0), (padding, padding), (padding, padding)), mode="reflect")
        assert np.array_equal(result, bordered[:, row : row + 6, column : column + 9])


def test_crop_keeps_shape_and_bytes():
    cropped = random_crop(random_images(), 2, np.random.default_rng(0))
    assert cropped.shape == (40, 3, 6, 9)
    assert cropped.dtype == torch.uint8


def test_crop_reaches_every_offset_and_each_image_has_its_own():
    """An image whose every pixel says where it is shows the window that was cut."""
    place = torch.arange(6 * 9, dtype=torch.uint8).reshape(1, 1, 6, 9).expand(600, 3, 6, 9).contiguous()
    centres = random_crop(place, 2, np.random.default_rng(0))[:, 0, 3, 4].tolist()
    wanted = {9 * row + column for row in range(1, 6) for column in range(2, 7)}
    assert set(centres) == wanted
    assert max(centres.count(centre) for centre in wanted) < 2.5 * 600 / 25


@pytest.mark.parametrize("augment", [random_flip, lambda images, generator: random_crop(images, 1, generator)])
def test_images_given_are_left_alone(augment):
    images = random_images()
    before = images.clone()
    augment(images, np.random.default_rng(0))
    assert torch.equal(images, before)


def test_flip_mirrors_those_images_that_the_draw_says():
    images = random_images()
    flipped = random_flip(images, np.random.default_rng(3)).numpy()
    mirrored = np.random.default_rng(3).random(len(images)) < 0.5
    assert 0 < mirrored.sum() < len(images)  # not the batch as a whole
    for image, result, mirror in zip(images.numpy(), flipped, mirrored, strict=True):
        assert np.array_equal(result, image[:, :, ::-1] if mirror else image)


def test_flip_mirrors_half_of_the_images():
    ramp = torch.arange(9, dtype=torch.uint8).expand(4000, 3, 6, 9)
    mirrored = (random_flip(ramp, np.random.default_rng(0))[:, 0, 0, 0] == 8).float().mean()
    assert 0.47 < mirrored < 0.53


def test_draws_go_on_from_batch_to_batch():
    images, generator = random_images(), np.random.default_rng(0)
    first, second = (random_flip(images, generator) for _ in range(2))
    assert not torch.equal(first, second)
    first, second = (random_crop(images, 2, generator) for _ in range(2))
    assert not torch.equal(first, second)
