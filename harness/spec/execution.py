"""How trainings are run, which changes no number of any of them, but for those that only fit a device in parts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from harness.spec.section import Positive, Rate, Section


class Execution(Section):
    """What a device carries, what is kept against a crash, and what becomes of trainings that fail."""

    gpu_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """How much of a GPU a training takes: 0.5 trains two at a time on each."""
    checkpoint_s: Annotated[float, Field(ge=0)] | None = 60.0
    """Seconds of training after which an epoch ends in a checkpoint, to go on from; 0 is every epoch, None never."""
    time_limit_s: Rate | None = None
    """Longest time that one training may take before it is ended as failed; None lets it go on."""
    on_out_of_memory: Literal["fail", "accumulate"] = "fail"
    """Whether what does not fit a device by itself is trained with its batches in parts, paired only with its like."""
    reuse: bool = True
    """Whether what is frozen is computed once for all trainings that share it; the bits are the same."""
    same_error_limit: Positive | None = 3
    """Trainings ended by one error in the code after which no other is begun; None goes on."""
