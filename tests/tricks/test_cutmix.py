from math import sqrt

import numpy as np
import pytest
import torch
from scipy import stats
from torchvision.transforms import v2

from harness.errors import HarnessError
from harness.recipe import Conflict, Recipe
from harness.seeds import derive
from harness.tricks import Trick, compose
from harness.tricks.cutmix import BatchCutMix, CutMixTrick, box_around, cutmix
from harness.tricks.mixup import MixupTrick, mixup
from tests.watching import changed, two_steps, watch

WHOLE, NONE = (0, 0, 6, 8), (3, 3, 3, 3)


def batch(size: int = 6, classes: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(size, 3, 6, 8, generator=generator)
    return images, torch.eye(classes)[torch.arange(size) % classes]


@pytest.mark.parametrize("box", [(1, 2, 4, 7), (0, 0, 1, 8), WHOLE, NONE])
def test_it_is_the_papers_combination_pixel_by_pixel(box):
    """Yun et al. 2019, eq. 1: x̃ = M⊙x_A + (1 − M)⊙x_B, ỹ = λy_A + (1 − λ)y_B; λ is the share of M that is 1."""
    images, targets = batch()
    order = [3, 0, 5, 2, 4, 1]
    top, left, bottom, right = box
    mask = torch.ones(6, 8)
    for row in range(top, bottom):
        for column in range(left, right):
            mask[row, column] = 0
    lam = mask.mean().item()
    mixed, soft = cutmix(images, targets, box, torch.tensor(order))
    for i, j in enumerate(order):
        assert torch.equal(mixed[i], torch.where(mask == 1, images[i], images[j]))
        torch.testing.assert_close(soft[i], lam * targets[i] + (1 - lam) * targets[j])


@pytest.mark.parametrize("lam", [0.0, 0.1, 0.5, 0.8, 0.99, 1.0])
@pytest.mark.parametrize(("row", "column"), [(0, 0), (3, 4), (5, 7), (2, 0)])
def test_it_matches_torchvisions_cutmix(lam, row, column, monkeypatch):
    """The same λ and the same centre give the same box, images and targets."""
    images, targets = batch()
    theirs = v2.CutMix(num_classes=4)
    centre = iter([column, row])  # torchvision draws x first
    monkeypatch.setattr(theirs, "_dist", torch.distributions.Uniform(lam, lam + 1e-9, validate_args=False))
    monkeypatch.setattr(theirs._dist, "sample", lambda _: torch.tensor(lam, dtype=torch.float64))
    monkeypatch.setattr(torch, "randint", lambda *_, **__: torch.tensor([next(centre)]))
    # torchvision mixes each image with the one before it.
    ours = cutmix(images, targets, box_around(row, column, lam, 6, 8), torch.arange(6).roll(1))
    mixed, soft = theirs(images, targets.argmax(1))
    assert torch.equal(ours[0], mixed)
    torch.testing.assert_close(ours[1], soft)


def test_lambda_is_that_of_the_image_outside_the_box():
    mix, generator = BatchCutMix(1.0), np.random.default_rng(0)
    pair = torch.stack([torch.zeros(1, 9, 7), torch.ones(1, 9, 7)])
    seen = set()
    for _ in range(60):
        images, targets = mix(pair, torch.eye(2), generator)
        share = images[0].mean().item()
        swapped = share > 0
        if swapped:
            assert targets[0].tolist() == pytest.approx([1 - share, share])
            seen.add(round(share, 4))
    assert len(seen) > 8


def test_lambda_is_drawn_from_beta(monkeypatch):
    """What reaches the box, before it is cut to pixels."""
    seen: list[float] = []

    def spy(row, column, lam, height, width):
        seen.append(lam)
        return box_around(row, column, lam, height, width)

    monkeypatch.setattr("harness.tricks.cutmix.box_around", spy)
    generator = np.random.default_rng(0)
    for alpha in (0.2, 1.0):
        seen.clear()
        for _ in range(3000):
            BatchCutMix(alpha)(torch.zeros(2, 1, 2, 2), torch.eye(2), generator)
        assert stats.kstest(seen, stats.beta(alpha, alpha).cdf).pvalue > 1e-3


def test_a_box_has_the_area_of_lambda_and_its_centre_is_any_pixel():
    for lam in (0.0, 0.3, 0.75, 0.96):
        top, left, bottom, right = box_around(500, 500, lam, 1000, 1000)
        assert bottom - top == right - left == pytest.approx(1000 * sqrt(1 - lam), abs=2)
        assert (top + bottom) / 2 == (left + right) / 2 == 500
    assert box_around(0, 7, 0.75, 8, 8) == (0, 5, 2, 8)


def test_the_centre_of_a_box_is_any_pixel():
    """At λ near ½ a box on 5×5 pixels is 2×2, cut at the border; where no image changes places, none is seen."""
    pair, generator = torch.stack([torch.zeros(1, 5, 5), torch.ones(1, 5, 5)]), np.random.default_rng(0)
    boxes = {BatchCutMix(5000.0)(pair, torch.eye(2), generator)[0][0].numpy().tobytes() for _ in range(1000)}
    assert len(boxes) == 25 + 1


def test_it_draws_from_the_generator_it_is_given_and_leaves_its_batch_alone():
    images, targets = batch()
    kept = images.clone(), targets.clone()
    torch_state = torch.get_rng_state()
    one, other = (BatchCutMix(1.0)(images, targets, np.random.default_rng(9))[0] for _ in range(2))
    assert torch.equal(one, other)
    assert not torch.equal(one, BatchCutMix(1.0)(images, targets, np.random.default_rng(10))[0])
    assert torch.equal(images, kept[0])
    assert torch.equal(targets, kept[1])
    assert torch.equal(torch.get_rng_state(), torch_state)


def test_trick_adds_to_the_mixes_and_nothing_else():
    assert CutMixTrick()(Recipe()) == Recipe(mixes=(BatchCutMix(1.0),))


def test_two_levels_conflict():
    with pytest.raises(Conflict, match="two BatchCutMix stand in the mixes of the recipe; only one can"):
        compose({"weak": CutMixTrick(0.1), "strong": CutMixTrick(1.0)})


def test_a_training_sees_mixed_images_of_the_same_batches(tmp_path):
    """The whole draw is written out again: λ, row, column, permutation, for each batch, from a stream of its own."""
    base, with_trick = (watch(two_steps(tricks, seed=5), tmp_path) for tricks in ({}, {"cutmix": CutMixTrick(0.7)}))
    generator = np.random.default_rng(derive(5, "BatchCutMix"))
    for plain, mixed in zip(base, with_trick, strict=True):
        lam, row, column = generator.beta(0.7, 0.7), int(generator.integers(8)), int(generator.integers(8))
        box, order = box_around(row, column, lam, 8, 8), torch.from_numpy(generator.permutation(8))
        images, targets = cutmix(plain.images, plain.targets, box, order)
        assert torch.equal(mixed.images, images)
        assert torch.equal(mixed.targets, targets)
    assert changed(base[-1].after, with_trick[-1].after) >= {"conv1.weight", "fc.weight"}


def test_beside_mixup_one_of_them_is_drawn_for_each_batch(tmp_path):
    """Each goes on in its own stream where it is drawn; which one is drawn comes from a third."""
    both: dict[str, Trick] = {"mixup": MixupTrick(1.0), "cutmix": CutMixTrick(1.0)}
    base, with_both = (watch(two_steps(tricks, seed=5, epochs=6), tmp_path) for tricks in ({}, both))
    choice, of_mixup, of_cutmix = (
        np.random.default_rng(derive(5, name)) for name in ("choice of mix", "BatchMixup", "BatchCutMix")
    )
    counts = [0, 0]
    for plain, mixed in zip(base, with_both, strict=True):
        which = choice.integers(2)
        counts[which] += 1
        if which == 0:
            lam, order = of_mixup.beta(1.0, 1.0), torch.from_numpy(of_mixup.permutation(8))
            images, targets = mixup(plain.images, plain.targets, lam, order)
        else:
            lam, row, column = of_cutmix.beta(1.0, 1.0), int(of_cutmix.integers(8)), int(of_cutmix.integers(8))
            box, order = box_around(row, column, lam, 8, 8), torch.from_numpy(of_cutmix.permutation(8))
            images, targets = cutmix(plain.images, plain.targets, box, order)
        torch.testing.assert_close(mixed.images, images)
        torch.testing.assert_close(mixed.targets, targets)
    assert min(counts) > 2


def test_parameters_as_a_user_writes_them(read_trick):
    assert read_trick("cutmix: ") == CutMixTrick(alpha=1.0)
    assert read_trick("cutmix: {alpha: 0.3}") == CutMixTrick(alpha=0.3)


@pytest.mark.parametrize("value", ["0", "-0.2", ".nan", ".inf", "'0.2'"])
def test_alpha_must_be_a_number_above_0(read_trick, value):
    with pytest.raises(HarnessError, match=r"tiny.yaml:10: tricks\.cutmix\.alpha"):
        read_trick(f"cutmix: {{alpha: {value}}}")
