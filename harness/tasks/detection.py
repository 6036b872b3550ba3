"""Each image has objects, each with a box and a class."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics.detection import MeanAveragePrecision

from harness.data.normalise import Normalise
from harness.data.scene_batches import SceneBatches, evaluation_batches
from harness.data.scene_sets import Objects, Scenes
from harness.data.scenes import SceneSplits
from harness.freezing.apply import evaluation_mode
from harness.prefix.batch import Batch
from harness.tasks.pictures import SHOWN, boxes_drawn, png
from harness.training import Training

_BATCH = 16
"""Images of an evaluation batch."""
_IOUS = [share / 100 for share in range(50, 100, 5)]
_RECALLS = [share / 100 for share in range(101)]
"""Both as the library has them, but not rounded to 32 bits: a recall of 3/5 does reach 0.6, and an IoU of 4/5 0.8."""
_ELEVEN = [share / 10 for share in range(11)]


def batches(training: Training, images: Scenes, device: torch.device) -> SceneBatches:
    """Return batches of images and of their objects."""
    return SceneBatches(training, images, device)


def taken(batch: Batch) -> tuple[Any, ...]:
    """Return the images, one by one, and their objects: a detector works out its losses itself."""
    return [*batch.inputs], batch.targets


def loss(made: Mapping[str, Tensor], targets: Any) -> Tensor:  # noqa: ARG001 - the detector had them
    """Return the sum of a detector's losses, each at weight 1 as in torchvision's reference."""
    return torch.stack([term.float() for term in made.values()]).sum()


@torch.inference_mode()
def predict(module: nn.Module, images: Scenes, normalise: Callable[[Tensor], Tensor]) -> list[Objects]:
    """Return the `boxes`, `labels` and `scores` of what is found in each image, on the CPU."""
    evaluation_mode(module)
    found = (module([*inputs]) for inputs, _ in evaluation_batches(images, _BATCH, normalise))
    return [_on_cpu(each, ("boxes", "labels", "scores")) for batch in found for each in batch]


def scores(predictions: Sequence[Objects], images: Scenes, classes: int) -> dict[str, float]:  # noqa: ARG001
    """Return mean average precision, as `average_precision` has it."""
    return average_precision(predictions, images.objects)


def floors(
    untrained: Callable[[], nn.Module], splits: SceneSplits, classes: int, normalise: Normalise
) -> dict[str, float]:
    """Return mAP at IoU 0.5 on test of the network before training, and of one box in every image."""
    before = scores(predict(untrained(), splits.test, normalise), splits.test, classes)
    return {"untrained": before["map50"], "constant": constant(splits.train, splits.test)["map50"]}


def by_image(predictions: Any, images: Any) -> tuple[None, None]:  # noqa: ARG001
    """Return nothing: images have no one class."""
    return None, None


def pictures(predictions: Sequence[Objects], splits: SceneSplits) -> tuple[bytes, ...]:
    """Return a picture of the first test images."""
    shown = slice(min(SHOWN, len(splits.test)))
    ((images, _),) = splits.test.batches(torch.arange(shown.stop), SHOWN)
    return (png(boxes_drawn(images, predictions[shown], splits.test.objects[shown], splits.classes)),)


def average_precision(predictions: Sequence[Objects], targets: Sequence[Objects]) -> dict[str, float]:
    """Return mean average precision over the classes that the targets have, NaN where they have none that counts.

    A prediction holds the `boxes` [D, 4], `labels` [D] and `scores` [D] of one image, of which the 100 highest of
    each class count; a target holds `boxes` [M, 4], `labels` [M] and maybe `iscrowd` [M]. A detection finds an
    object of its class where their IoU reaches the threshold and no detection with a higher score has found that
    object.

    - map50: at IoU 0.5, the area under precision as a function of recall, precision being the highest at this recall or
      a higher one, read off at recalls 0, 0.01, … 1. VOC 2010 and later take the same curve at every step of it.
    - map50_11: the same read off at recalls 0, 0.1, … 1 alone, as VOC 2007 does.
    - map: the mean of the first over IoU 0.50, 0.55, … 0.95, as COCO does.

    Objects with `iscrowd` (the difficult ones of VOC) count neither as found nor as missed. Neither does a detection of
    their class that finds no other object and has the threshold's share of its own area in one of them: COCO's rule.
    VOC's asks for the IoU with the difficult object instead, so that a small detection inside it is false.
    """
    found = [_on_cpu(each, ("boxes", "scores", "labels")) for each in predictions]
    truth = [_on_cpu(each, ("boxes", "labels", "iscrowd")) for each in targets]
    coco, eleven = _computed(_IOUS, _RECALLS, found, truth), _computed([0.5], _ELEVEN, found, truth)
    result = {"map50": coco["map_50"], "map50_11": eleven["map"], "map": coco["map"]}
    return {name: value if value >= 0 else math.nan for name, value in result.items()}


def _computed(ious: list[float], recalls: list[float], found: list[Objects], truth: list[Objects]) -> dict[str, float]:
    metric = MeanAveragePrecision(iou_thresholds=ious, rec_thresholds=recalls, backend="faster_coco_eval")
    metric.warn_on_many_detections = False  # that 100 of them count is said above
    metric.update(found, truth)
    return {name: value.item() for name, value in metric.compute().items() if value.numel() == 1}


def _on_cpu(objects: Objects, names: Sequence[str]) -> Objects:
    return {name: objects[name].cpu() for name in names if name in objects}


def constant(train: Scenes, split: Scenes) -> dict[str, float]:
    """Return the scores on `split` of one box in every image, whatever it shows.

    It is the mean box, in shares of width and height, of the most frequent class in `train`.
    """
    labels = torch.cat([each["labels"] for each in train.objects]).cpu()
    most = labels.bincount().argmax()
    shares = [_shares(each["boxes"].cpu(), size) for each, size in zip(train.objects, train.sizes, strict=True)]
    mean = torch.cat(shares)[labels == most].mean(0, keepdim=True)
    guesses = [{"boxes": mean * _ends(size), "labels": most[None], "scores": torch.ones(1)} for size in split.sizes]
    return average_precision(guesses, split.objects)


def _shares(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    return boxes / _ends(size)


def _ends(size: tuple[int, int]) -> Tensor:
    height, width = size
    return torch.tensor([width, height, width, height], dtype=torch.float32)
