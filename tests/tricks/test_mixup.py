import numpy as np
import pytest
import torch
from scipy import stats
from torchvision.transforms import v2

from harness.errors import HarnessError
from harness.recipe import Conflict, Recipe
from harness.seeds import derive
from harness.tricks import compose
from harness.tricks.mixup import BatchMixup, MixupTrick, mixup
from tests.watching import changed, two_steps, watch


def batch(size: int = 6, classes: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(size, 3, 5, 5, generator=generator)
    return images, torch.eye(classes)[torch.arange(size) % classes]


def drawn_lambdas(alpha: float, count: int) -> np.ndarray:
    """Return λ of `count` batches, read off what comes out."""
    mix, generator, eye = BatchMixup(alpha), np.random.default_rng(0), torch.eye(8)
    # Of the diagonal of a mixed identity matrix, each row holds λ but those that were mixed with themselves hold 1.
    return np.array([mix(eye, eye, generator)[1].diagonal().min().item() for _ in range(count)])


@pytest.mark.parametrize("lam", [0.0, 0.3, 1.0])
def test_it_is_the_papers_convex_combination(lam):
    """Zhang et al. 2018, §1: x̃ = λx_i + (1 − λ)x_j, ỹ = λy_i + (1 − λ)y_j, image by image."""
    images, targets = batch()
    order = [3, 0, 5, 2, 4, 1]
    mixed, soft = mixup(images, targets, lam, torch.tensor(order))
    for i, j in enumerate(order):
        torch.testing.assert_close(mixed[i], lam * images[i] + (1 - lam) * images[j])
        torch.testing.assert_close(soft[i], lam * targets[i] + (1 - lam) * targets[j])


@pytest.mark.parametrize("lam", [0.1, 0.5, 0.8])
def test_it_matches_torchvisions_mixup(lam, monkeypatch):
    images, targets = batch()
    theirs = v2.MixUp(num_classes=4)
    monkeypatch.setattr(theirs, "make_params", lambda _: {"lam": lam})
    # torchvision mixes each image with the one before it.
    ours = mixup(images, targets, lam, torch.arange(6).roll(1))
    for mine, peer in zip(ours, theirs(images, targets.argmax(1)), strict=True):
        torch.testing.assert_close(mine, peer)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_lambda_is_drawn_from_beta(alpha):
    lambdas = drawn_lambdas(alpha, count=4000)
    variance = 1 / (4 * (2 * alpha + 1))
    assert lambdas.mean() == pytest.approx(0.5, abs=5 * np.sqrt(variance / 4000))
    assert lambdas.var() == pytest.approx(variance, rel=0.08)
    assert stats.kstest(lambdas, stats.beta(alpha, alpha).cdf).pvalue > 1e-3


def test_one_lambda_serves_a_whole_batch():
    mixed, _ = BatchMixup(1.0)(torch.eye(8), torch.eye(8), np.random.default_rng(3))
    others = [row[row > 0].sort().values.tolist() for row in mixed if (row > 0).sum() == 2]
    assert len(others) > 4
    assert all(pair == pytest.approx(others[0]) for pair in others)
    torch.testing.assert_close(mixed.sum(1), torch.ones(8))


def test_partners_are_a_permutation_drawn_anew_for_each_batch():
    eye, mix, generator = torch.eye(16), BatchMixup(1.0), np.random.default_rng(0)
    partners = []
    for _ in range(20):
        mixed, _ = mix(eye, eye, generator)
        torch.testing.assert_close(mixed.sum(0), torch.ones(16))  # everyone is someone's partner once
        partners.append(tuple((mixed - torch.diag(mixed.diagonal())).argmax(1).tolist()))
    assert len(set(partners)) == 20


def test_it_draws_from_the_generator_it_is_given_and_leaves_its_batch_alone():
    images, targets = batch()
    kept = images.clone()
    torch_state = torch.get_rng_state()
    one, other = (BatchMixup(0.2)(images, targets, np.random.default_rng(9))[0] for _ in range(2))
    assert torch.equal(one, other)
    assert not torch.equal(one, BatchMixup(0.2)(images, targets, np.random.default_rng(10))[0])
    assert torch.equal(images, kept)
    assert torch.equal(torch.get_rng_state(), torch_state)


def test_trick_adds_to_the_mixes_and_nothing_else():
    assert MixupTrick()(Recipe()) == Recipe(mixes=(BatchMixup(0.2),))


def test_two_levels_conflict():
    with pytest.raises(Conflict, match="two BatchMixup stand in the mixes of the recipe; only one can"):
        compose({"weak": MixupTrick(0.1), "strong": MixupTrick(1.0)})


def test_a_training_sees_only_mixed_images_of_the_same_batches(tmp_path):
    """The whole draw is written out again: one λ, then one permutation, for each batch, from mixup's own stream."""
    alpha = 1.0
    augment = two_steps().train.augment.model_copy(update={"flip": True, "crop_padding": 1})
    base, with_trick = (
        watch(two_steps(tricks, seed=5, augment=augment), tmp_path) for tricks in ({}, {"mixup": MixupTrick(alpha)})
    )
    generator = np.random.default_rng(derive(5, "BatchMixup"))
    for plain, mixed in zip(base, with_trick, strict=True):
        lam, order = generator.beta(alpha, alpha), generator.permutation(8)
        torch.testing.assert_close(mixed.images, lam * plain.images + (1 - lam) * plain.images[order])
        torch.testing.assert_close(mixed.targets, lam * plain.targets + (1 - lam) * plain.targets[order])
    assert changed(base[-1].after, with_trick[-1].after) >= {"conv1.weight", "fc.weight"}


def test_alpha_changes_the_training(tmp_path):
    weak, strong = (watch(two_steps({"mixup": MixupTrick(alpha)}), tmp_path)[-1].after for alpha in (0.2, 1.0))
    assert changed(weak, strong)


def test_parameters_as_a_user_writes_them(read_trick):
    assert read_trick("mixup: ") == MixupTrick(alpha=0.2)
    assert read_trick("mixup: {alpha: 1}") == MixupTrick(alpha=1.0)


@pytest.mark.parametrize("value", ["0", "-0.2", ".nan", ".inf", "'0.2'"])
def test_alpha_must_be_a_number_above_0(read_trick, value):
    with pytest.raises(HarnessError, match=r"tiny.yaml:10: tricks\.mixup\.alpha"):
        read_trick(f"mixup: {{alpha: {value}}}")
