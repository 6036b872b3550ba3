from collections import Counter

import numpy as np
import pytest
import torch
from scipy import stats
from torchvision.transforms import v2

from harness.data.normalise import Normalise
from harness.errors import HarnessError
from harness.recipe import Conflict, Recipe
from harness.seeds import derive
from harness.tricks import compose
from harness.tricks.trivial_augment import OneOperation, TrivialAugmentTrick, operations
from tests.watching import CPU, TWO_CLASSES, changed, two_steps, watch

THEIRS = dict(zip(operations(), v2.TrivialAugmentWide._AUGMENTATION_SPACE, strict=True))
"""Our names of the operations to torchvision's."""


def random_images(n: int = 40, height: int = 20, width: int = 30) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (n, 3, height, width), dtype=np.uint8))


def by_torchvision(images: torch.Tensor, name: str, step: int, negative: bool) -> torch.Tensor:
    """Return what its transform makes of `images` where it draws this operation, bin and sign."""
    drawn = iter([list(v2.TrivialAugmentWide._AUGMENTATION_SPACE).index(THEIRS[name]), step])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "randint", lambda *_: torch.tensor(next(drawn)))
        patch.setattr(torch, "rand", lambda *_: torch.tensor(0.0 if negative else 1.0))
        mapped: torch.Tensor = v2.TrivialAugmentWide()(images)
    return mapped


def test_there_are_fourteen_by_the_names_of_torchvision():
    assert len(operations()) == 14
    assert {ours.replace("_", ""): theirs.lower() for ours, theirs in THEIRS.items()} == {
        theirs.lower(): theirs.lower() for theirs in THEIRS.values()
    }


@pytest.mark.parametrize("name", operations())
def test_each_operation_at_each_magnitude_is_torchvisions(name):
    """All 31 bins with both signs, bit for bit."""
    images = random_images(4, 36, 40)
    operation = operations()[name]
    _, signed = v2.TrivialAugmentWide._AUGMENTATION_SPACE[THEIRS[name]]
    bins = 31 if len(operation.magnitudes) > 1 else 1
    assert len(operation.magnitudes) == bins * (2 if signed else 1)
    seen = set()
    for index, magnitude in enumerate(operation.magnitudes):
        ours = operation.apply(images, magnitude)
        assert ours.dtype == torch.uint8
        assert torch.equal(ours, by_torchvision(images, name, index % bins, negative=index >= bins))
        seen.add(ours.numpy().tobytes())
    # Some bins of translation and posterize are one number of pixels or bits.
    least = {"posterize": 7}.get(name, 0.9 * bins * (2 if signed else 1))
    assert len(seen) >= least


def test_each_image_goes_through_its_own_draw():
    """Those that drew alike go together; each comes back at its place, as if it were alone."""
    images = random_images(400, 12, 10)
    mapped = OneOperation()(images, np.random.default_rng(7))
    again = np.random.default_rng(7)
    names, places = again.integers(14, size=400), again.random(400)
    for image, result, name, place in zip(images, mapped, names, places, strict=True):
        operation = list(operations().values())[name]
        magnitude = operation.magnitudes[int(place * len(operation.magnitudes))]
        assert torch.equal(result, operation.apply(image[None], magnitude)[0])
    assert mapped.shape == images.shape
    assert mapped.dtype == torch.uint8


def test_operations_and_magnitudes_are_equally_likely(monkeypatch):
    counts: Counter[tuple[str, float]] = Counter()

    def count(name, operation):
        def apply(images, magnitude):
            counts[name, magnitude] += len(images)
            return images

        return operation._replace(apply=apply)

    counting = {name: count(name, operation) for name, operation in operations().items()}
    monkeypatch.setattr("harness.tricks.trivial_augment.operations", lambda: counting)
    OneOperation()(torch.zeros(60000, 3, 1, 1, dtype=torch.uint8), np.random.default_rng(0))
    by_name = Counter[str]()
    for (name, _), number in counts.items():
        by_name[name] += number
    assert stats.chisquare([by_name[name] for name in operations()]).pvalue > 1e-3
    for name in ("rotate", "solarize"):
        magnitudes = operations()[name].magnitudes
        # 0 and −0 are one key.
        found = [counts[name, magnitude] / magnitudes.count(magnitude) for magnitude in magnitudes]
        assert stats.chisquare(found).pvalue > 1e-3


def test_it_draws_from_the_generator_it_is_given_and_leaves_its_images_alone():
    images = random_images()
    kept, torch_state = images.clone(), torch.get_rng_state()
    one, other = (OneOperation()(images, np.random.default_rng(9)) for _ in range(2))
    assert torch.equal(one, other)
    assert not torch.equal(one, OneOperation()(images, np.random.default_rng(10)))
    assert torch.equal(images, kept)
    assert torch.equal(torch.get_rng_state(), torch_state)


def test_trick_adds_to_the_augmentations_and_nothing_else():
    assert TrivialAugmentTrick()(Recipe()) == Recipe(augments=(OneOperation(),))


def test_twice_is_a_conflict():
    with pytest.raises(Conflict, match="two OneOperation stand in the augments of the recipe; only one can"):
        compose({"once": TrivialAugmentTrick(), "twice": TrivialAugmentTrick()})


def test_a_training_sees_mapped_images_of_the_same_batches(tmp_path):
    """Flipped and cropped before, normalised after."""
    augment = two_steps().train.augment.model_copy(update={"flip": True, "crop_padding": 1})
    normalise = Normalise(TWO_CLASSES, CPU)
    base, with_trick = (
        watch(two_steps(tricks, seed=5, augment=augment), tmp_path)
        for tricks in ({}, {"trivial_augment": TrivialAugmentTrick()})
    )
    generator = np.random.default_rng(derive(5, "OneOperation"))
    for plain, other in zip(base, with_trick, strict=True):
        mean, std = (torch.tensor(values)[:, None, None] for values in (TWO_CLASSES.mean, TWO_CLASSES.std))
        images = ((plain.images * std + mean) * 255).round().to(torch.uint8)
        assert torch.equal(normalise(images), plain.images)
        assert torch.equal(other.images, normalise(OneOperation()(images, generator)))
        assert torch.equal(plain.targets, other.targets)
    assert changed(base[-1].after, with_trick[-1].after) >= {"conv1.weight", "fc.weight"}


def test_it_has_no_parameters(read_trick):
    assert read_trick("trivial_augment: ") == TrivialAugmentTrick()
    with pytest.raises(HarnessError, match=r"unknown parameter of trivial_augment 'bins'; legal: \(none\)"):
        read_trick("trivial_augment: {bins: 31}")
