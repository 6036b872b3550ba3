import pytest
import torch
from torch import Tensor, nn

from harness.data import ImageSet
from harness.data.normalise import Normalise
from harness.evaluate import BATCH, mean_per_class, predict, top1
from tests.watching import CPU, TWO_CLASSES, changed, copy_of


class Shade(nn.Module):
    """A net with batch norm and dropout that tells dark images from light ones."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.drop, self.fc = nn.BatchNorm2d(3), nn.Dropout(0.9), nn.Linear(3, 2)
        with torch.no_grad():
            self.fc.weight.copy_(torch.tensor([[-1.0] * 3, [1.0] * 3]))
            self.fc.bias.zero_()
        self.batches: list[int] = []
        self.kept_for_backward = True

    def forward(self, images: Tensor) -> Tensor:
        self.batches.append(len(images))
        self.kept_for_backward = torch.is_grad_enabled()
        logits: Tensor = self.fc(self.drop(self.norm(images)).mean(dim=(2, 3)))
        return logits


def shades(values: list[int]) -> ImageSet:
    """Return one image of each grey value; those above 127 are light."""
    grey = torch.tensor(values, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 4, 4)
    return ImageSet(grey, (torch.tensor(values) > 127).long())


@pytest.mark.parametrize(
    ("predictions", "labels", "expected"),
    [([0, 1, 2, 1], [0, 1, 1, 0], 0.5), ([3], [3], 1.0), ([0, 0, 0], [1, 2, 3], 0.0), ([1, 1, 0], [1, 1, 1], 2 / 3)],
)
def test_top1_is_the_fraction_that_is_right(predictions, labels, expected):
    assert top1(torch.tensor(predictions), torch.tensor(labels)) == expected


def test_top1_is_exact_for_many_images():
    """A share in float32 would differ in its eighth digit."""
    labels = torch.zeros(3_000_001, dtype=torch.int64)
    predictions = labels.clone()
    predictions[:1_000_000] = 1
    assert top1(predictions, labels) == 2_000_001 / 3_000_001


@pytest.mark.parametrize(
    ("predictions", "labels", "expected"),
    [
        ([0, 0, 0, 0, 1], [0, 0, 0, 0, 1], 1.0),
        ([0, 0, 0, 0, 0], [0, 0, 0, 0, 1], 0.5),  # top-1 is 0.8: the large class hides the small one
        ([0, 1, 1, 2], [0, 1, 2, 2], (1 + 1 + 0.5) / 3),
        ([3, 3], [0, 0], 0.0),
        ([0, 2], [0, 0], 0.5),  # classes 1 to 3 have no images
    ],
)
def test_mean_per_class_weighs_every_class_alike(predictions, labels, expected):
    assert mean_per_class(torch.tensor(predictions), torch.tensor(labels), 4) == pytest.approx(expected, rel=1e-15)


def test_mean_per_class_is_balanced_accuracy():
    from sklearn.metrics import balanced_accuracy_score

    rng = torch.Generator().manual_seed(0)
    labels = torch.cat([torch.arange(5), torch.randint(0, 2, (500,), generator=rng)])
    predictions = torch.where(torch.rand(505, generator=rng) < 0.6, labels, (labels + 1) % 5)
    assert mean_per_class(predictions, labels, 5) == pytest.approx(balanced_accuracy_score(labels, predictions))


def test_predictions_are_classes_in_the_order_of_the_images():
    values = [0, 255, 250, 10, 240, 5, 255]
    predictions = predict(Shade(), shades(values), Normalise(TWO_CLASSES, CPU))
    assert predictions.dtype == torch.int64
    assert predictions.tolist() == [0, 1, 1, 0, 1, 0, 1]


def test_predictions_of_a_training_network_are_those_of_evaluation():
    """By running statistics and without dropout: a light image among light ones is light all the same."""
    module = Shade().train()
    everything = predict(module, shades([255, 250, 245, 240]), Normalise(TWO_CLASSES, CPU))
    assert everything.tolist() == [1, 1, 1, 1]
    assert predict(module.train(), shades([255]), Normalise(TWO_CLASSES, CPU)).tolist() == [1]


def test_predicting_leaves_evaluation_mode_and_changes_nothing_else():
    module = Shade().train()
    module.fc.weight.requires_grad_(False)
    module.fc.bias.grad = torch.ones(2)
    before, generator = copy_of(module.state_dict()), torch.get_rng_state()
    predict(module, shades([0, 255]), Normalise(TWO_CLASSES, CPU))
    assert not any(child.training for child in module.modules())
    assert not changed(before, copy_of(module.state_dict()))
    assert [p.requires_grad for p in module.parameters()] == [True, True, False, True]
    assert torch.equal(module.fc.bias.grad, torch.ones(2))
    assert torch.equal(torch.get_rng_state(), generator)
    assert torch.is_grad_enabled()


def test_nothing_is_kept_for_a_backward_pass():
    module = Shade()
    predict(module, shades([0, 255]), Normalise(TWO_CLASSES, CPU))
    assert not module.kept_for_backward


def test_images_go_through_in_batches_of_one_size_and_come_out_in_order():
    values = [(255 if i % 3 else 0) for i in range(2 * BATCH + 7)]
    module, images = Shade(), shades(values)
    predictions = predict(module, images, Normalise(TWO_CLASSES, CPU))
    assert module.batches == [BATCH, BATCH, 7]
    assert top1(predictions, images.labels) == 1.0
