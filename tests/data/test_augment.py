"""Augmentation: the same draws give the same images as a loop over them, and every image has its own draw."""

import numpy as np
import pytest
import torch
from torchvision.transforms import functional

from harness.data.augment import (
    adjusted,
    color_jitter,
    draw_windows,
    random_crop,
    random_flip,
    random_resized_crop,
    resized_crop,
)


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


@pytest.mark.parametrize(
    "augment",
    [
        random_flip,
        lambda images, generator: random_crop(images, 1, generator),
        random_resized_crop,
        lambda images, generator: color_jitter(images, 0.4, generator),
    ],
)
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


# Windows of the paper's size, enlarged.


@pytest.mark.parametrize(("height", "width"), [(32, 32), (20, 28), (224, 224)])
def test_resized_crop_is_torchvisions(height, width):
    """To one shade, which the last digit of a coordinate may tip either way."""
    images = random_images(12, height, width)
    corner, size = draw_windows(12, height, width, np.random.default_rng(0))
    corner[0], size[0] = (0, 0), (height, width)
    corner[1], size[1] = (height - 1, 3), (1, 5)
    found = resized_crop(images, corner, size)
    assert found.dtype == torch.uint8
    for image, result, (top, left), (rows, columns) in zip(images, found, corner, size, strict=True):
        wanted = functional.resized_crop(
            image.double(), int(top), int(left), int(rows), int(columns), [height, width], antialias=True
        )
        assert (result.double() - wanted).abs().max() < 0.51
    assert torch.equal(found[0], images[0])  # a window as large as the image is the image


def test_windows_are_drawn_as_torchvision_draws_them():
    """Area uniform in 8–100 %, and the logarithm of the aspect between 3:4 and 4:3, but for what does not fit."""
    from scipy.stats import ks_2samp
    from torchvision.transforms import RandomResizedCrop

    torch.manual_seed(0)
    image = torch.zeros(3, 224, 224)
    theirs = np.array([RandomResizedCrop.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(4000)])
    corner, size = draw_windows(4000, 224, 224, np.random.default_rng(0))
    ours = np.hstack([corner, size])
    for column in range(4):
        assert ks_2samp(ours[:, column], theirs[:, column]).pvalue > 0.01
    for of in (lambda rows: rows[:, 2] * rows[:, 3], lambda rows: rows[:, 2] / rows[:, 3]):
        assert ks_2samp(of(ours), of(theirs)).pvalue > 0.01


@pytest.mark.parametrize(("height", "width"), [(8, 8), (224, 224), (10, 40)])
def test_windows_lie_inside_their_image(height, width):
    corner, size = draw_windows(3000, height, width, np.random.default_rng(1))
    assert (corner >= 0).all()
    assert (size > 0).all()
    assert (corner + size <= (height, width)).all()
    assert len({tuple(window) for window in np.hstack([corner, size])}) > 100  # each image has its own


def test_image_that_no_window_fits_is_kept_whole():
    """A strip is never 4:3 and 8 % of the area at once but by luck; most of the time nothing fits it."""
    images = random_images(20, 2, 300)
    _, size = draw_windows(20, 2, 300, np.random.default_rng(0))
    assert (size == (2, 300)).all()
    assert torch.equal(random_resized_crop(images, np.random.default_rng(0)), images)


# Colour.

ADJUST = (functional.adjust_brightness, functional.adjust_contrast, functional.adjust_saturation)


def test_colours_are_adjusted_as_torchvision_adjusts_them():
    images = random_images(30, 16, 16)
    rng = np.random.default_rng(0)
    factors, order = rng.uniform(0.6, 1.4, (30, 3)), rng.permuted(np.tile(np.arange(3), (30, 1)), axis=1)
    found = adjusted(images, factors, order)
    for image, result, mine, turns in zip(images, found, factors, order, strict=True):
        for number in turns:
            image = ADJUST[number](image, float(mine[number]))
        assert torch.equal(result, image)


def test_colours_of_an_image_do_not_depend_on_those_beside_it():
    images = random_images(8)
    rng = np.random.default_rng(0)
    factors, order = rng.uniform(0.6, 1.4, (8, 3)), rng.permuted(np.tile(np.arange(3), (8, 1)), axis=1)
    together = adjusted(images, factors, order)
    alone = [adjusted(images[[row]], factors[[row]], order[[row]]) for row in range(8)]
    assert torch.equal(together, torch.cat(alone))


def test_jitter_of_no_strength_changes_nothing():
    images = random_images()
    assert torch.equal(color_jitter(images, 0.0, np.random.default_rng(0)), images)


def test_jitter_draws_factors_and_an_order_for_each_image():
    shade = torch.full((4000, 3, 4, 4), 100, dtype=torch.uint8)
    brightness = color_jitter(shade, 0.4, np.random.default_rng(0))[:, 0, 0, 0].double() / 100
    # Contrast and saturation leave an image of one grey as it is, to a shade.
    assert 0.58 <= brightness.min() < 0.62
    assert 1.38 < brightness.max() <= 1.4
    assert abs(brightness.mean() - 1) < 0.02
    images = random_images(1, 8, 8).expand(200, -1, -1, -1)
    assert len({image.numpy().tobytes() for image in color_jitter(images, 0.4, np.random.default_rng(0))}) == 200


@pytest.mark.parametrize("augment", [random_resized_crop, lambda images, rng: color_jitter(images, 0.4, rng)])
def test_further_draws_go_on_from_batch_to_batch(augment):
    images, generator = random_images(), np.random.default_rng(0)
    assert not torch.equal(augment(images, generator), augment(images, generator))
