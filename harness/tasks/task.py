"""What each task does in its own way: all that the loop leaves to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from harness.data.batches import Passes
from harness.data.normalise import Normalise
from harness.prefix.batch import Batch
from harness.training import Training


class Task(Protocol):
    """A module of functions. Images, targets and predictions are of its own kinds."""

    def batches(self, training: Training, images: Any, device: torch.device) -> Passes:
        """Return what a training is fed."""

    def taken(self, batch: Batch) -> tuple[Any, ...]:
        """Return what the network takes of a batch in training."""

    def loss(self, made: Any, targets: Any) -> Tensor:
        """Return the loss of what the network makes of that, a scalar."""

    def predict(self, module: nn.Module, images: Any, normalise: Callable[[Tensor], Tensor]) -> Any:
        """Return what the network predicts of each image, with the module in evaluation mode."""

    def scores(self, predictions: Any, images: Any, classes: int) -> dict[str, float]:
        """Return the task's metrics by name."""

    def floors(
        self, untrained: Callable[[], nn.Module], splits: Any, classes: int, normalise: Normalise
    ) -> dict[str, float]:
        """Return what the test images are worth to a network before training, and to who looks at none of them."""

    def by_image(self, predictions: Any, images: Any) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Return the predicted and the true class [N] of each image; nothing where images have no one class."""

    def pictures(self, predictions: Any, splits: Any) -> tuple[bytes, ...]:
        """Return PNGs of a few test images with what was predicted of them."""


def task_of(training: Training) -> Task:
    """Return what a training is for; its libraries are imported now, and those of other tasks are not."""
    match training.task:
        case "classification":
            from harness.tasks import classification

            return classification
        case "detection":
            from harness.tasks import detection

            return detection
        case "segmentation":
            from harness.tasks import segmentation

            return segmentation
