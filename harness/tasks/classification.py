"""Each image has one class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from harness.data import Images, Splits
from harness.data.batches import Batches
from harness.data.normalise import Normalise
from harness.evaluate import predict, top1
from harness.models.outputs import loss
from harness.prefix.batch import Batch
from harness.training import Training

__all__ = ["batches", "by_image", "floors", "loss", "pictures", "predict", "scores", "taken"]


def batches(training: Training, images: Images, device: torch.device) -> Batches:
    """Return batches of images and of targets [N, K]."""
    return Batches(training, images, device)


def taken(batch: Batch) -> tuple[Any, ...]:
    """Return the images."""
    return (batch.inputs,)


def scores(predictions: Tensor, images: Images, classes: int) -> dict[str, float]:  # noqa: ARG001 - of other tasks
    """Return top-1 of predicted classes [N]."""
    return {"top1": top1(predictions, images.labels)}


def floors(
    untrained: Callable[[], nn.Module],  # noqa: ARG001
    splits: Splits,  # noqa: ARG001
    classes: int,  # noqa: ARG001
    normalise: Normalise,  # noqa: ARG001
) -> dict[str, float]:
    """Return nothing: what guessing is worth is known."""
    return {}


def by_image(predictions: Tensor, images: Images) -> tuple[np.ndarray, np.ndarray]:
    """Return the predicted and the true class [N] of each image."""
    return predictions.cpu().numpy(), images.labels.cpu().numpy()


def pictures(predictions: Tensor, splits: Splits) -> tuple[bytes, ...]:  # noqa: ARG001
    """Return nothing: a class is told, not drawn."""
    return ()
