"""What a network is fed: images, or what its frozen prefix makes of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from harness.data import ImageSet, Splits
from harness.data.augment import flips, mirror
from harness.data.batches import Batches, Passes
from harness.data.normalise import Normalise
from harness.devices import sent
from harness.prefix.batch import Batch
from harness.prefix.kept import Kept
from harness.prefix.splice import begun_at
from harness.tasks.task import task_of
from harness.training import Training


class Inputs:
    """The batches of a training and its sets to evaluate, each from where what is kept of them ends."""

    def __init__(self, training: Training, splits: Splits, kept: Kept, device: torch.device) -> None:
        self._task = task_of(training)
        self._sets, self._normalise = {"val": splits.val, "test": splits.test}, Normalise(training.data, device)
        self._kept = kept
        if kept.of_views:
            assert isinstance(splits.train, ImageSet)
            self.batches: Passes = _KeptBatches(training, splits.train, kept, device)
        else:
            self.batches = self._task.batches(training, splits.train, device)

    def epoch(self, phases: Sequence[int]) -> Iterator[Batch]:
        """Yield the batches of an epoch, whose steps are in `phases`, by number."""
        if isinstance(self.batches, _KeptBatches):
            yield from self.batches.fed(phases)
        else:
            for images, targets in self.batches.epoch():
                yield Batch(images, targets)

    def predict(self, module: nn.Module, name: str, phase: int) -> Any:
        """Return what the task predicts of the images of `val` or `test`, with weights as the phase has them."""
        part, images = self._kept.parts[phase], self._sets[name]
        if not part.evaluated:
            return self._task.predict(module, images, self._normalise)
        with begun_at(module, part.cut):
            return self._task.predict(module, _KeptSet(part.evaluated[name], images.labels), nn.Identity())


class _KeptBatches(Batches):
    """The batches of a training of which something is kept for each view: drawn as those of the images are."""

    def __init__(self, training: Training, images: ImageSet, kept: Kept, device: torch.device) -> None:
        super().__init__(training, images, device)
        self._held, self._kept, self._device = images, kept, device

    def fed(self, phases: Sequence[int]) -> Iterator[Batch]:
        """Yield the batches of one pass, whose steps are in `phases`."""
        taught, teacher_cut = self._kept.teacher.views, self._kept.teacher.cut
        teacher_views = taught() if taught else None
        views = {phase: placed() for phase in dict.fromkeys(phases) if (placed := self._kept.parts[phase].views)}
        for rows, phase in zip(self.order().split(self._training.train.batch_size), phases, strict=True):
            mirrored = torch.zeros(len(rows), dtype=torch.bool)
            if self._training.train.augment.flip:
                mirrored = flips(len(rows), self._flip)
            at, part = rows + len(self._held) * mirrored, self._kept.parts[phase]
            index = sent(rows, self._device)
            yield Batch(
                _rows_of(views[phase], at, self._device) if part.views else self._images_at(index, mirrored),
                self.targets(self._held.labels[index]),
                part.cut if part.views else None,
                None if teacher_views is None else _rows_of(teacher_views, at, self._device),
                teacher_cut,
            )

    def _images_at(self, index: Tensor, mirrored: Tensor) -> Tensor:
        return self._normalise(mirror(self._held.images[index], sent(mirrored, self._device)))


@dataclass(frozen=True)
class _KeptSet:
    """What the prefix makes of the images of a set, in the place of those images."""

    made: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, rows: Tensor, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        for index in rows.split(batch_size):
            device = self.labels.device
            yield _rows_of(self.made, index, device), self.labels[sent(index, device)]


def _rows_of(kept: Tensor, rows: Tensor, device: torch.device) -> Tensor:
    """Return `rows` of what is kept, on the device where it does not lie there."""
    return kept[sent(rows, device)] if kept.device.type == device.type else sent(kept[rows], device)
