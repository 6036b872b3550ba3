"""What one training step is fed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from harness.prefix.cut import Cut


@dataclass(frozen=True)
class Batch:
    """Images and targets, or what is kept of the images."""

    inputs: Tensor
    """Normalised images [N, 3, H, W], or what the stages before the cut make of them."""
    targets: Tensor
    """[N, K]."""
    cut: Cut | None = None
    """Where the network begins; None is at the images."""
    teacher_inputs: Tensor | None = None
    """What the stages of the teacher before its own cut make of the images; None gives it the inputs, its images."""
    teacher_cut: Cut | None = None

    def parts(self, count: int) -> Iterator[Batch]:
        """Yield so many batches of this one's rows."""
        taught = [None] * count if self.teacher_inputs is None else self.teacher_inputs.tensor_split(count)
        split = zip(self.inputs.tensor_split(count), self.targets.tensor_split(count), taught, strict=True)
        for inputs, targets, teacher_inputs in split:
            yield Batch(inputs, targets, self.cut, teacher_inputs, self.teacher_cut)
