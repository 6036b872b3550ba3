import pytest
import torch
import torch.nn.functional as F

from harness.errors import HarnessError
from harness.learner import initial_model
from harness.recipe import Recipe
from harness.tricks.label_smoothing import LabelSmoothingTrick, Smoothing
from harness.tricks.mixup import mixup
from tests.watching import CPU, changed, two_steps, watch


def one_hot(labels: list[int], classes: int) -> torch.Tensor:
    return F.one_hot(torch.tensor(labels), classes).float()


def test_targets_are_those_of_the_paper():
    """He et al. 2018, §5.2: 1 − ε on the true class, ε/(K − 1) on each other."""
    smooth = Smoothing(0.1)(one_hot([0, 4], classes=5))
    off = 0.025
    torch.testing.assert_close(smooth, torch.tensor([[0.9, off, off, off, off], [off, off, off, off, 0.9]]))


@pytest.mark.parametrize("classes", [2, 3, 1000])
def test_targets_stay_distributions(classes):
    smooth = Smoothing(0.3)(one_hot([0, 1, 1], classes))
    assert smooth.min() > 0
    torch.testing.assert_close(smooth.sum(1), torch.ones(3))


@pytest.mark.parametrize("epsilon", [0.01, 0.1, 0.4])
@pytest.mark.parametrize("classes", [2, 3, 10])
def test_loss_is_pytorchs_at_its_own_epsilon(epsilon, classes):
    """PyTorch spreads ε over all K classes, the true one included: our ε is its ε·K/(K − 1)."""
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(32, classes, generator=generator)
    labels = torch.randint(classes, (32,), generator=generator)
    ours = F.cross_entropy(logits, Smoothing(epsilon)(F.one_hot(labels, classes).float()))
    theirs = F.cross_entropy(logits, labels, label_smoothing=epsilon * classes / (classes - 1))
    torch.testing.assert_close(ours, theirs)


def test_smoothing_mixed_targets_is_mixing_smooth_ones():
    targets, order, smooth = one_hot([0, 1, 2, 1], 3), torch.tensor([2, 0, 3, 1]), Smoothing(0.2)
    _, mixed = mixup(targets, targets, 0.3, order)
    _, mixed_smooth = mixup(smooth(targets), smooth(targets), 0.3, order)
    torch.testing.assert_close(smooth(mixed), mixed_smooth)


def test_trick_adds_to_the_target_maps_and_to_nothing_else():
    assert LabelSmoothingTrick()(Recipe()) == Recipe(target_maps=(Smoothing(0.1),))


def test_a_training_sees_smooth_targets_of_the_same_images(tmp_path):
    training = two_steps({"label_smoothing": LabelSmoothingTrick(0.2)})
    base, with_trick = watch(two_steps(), tmp_path), watch(training, tmp_path)
    for plain, smooth in zip(base, with_trick, strict=True):
        assert torch.equal(plain.images, smooth.images)
        torch.testing.assert_close(smooth.targets, torch.where(plain.targets == 1, 0.8, 0.2))
    module = initial_model(training, CPU).train()
    labels = base[0].targets.argmax(1)
    expected = F.cross_entropy(module(base[0].images), labels, label_smoothing=0.2 * 2 / 1)
    assert with_trick[0].loss == pytest.approx(expected.item(), rel=1e-5)
    assert changed(base[-1].after, with_trick[-1].after) >= {"conv1.weight", "fc.weight"}


def test_parameters_as_a_user_writes_them(read_trick):
    assert read_trick("label_smoothing: ") == LabelSmoothingTrick(epsilon=0.1)
    assert read_trick("label_smoothing: {epsilon: 0.3}") == LabelSmoothingTrick(epsilon=0.3)


@pytest.mark.parametrize("value", ["0", "1", "-0.1", "10", ".nan", ".inf", "'0.1'"])
def test_epsilon_must_lie_between_0_and_1(read_trick, value):
    with pytest.raises(HarnessError, match=r"tiny.yaml:10: tricks\.label_smoothing\.epsilon"):
        read_trick(f"label_smoothing: {{epsilon: {value}}}")
