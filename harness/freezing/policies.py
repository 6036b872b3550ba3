"""Freeze policies as data.

`trainable` and `bn_stats` are selections, read from left to right:

- `all` or `none`; a stage of the model (`stem`, `stage1`, …, `head`); `bn`, every batch norm; a glob over names;
- `not X` takes the selection of X away again.

`trainable` selects parameters, `bn_stats` the batch norms whose running statistics follow the batches. The affine
parameters and the running statistics of batch norm are two separate axes: "freezing batch norm" may mean either.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import ConfigDict, Field


@dataclass(frozen=True)
class Phase:
    """A stretch of training with one answer to what learns."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    trainable: tuple[str, ...]
    bn_stats: tuple[str, ...] = ("none",)
    start: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Where it begins, as a fraction of training."""
    lr_factor: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    restart_schedule: bool = False
    """Whether the learning-rate schedule, warmup included, begins anew with this phase."""


@dataclass(frozen=True)
class Policy:
    """Which parts of the network learn, and when."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    phases: Annotated[tuple[Phase, ...], Field(min_length=1)]
    init: Literal["pretrained", "random"] = "pretrained"
    codes: None = None
    about: str = ""
    source: str = ""


POLICIES: dict[str, Policy] = {
    "full": Policy(
        about="Everything learns; batch-norm statistics follow the batches.",
        source="full fine-tuning",
        phases=(Phase(trainable=("all",), bn_stats=("all",)),),
    ),
    "full_bn_frozen": Policy(
        about="Everything learns but batch norm: γ, β and the running statistics stay.",
        source="Keras' `layer.trainable = False`",
        phases=(Phase(trainable=("all", "not bn"), bn_stats=("none",)),),
    ),
    "head": Policy(
        about="Only the new classifier learns, on a fixed extractor.",
        source="linear probe",
        phases=(Phase(trainable=("head",), bn_stats=("none",)),),
    ),
    "head_bn": Policy(
        about="The classifier and batch norm learn: γ, β and the running statistics.",
        source="arXiv 2102.05543; Frankle et al. 2020 train batch norm alone",
        phases=(Phase(trainable=("head", "bn"), bn_stats=("all",)),),
    ),
}
