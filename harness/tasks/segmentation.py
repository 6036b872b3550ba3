"""How good masks are, and how good they are without looking."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from harness.data.annotations import IGNORED
from harness.data.scene_sets import Scenes

_BATCH = 64


def scores(predictions: Iterable[Tensor], targets: Iterable[Tensor], classes: int) -> dict[str, float]:
    """Return what share of the pixels is right, and the mean over the classes of intersection over union.

    Both iterables yield labels, int64, of one shape pair by pair ([h, w], or batches [N, H, W]) and may be generators:
    one pair is held at a time. Pixels whose target is 255 count for nothing. Intersections and unions are those of all
    images together, as VOC has it; a class that neither targets nor predictions have anywhere does not count.
    """
    options = {"ignore_index": IGNORED, "validate_args": False}  # which would look for every label of every mask
    metrics = MetricCollection(
        {
            "miou": MulticlassJaccardIndex(classes, average="macro", **options),
            "pixel_accuracy": MulticlassAccuracy(classes, average="micro", **options),
        }
    )
    for prediction, target in zip(predictions, targets, strict=True):
        metrics.to(target.device).update(prediction, target)
    return {name: value.item() for name, value in metrics.compute().items()}


def constant(train: Scenes, split: Scenes, classes: int) -> dict[str, float]:
    """Return the scores on `split` of the most frequent class of the pixels of `train`, everywhere."""
    pixels = sum((mask[mask != IGNORED].bincount(minlength=classes) for mask in _masks(train)), torch.zeros(classes))
    most = int(pixels.argmax())
    return scores((torch.full_like(mask, most) for mask in _masks(split)), _masks(split), classes)


def _masks(scenes: Scenes) -> Iterator[Tensor]:
    for _, masks in scenes.batches(torch.arange(len(scenes)), _BATCH):
        yield from (mask for mask in masks if isinstance(mask, Tensor))
