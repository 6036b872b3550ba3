"""Predictions and top-1."""

import torch
from torch import Tensor, nn

from harness.data import Images
from harness.data.normalise import Normalise
from harness.freezing.apply import evaluation_mode

BATCH = 256
"""Images of an evaluation batch; fixed, so that predictions do not depend on a training setting."""


@torch.inference_mode()
def predict(module: nn.Module, images: Images, normalise: Normalise) -> Tensor:
    """Return the predicted class [N] of each image, int64, with the module in evaluation mode."""
    evaluation_mode(module)
    everything = torch.arange(len(images))
    return torch.cat([module(normalise(batch)).argmax(1) for batch, _ in images.batches(everything, BATCH)])


def top1(predictions: Tensor, labels: Tensor) -> float:
    """Return the fraction of predictions [N] that equal labels [N]."""
    return (predictions == labels).double().mean().item()
