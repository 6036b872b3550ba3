"""What batch norm does in a trained network: measured after the training, without a trace in network or streams."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

from harness.data import Images, Splits
from harness.data.normalise import Normalise
from harness.evaluate import BATCH, predict, top1
from harness.freezing.apply import batch_statistics_mode, evaluation_mode
from harness.learner import initial_model
from harness.records import Figure
from harness.seeds import stream
from harness.training import Training

BATCH_SIZES = (1, 8, 64)
"""Images by whose statistics the trained network is evaluated."""


def diagnose(training: Training, end: nn.Module, splits: Splits, normalise: Normalise) -> tuple[Figure, ...]:
    """Return the figures of `end`, the network that `training` made; neither it nor any random stream changes.

    Top-1 is that on test, a fraction: `test_top1_batch_N` by the statistics of batches of N images in place of the
    running ones, `test_top1_source_backbone` of the trained head on the backbone that the training started from, its
    batch norm included. `shift_start` and `shift_end`, one a batch-norm layer, are the divergence of the training
    images from the running statistics in the network that the training started from, and in `end`.
    """
    device = next(end.parameters()).device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        start = initial_model(training, device)
    return measure(start, end, training.head, splits, normalise)


def measure(
    start: nn.Module, end: nn.Module, head: tuple[str, ...], splits: Splits, normalise: Normalise
) -> tuple[Figure, ...]:
    """Return the figures of `diagnose` for a network as it was before and after; `head` are name prefixes."""
    before, after = (input_moments(module, splits.train, normalise) for module in (start, end))
    figures = []
    for size in BATCH_SIZES:
        reason = _unmeasurable(size, after, splits)
        value = None if reason else top1_by_batch(end, splits.test, normalise, size)
        figures.append(Figure(f"test_top1_batch_{size}", "", value, reason))
    over_source = top1(predict(with_head_of(end, start, head), splits.test, normalise), splits.test.labels)
    figures.append(Figure("test_top1_source_backbone", "", over_source))
    for name, module, moments in (("shift_start", start, before), ("shift_end", end, after)):
        figures += [Figure(name, layer, divergence(module.get_submodule(layer), m)) for layer, m in moments.items()]
    return tuple(figures)


def _unmeasurable(size: int, moments: dict[str, Moments], splits: Splits) -> str:
    """Return why batch statistics of `size` images cannot be taken, or nothing."""
    if not moments:
        return "the network has no batch norm"
    if size > len(splits.test):
        return f"there are {len(splits.test)} test images"
    # PyTorch refuses it: a value is its own mean, and would be normalised to 0.
    lonely = [layer for layer, m in moments.items() if size * m.count == len(splits.train)]
    return f"{lonely[0]} sees one value per channel" if lonely else ""


@torch.inference_mode()
def top1_by_batch(module: nn.Module, images: Images, normalise: Normalise, size: int) -> float:
    """Return top-1 with batch norm normalising by batches of `size` of `images`, at most as many as there are.

    The order is drawn once for all trainings, so that a batch mixes classes. The last batch is filled up with the
    first images, whose predictions in it do not count: each image is predicted once, among as many as any other.
    """
    order = torch.from_numpy(stream(0, "order of the diagnosis").permutation(len(images)))
    rows = torch.cat([order, order[: -len(order) % size]])
    with batch_statistics_mode(module):
        classes = torch.cat([module(normalise(batch)).argmax(1) for batch, _ in images.batches(rows, size)])
    return top1(classes[: len(order)], images.labels[order.to(images.labels.device)])


def with_head_of(head_owner: nn.Module, backbone_owner: nn.Module, head: tuple[str, ...]) -> nn.Module:
    """Return a copy of `backbone_owner` whose head, the names under the prefixes `head`, is that of `head_owner`."""
    module = deepcopy(backbone_owner)
    prefixes = tuple(f"{prefix}." for prefix in head)
    state = {name: tensor for name, tensor in head_owner.state_dict().items() if name.startswith(prefixes)}
    module.load_state_dict(state, strict=False)
    return module


class Moments:
    """Mean and variance [C], in float64, of each channel of values [N, C, …] that come batch by batch.

    Batches are merged by the pairwise update of Chan, Golub and LeVeque (1979), which cancels no digits.
    """

    def __init__(self) -> None:
        self.count = 0
        """Values of each channel so far."""
        self.mean = self._squares = torch.zeros(())

    def add(self, values: Tensor) -> None:
        """Take a batch."""
        var, mean = torch.var_mean(values, [d for d in range(values.ndim) if d != 1], correction=0)
        count = values.numel() // values.shape[1]
        total = self.count + count
        delta = mean.double() - self.mean
        self._squares = self._squares + count * var.double() + delta.square() * (self.count * count / total)
        self.mean = self.mean + delta * (count / total)
        self.count = total

    @property
    def var(self) -> Tensor:
        """The unbiased variance, which running statistics follow too."""
        return self._squares / (self.count - 1)


@torch.inference_mode()
def input_moments(module: nn.Module, images: Images, normalise: Normalise) -> dict[str, Moments]:
    """Return the moments of what reaches each batch norm with running statistics, by layer, in the order of the module.

    The images go through as they are, without augmentation, the module being in evaluation mode.
    """
    evaluation_mode(module)
    moments: dict[str, Moments] = {}
    handles = []
    for name, child in module.named_modules():
        if isinstance(child, BatchNorm) and child.track_running_stats:
            found = moments[name] = Moments()
            handles.append(child.register_forward_pre_hook(lambda _, inputs, found=found: found.add(inputs[0])))
    try:
        for batch, _ in images.batches(torch.arange(len(images)), BATCH):
            module(normalise(batch))
    finally:
        for handle in handles:
            handle.remove()
    return {name: found for name, found in moments.items() if found.count}


def divergence(norm: nn.Module, moments: Moments) -> float:
    """Return how far values are from the running statistics of `norm`, in nats: the mean over channels of

        KL(N(μ, σ²) ‖ N(μ_r, σ_r²)) = ½ (m² + r − 1 − ln r),   m = (μ − μ_r)/σ_r,   r = σ²/σ_r²,

    where both variances include the layer's ε, as in its own denominator, so that a dead channel counts 0.

    m and r are mean and variance of what the layer hands to γ and β in evaluation: this is its divergence from the
    standard normal that γ and β were learned for. It is 0 where the running statistics are those of the values, and
    no unit of the values enters it, so that layers and networks compare.
    """
    assert isinstance(norm, BatchNorm)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    expected = norm.running_var.double() + norm.eps
    m2 = (moments.mean - norm.running_mean).square() / expected
    r = (moments.var + norm.eps) / expected
    return (m2 + r - 1 - r.log()).mean().item() / 2
