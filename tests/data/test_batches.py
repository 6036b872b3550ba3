"""Batches: order, targets and normalisation, and random streams that do not disturb each other."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from harness.data import ImageSet
from harness.data.batches import Batches
from harness.data.normalise import Normalise
from harness.recipe import Recipe
from harness.spec import Augment, Data, Train
from harness.tricks.label_smoothing import Smoothing

CPU = torch.device("cpu")
PLAIN = {"flip": False, "crop_padding": 0}


@pytest.fixture
def batches_of(plan):
    """A function that returns the batches of the tiny study's first training with another augmentation or recipe."""
    template = plan.replicates[0].training

    def make(images, seed=0, batch_size=8, recipe=None, **augment):
        train = Train(epochs=2, batch_size=batch_size, lr=0.1, augment=Augment(**{**PLAIN, **augment}))
        return Batches(replace(template, seed=seed, train=train, recipe=recipe or Recipe()), images, CPU)

    return make


def random_set(n=24, size=8, seed=0):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (n, 3, size, size), dtype=np.uint8)
    return ImageSet(torch.from_numpy(pixels), torch.arange(n) % 3)


def numbered_set(n):
    """Images of one shade each, which says its number."""
    return ImageSet(torch.arange(n, dtype=torch.uint8)[:, None, None, None].expand(n, 3, 8, 8), torch.arange(n) % 3)


def numbers(images):
    """Undo the normalisation of numbered images."""
    return torch.round((images[:, 0, 0, 0] * 0.229 + 0.485) * 255).int().tolist()


def order_of(batches):
    return [number for images, _ in batches.epoch() for number in numbers(images)]


def everything(batches, epochs=2):
    return [tensor for _ in range(epochs) for batch in batches.epoch() for tensor in batch]


def equal(left, right):
    return len(left) == len(right) and all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


# Order.


def test_an_epoch_has_every_image_once(batches_of):
    batches = batches_of(numbered_set(24))
    assert batches.per_epoch == 3
    assert [len(targets) for _, targets in batches.epoch()] == [8, 8, 8]
    assert sorted(order_of(batches)) == list(range(24))


def test_last_batch_that_is_not_full_is_dropped(batches_of):
    batches = batches_of(numbered_set(21))
    assert batches.per_epoch == 2
    seen = [order_of(batches) for _ in range(20)]
    assert {len(epoch) for epoch in seen} == {16}
    assert all(len(set(epoch)) == 16 for epoch in seen)
    assert set().union(*seen) == set(range(21))  # another five are left out in each epoch


def test_every_epoch_has_its_own_order(batches_of):
    batches = batches_of(numbered_set(24))
    first, second = order_of(batches), order_of(batches)
    assert first != second
    assert first != sorted(first)


def test_order_is_decided_by_the_seed(batches_of):
    images = numbered_set(24)
    assert order_of(batches_of(images, seed=1)) == order_of(batches_of(images, seed=1))
    assert order_of(batches_of(images, seed=1)) != order_of(batches_of(images, seed=2))


def test_too_few_images_for_a_batch_are_refused(batches_of):
    with pytest.raises(ValueError, match="7 training images do not fill a batch of 8"):
        batches_of(numbered_set(7))


# What a batch holds.


def test_targets_are_those_of_the_images(batches_of):
    for images, targets in batches_of(numbered_set(24)).epoch():
        assert targets.shape == (8, 3)
        assert targets.dtype == torch.float32
        assert torch.equal(targets.sum(1), torch.ones(8))
        assert targets.argmax(1).tolist() == [number % 3 for number in numbers(images)]


def test_normalisation_is_the_formula():
    data = Data(name="digits", mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 2.0))
    images = random_set().images
    mean, std = (np.array(values, dtype=np.float64)[None, :, None, None] for values in (data.mean, data.std))
    wanted = (images.numpy() / 255 - mean) / std
    found = Normalise(data, CPU)(images)
    assert found.dtype == torch.float32
    assert np.abs(found.numpy() - wanted).max() < 1e-5


def test_batches_are_normalised_after_they_are_augmented(batches_of):
    """A border reflected after normalisation would be the same; the bytes of a crop must be real pixels."""
    images = random_set()
    values = set(np.unique(Normalise(Data(name="digits"), CPU)(images.images).numpy()))
    cropped = next(batches_of(images, crop_padding=2, flip=True).epoch())[0]
    assert set(np.unique(cropped.numpy())) <= values


def test_target_maps_come_before_mixing(batches_of):
    seen = []

    def mix(images, targets, generator):
        assert isinstance(generator, np.random.Generator)
        seen.append(targets)
        return images * 0, targets * 0

    recipe = Recipe(target_maps=(Smoothing(0.1), Smoothing(0.2)), mixes=(mix,))
    images, targets = next(batches_of(random_set(), recipe=recipe).epoch())
    assert images.abs().sum() == targets.abs().sum() == 0  # what the mix returned is what is trained on
    once = Smoothing(0.1)(torch.eye(3))
    assert seen[0].max().item() == pytest.approx(Smoothing(0.2)(once).max().item())


# Each draw has a stream of its own.


def test_same_seed_gives_the_same_batches(batches_of):
    options = {"flip": True, "crop_padding": 2}
    assert equal(everything(batches_of(random_set(), **options)), everything(batches_of(random_set(), **options)))
    assert not equal(
        everything(batches_of(random_set(), **options)), everything(batches_of(random_set(), 1, **options))
    )


def test_flipping_moves_neither_order_nor_crops(batches_of):
    """Mirroring leaves symmetric images as they are, so whatever else differed would show."""
    images = random_set()
    half = images.images[..., :4]
    symmetric = ImageSet(torch.cat([half, half.flip(3)], dim=3), images.labels)
    without, with_flips = (everything(batches_of(symmetric, crop_padding=2, flip=flip)) for flip in (False, True))
    crops = {row.numpy().tobytes() for row in without[0]}
    plain = {row.numpy().tobytes() for row in everything(batches_of(symmetric))[0]}
    assert crops != plain  # the crops do something here
    # Flips precede crops, and the crop of a symmetric image need not be symmetric.
    assert equal(without, with_flips)


def test_cropping_moves_neither_order_nor_flips(batches_of):
    """A ramp tells which images were mirrored, whatever window was cut."""
    ramp = (torch.arange(8, dtype=torch.uint8) * 30).expand(24, 3, 8, 8)
    images = ImageSet(ramp, torch.arange(24) % 3)

    def mirrored(**augment):
        batches = batches_of(images, flip=True, **augment)
        return [
            ((batch[:, 0, 0, 6] < batch[:, 0, 0, 1]).tolist(), targets.tolist())
            for _ in range(2)  # the order of the second epoch is drawn after the crops of the first
            for batch, targets in batches.epoch()
        ]

    assert mirrored() == mirrored(crop_padding=1)
    assert {flag for flags, _ in mirrored() for flag in flags} == {True, False}


def test_mixing_moves_no_other_draw(batches_of):
    def mix(images, targets, generator):
        generator.random(1000)
        return images, targets

    options = {"flip": True, "crop_padding": 2}
    without, mixed = (everything(batches_of(random_set(), recipe=Recipe(mixes=m), **options)) for m in ((), (mix,)))
    assert equal(without, mixed)


@pytest.mark.parametrize("augment", [{"resized_crop": True}, {"color_jitter": 0.4}])
def test_further_augmentation_moves_no_other_draw(batches_of, augment):
    """Images of one shade are the same in any window; black ones are so in any colour."""
    images = random_set()
    black = ImageSet(torch.zeros_like(images.images), images.labels)
    plain, drawn = everything(batches_of(black, flip=True)), everything(batches_of(black, flip=True, **augment))
    assert equal(plain, drawn)  # the order of the labels among them
    assert not equal(everything(batches_of(images)), everything(batches_of(images, **augment)))
    both = everything(batches_of(images, resized_crop=True, color_jitter=0.4))
    assert equal(both, everything(batches_of(images, resized_crop=True, color_jitter=0.4)))


def test_window_and_colour_have_streams_of_their_own(batches_of):
    """Colours of a window are those of the image's own place in the order, whatever window was drawn."""
    images = numbered_set(24)  # of one shade each: windows change nothing, colours do
    coloured = everything(batches_of(images, color_jitter=0.4))
    assert equal(coloured, everything(batches_of(images, color_jitter=0.4, resized_crop=True)))


def test_batch_size_moves_no_order(batches_of):
    images = numbered_set(24)
    assert order_of(batches_of(images, batch_size=8)) == order_of(batches_of(images, batch_size=12))


def test_images_of_the_set_are_left_alone(batches_of):
    images = random_set()
    before = images.images.clone()
    everything(batches_of(images, flip=True, crop_padding=2))
    assert torch.equal(images.images, before)
