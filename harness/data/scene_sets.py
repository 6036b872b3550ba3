"""The scenes of one split, as training and evaluation ask for them: batches of given rows, uint8, on the device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from harness.data.annotations import Boxes
from harness.data.digit_scenes import Canvas
from harness.data.images import Stream
from harness.data.scene_decoding import Decoded, Undecoded
from harness.tasks.metrics import Task

Objects = dict[str, Tensor]
"""What is in one image: `boxes` [M, 4] as x1, y1, x2, y2 in pixels, float32; `labels` [M] from 1 on, int64; and where
objects may be too difficult to count, `iscrowd` [M], int64, 1 for those."""
Target = Objects | Tensor
"""The objects of an image, or its mask [h, w]: labels from 0 on, int64, 255 where nothing counts."""


class Scenes(Protocol):
    """Images and what is in them. Where they come from changes no bit of them."""

    @property
    def task(self) -> Task:
        """What the targets are for: detection has objects, segmentation has masks."""

    @property
    def objects(self) -> Sequence[Objects]:
        """Of detection the objects of each image, without decoding it; otherwise nothing."""

    @property
    def sizes(self) -> Sequence[tuple[int, int]]:
        """Of detection height and width of each image; otherwise nothing."""

    def __len__(self) -> int: ...

    def batches(self, rows: Tensor, batch_size: int) -> Iterator[tuple[list[Tensor], list[Target]]]:
        """Yield images [3, h, w], uint8, and targets of `rows` [M] in their order, `batch_size` at a time."""


@dataclass(frozen=True)
class SceneSet:
    """Scenes in memory, on one device."""

    images: Tensor | list[Tensor]
    """uint8 [N, 3, H, W] where all have one size, otherwise each [3, h, w]."""
    masks: Tensor | list[Tensor] | None
    """uint8 [N, H, W], or each [h, w]; None for detection."""
    objects: Sequence[Objects] = ()

    @property
    def task(self) -> Task:
        """Segmentation where there are masks."""
        return "detection" if self.masks is None else "segmentation"

    @property
    def sizes(self) -> Sequence[tuple[int, int]]:
        """Height and width of each image of a set for detection."""
        return [(image.shape[1], image.shape[2]) for image in self.images] if self.masks is None else ()

    def __len__(self) -> int:
        return len(self.images)

    def batches(self, rows: Tensor, batch_size: int) -> Iterator[tuple[list[Tensor], list[Target]]]:
        """Yield images and targets of `rows`, `batch_size` at a time."""
        for index in rows.split(batch_size):
            batch = index.tolist()
            targets = [self.objects[row] if self.masks is None else self.masks[row].long() for row in batch]
            yield [self.images[row] for row in batch], targets


class StreamedScenes:
    """Scenes in files, decoded by worker processes while the device trains on those before them."""

    def __init__(
        self, undecoded: Undecoded, rows: np.ndarray, boxes: Sequence[Boxes] | None, workers: int, device: torch.device
    ) -> None:
        """`rows` [N] of `undecoded` are this set, `boxes` their objects as read; None where there are masks."""
        self.task: Task = "segmentation" if boxes is None else "detection"
        self.objects = [_objects(each, device) for each in boxes or ()]
        self.sizes = [each.size for each in boxes or ()]
        self._rows, self._device = rows, device
        self._stream = Stream(undecoded, workers, device)

    def __len__(self) -> int:
        return len(self._rows)

    def batches(self, rows: Tensor, batch_size: int) -> Iterator[tuple[list[Tensor], list[Target]]]:
        """Yield images and targets of `rows`, `batch_size` at a time; a new pass ends the one before it."""
        asked = [index.tolist() for index in rows.split(batch_size)]
        for batch, decoded in zip(asked, self._stream([self._rows[b].tolist() for b in asked]), strict=True):
            images = [image.to(self._device, non_blocking=True) for image, _ in decoded]
            if self.objects:
                yield images, [self.objects[row] for row in batch]
            else:
                yield images, [mask.to(self._device, non_blocking=True).long() for _, mask in decoded]


def of_canvases(canvases: Sequence[Canvas], task: Task, device: torch.device) -> SceneSet:
    """Return embedded scenes as a set for detection or for segmentation."""
    images = torch.from_numpy(np.stack([canvas.image for canvas in canvases])).to(device)
    if task == "segmentation":
        return SceneSet(images, torch.from_numpy(np.stack([canvas.mask for canvas in canvases])).to(device))
    found = [{"boxes": canvas.boxes, "labels": canvas.labels} for canvas in canvases]
    return SceneSet(images, None, [{name: torch.from_numpy(o[name]).to(device) for name in o} for o in found])


def of_decoded(decoded: Sequence[Decoded], boxes: Sequence[Boxes] | None, device: torch.device) -> SceneSet:
    """Return scenes that were decoded, in order, as a set; `boxes` are their objects, None where there are masks."""
    images = [torch.from_numpy(image).to(device) for image, _ in decoded]
    if boxes is not None:
        return SceneSet(images, None, [_objects(each, device) for each in boxes])
    return SceneSet(images, [torch.from_numpy(mask).to(device) for _, mask in decoded if mask is not None])


def _objects(boxes: Boxes, device: torch.device) -> Objects:
    arrays = {"boxes": boxes.boxes, "labels": boxes.labels, "iscrowd": boxes.difficult.astype(np.int64)}
    return {name: torch.from_numpy(values).to(device) for name, values in arrays.items()}
