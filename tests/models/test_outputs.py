"""Losses of networks with auxiliary heads, written out."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torchvision.models.googlenet import GoogLeNetOutputs
from torchvision.models.inception import InceptionOutputs

from harness import flops
from harness.freezing.policies import POLICIES
from harness.freezing.resolve import resolve
from harness.learner import Learner, initial_model
from harness.models.build import layout_of
from harness.models.outputs import logits_of, loss
from harness.prefix.batch import Batch
from harness.spec import Model
from tests.watching import CPU, two_steps

TARGETS = torch.tensor([[0.9, 0.1], [0.0, 1.0]])
FIRST, SECOND, THIRD = torch.randn(3, 2, 2, generator=torch.Generator().manual_seed(0))


def cross_entropy(logits: torch.Tensor) -> torch.Tensor:
    return -(TARGETS * (logits - logits.exp().sum(1, keepdim=True).log())).sum(1).mean()


def test_loss_of_logits_is_the_cross_entropy():
    assert torch.equal(loss(FIRST, TARGETS), F.cross_entropy(FIRST, TARGETS))
    torch.testing.assert_close(loss(FIRST, TARGETS), cross_entropy(FIRST))


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        (InceptionOutputs(FIRST, SECOND), cross_entropy(FIRST) + 0.4 * cross_entropy(SECOND)),
        (
            GoogLeNetOutputs(FIRST, SECOND, THIRD),
            cross_entropy(FIRST) + 0.3 * cross_entropy(SECOND) + 0.3 * cross_entropy(THIRD),
        ),
    ],
)
def test_auxiliary_heads_count_at_their_weight(outputs, expected):
    torch.testing.assert_close(loss(outputs, TARGETS), expected)
    assert logits_of(outputs) is FIRST
    assert logits_of(FIRST) is FIRST


def test_another_criterion_goes_for_all_heads():
    squared = loss(InceptionOutputs(FIRST, SECOND), TARGETS, F.mse_loss)
    torch.testing.assert_close(squared, ((FIRST - TARGETS) ** 2).mean() + 0.4 * ((SECOND - TARGETS) ** 2).mean())


def test_a_step_takes_the_loss_of_all_heads():
    module = initial_model(two_steps(), CPU)
    logits: list[torch.Tensor] = []
    plain = module.forward

    def forward(images):
        logits.append(plain(images))
        return InceptionOutputs(logits[0], 2 * logits[0])

    module.forward = forward
    taken = Learner(module, two_steps()).step(Batch(torch.rand(2, 3, 8, 8), TARGETS), lr=0.1)
    torch.testing.assert_close(taken, (cross_entropy(logits[0]) + 0.4 * cross_entropy(2 * logits[0])).detach())


def test_the_estimate_counts_auxiliary_heads():
    """Under `head`: the forward pass with its auxiliary branch, and the weight gradients of the two classifiers."""
    model, classes = Model(name="inception_v3"), 2
    phases = resolve(POLICIES["head"], layout_of(model, classes), 0.0)
    training = two_steps()
    training = replace(training, model=model, phases=phases, data=training.data.model_copy(update={"image_size": 304}))
    auxiliary = 2 * (128 * 768 * 25 + 768 * 128 * 25 + 768 * classes)  # 1×1 over 5×5 cells, 5×5 over one, linear
    gradients = 2 * classes * (2048 + 768)
    assert flops.of_training(training) == pytest.approx(flops.of_forward(training) + auxiliary + gradients, rel=1e-9)
