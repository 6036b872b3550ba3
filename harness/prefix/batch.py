"""What one training step is fed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from torch import Tensor

from harness.prefix.cut import Cut


@dataclass(frozen=True)
class Batch:
    """Images and targets, or what is kept of the images."""

    inputs: Any
    """Normalised images [N, 3, H, W], or what the stages before the cut make of them; for detection a list of each
    [3, h, w] where they have several sizes."""
    targets: Any
    """As the task has them: [N, K] of classification, the objects of each image, masks [N, H, W]."""
    cut: Cut | None = None
    """Where the network begins; None is at the images."""
    teacher_inputs: Tensor | None = None
    """What the stages of the teacher before its own cut make of the images; None gives it the inputs, its images."""
    teacher_cut: Cut | None = None

    def parts(self, count: int) -> Iterator[Batch]:
        """Yield so many batches of this one's rows."""
        taught = [None] * count if self.teacher_inputs is None else _split(self.teacher_inputs, count)
        split = zip(_split(self.inputs, count), _split(self.targets, count), taught, strict=True)
        for inputs, targets, teacher_inputs in split:
            yield Batch(inputs, targets, self.cut, teacher_inputs, self.teacher_cut)


def _split(rows: Any, count: int) -> Any:
    """Return rows in so many parts, the first of which have one more where they cannot all be alike."""
    if isinstance(rows, Tensor):
        return rows.tensor_split(count)
    size, more = divmod(len(rows), count)
    ends = [number * size + min(number, more) for number in range(count + 1)]
    return [rows[begin:end] for begin, end in pairwise(ends)]
