"""Each pixel has a class, or counts for nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from harness.data.annotations import IGNORED
from harness.data.normalise import Normalise
from harness.data.scene_batches import SceneBatches, evaluation_batches
from harness.data.scene_sets import Scenes
from harness.data.scenes import SceneSplits
from harness.freezing.apply import evaluation_mode
from harness.prefix.batch import Batch
from harness.tasks.pictures import SHOWN, masks_drawn, png
from harness.training import Training

_BATCH = 16
"""Images of an evaluation batch."""
_AUXILIARY = 0.5
"""Weight of the auxiliary head's loss (Zhao et al. 2017 have 0.4, torchvision 0.5)."""


def batches(training: Training, images: Scenes, device: torch.device) -> SceneBatches:
    """Return batches of images and of masks [N, H, W]."""
    return SceneBatches(training, images, device)


def taken(batch: Batch) -> tuple[Any, ...]:
    """Return the images."""
    return (batch.inputs,)


def loss(made: Mapping[str, Tensor], targets: Tensor) -> Tensor:
    """Return the cross-entropy of logits [N, K, H, W] and masks [N, H, W], and half of the auxiliary head's.

    The mean over the pixels that count, as in torchvision's reference (references/segmentation/train.py); 0 if none do.
    """
    return _pixels(made["out"], targets) + _AUXILIARY * _pixels(made["aux"], targets)


def _pixels(logits: Tensor, targets: Tensor) -> Tensor:
    # In rows, since on CUDA torch has no deterministic loss over two dimensions.
    rows = logits.float().permute(0, 2, 3, 1).flatten(0, 2)
    counted = (targets != IGNORED).sum().clamp(min=1)
    return F.cross_entropy(rows, targets.flatten(), ignore_index=IGNORED, reduction="sum") / counted


@torch.inference_mode()
def predict(module: nn.Module, images: Scenes, normalise: Callable[[Tensor], Tensor]) -> list[Tensor]:
    """Return the predicted mask of each image, uint8, on the CPU: as large as the largest of its batch.

    What an image is filled up with to that size is seen by a head that averages over all of it (DeepLabV3's).
    """
    evaluation_mode(module)
    found = (module(inputs)["out"].argmax(1) for inputs, _ in evaluation_batches(images, _BATCH, normalise))
    return [mask for batch in found for mask in batch.to(torch.uint8).cpu()]


def scores(predictions: Sequence[Tensor], images: Scenes, classes: int) -> dict[str, float]:
    """Return pixel accuracy and mean IoU, as `overlap` has them."""
    pairs = zip(predictions, _masks(images), strict=True)
    cut = ((found[: mask.shape[0], : mask.shape[1]].to(mask.device).long(), mask) for found, mask in pairs)
    return overlap(cut, classes)


def floors(
    untrained: Callable[[], nn.Module], splits: SceneSplits, classes: int, normalise: Normalise
) -> dict[str, float]:
    """Return mean IoU on test of the network before training, and of the most frequent class everywhere."""
    before = scores(predict(untrained(), splits.test, normalise), splits.test, classes)
    return {"untrained": before["miou"], "constant": constant(splits.train, splits.test, classes)["miou"]}


def by_image(predictions: Any, images: Any) -> tuple[None, None]:  # noqa: ARG001
    """Return nothing: images have no one class."""
    return None, None


def pictures(predictions: Sequence[Tensor], splits: SceneSplits) -> tuple[bytes, ...]:
    """Return a picture of the first test images."""
    shown = min(SHOWN, len(splits.test))
    ((images, targets),) = splits.test.batches(torch.arange(shown), SHOWN)
    masks = [mask for mask in targets if isinstance(mask, Tensor)]
    return (png(masks_drawn(images, predictions[:shown], masks, splits.classes)),)


def overlap(pairs: Iterable[tuple[Tensor, Tensor]], classes: int) -> dict[str, float]:
    """Return what share of the pixels is right, and the mean over the classes of intersection over union.

    Each pair is of predicted and true labels, int64, of one shape ([h, w], or batches [N, H, W]), and one is held at a
    time. Pixels whose target is 255 count for nothing. Intersections and unions are those of all images together, as
    VOC has it; a class that neither targets nor predictions have anywhere does not count.
    """
    # `validate_args` would look for every label of every mask.
    metrics = MetricCollection(
        {
            "miou": MulticlassJaccardIndex(classes, average="macro", ignore_index=IGNORED, validate_args=False),
            "pixel_accuracy": MulticlassAccuracy(classes, average="micro", ignore_index=IGNORED, validate_args=False),
        }
    )
    for prediction, target in pairs:
        with _counting():
            metrics.to(target.device).update(prediction, target)
    return {name: value.item() for name, value in metrics.compute().items()}


@contextmanager
def _counting() -> Iterator[None]:
    """Let torchmetrics count by `bincount`, which gives the same whole numbers each time where it has no weights.

    Asked for deterministic algorithms it takes a matrix of pixels × classes² instead: 63 GB for a mask of ADE20K.
    """
    asked = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(asked)


def constant(train: Scenes, split: Scenes, classes: int) -> dict[str, float]:
    """Return the scores on `split` of the most frequent class of the pixels of `train`, everywhere."""
    counts = (mask[mask != IGNORED].bincount(minlength=classes).cpu() for mask in _masks(train))
    pixels = sum(counts, torch.zeros(classes, dtype=torch.int64))
    most = int(pixels.argmax())
    return overlap(((torch.full_like(mask, most), mask) for mask in _masks(split)), classes)


def _masks(scenes: Scenes) -> Iterator[Tensor]:
    for _, masks in scenes.batches(torch.arange(len(scenes)), _BATCH):
        yield from (mask for mask in masks if isinstance(mask, Tensor))
