"""Predictions and what share of them is right."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from harness.data import Images
from harness.freezing.apply import evaluation_mode

BATCH = 256
"""Images of an evaluation batch; fixed, so that predictions do not depend on a training setting."""


@torch.inference_mode()
def predict(module: nn.Module, images: Images, normalise: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the predicted class [N] of each image, int64, with the module in evaluation mode."""
    evaluation_mode(module)
    everything = torch.arange(len(images))
    return torch.cat([module(normalise(batch)).argmax(1) for batch, _ in images.batches(everything, BATCH)])


def top1(predictions: Tensor, labels: Tensor) -> float:
    """Return the fraction of predictions [N] that equal labels [N]."""
    return (predictions == labels).double().mean().item()


def mean_per_class(predictions: Tensor, labels: Tensor, classes: int) -> float:
    """Return the mean over the classes of the fraction of their images that is predicted right.

    Both are [N]; a class without images counts for nothing. The custom of sets whose classes are of uneven size.
    """
    images = labels.bincount(minlength=classes)
    right = labels[predictions == labels].bincount(minlength=classes)
    present = images > 0
    return (right[present].double() / images[present]).mean().item()
