"""What a freeze policy is made of: plain data that a spec may write out."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field


def _entries(value: Any) -> Any:
    """Read `{from: NAME}`, alone or in a list, as the entry `from NAME`."""
    items = [value] if isinstance(value, dict) else value
    return tuple(_entry(item) for item in items) if isinstance(items, list) else value


def _entry(item: Any) -> Any:
    if not isinstance(item, dict):
        return item
    if list(item) != ["from"] or not isinstance(item["from"], str):
        raise ValueError(f"{item} selects nothing; a mapping in a selection is {{from: NAME}}")
    return f"from {item['from']}"


Selection = Annotated[tuple[str, ...], BeforeValidator(_entries)]
"""Entries read from left to right; `policies.py` has the language."""


@dataclass(frozen=True)
class Phase:
    """A stretch of training with one answer to what learns."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    trainable: Selection
    bn_stats: Selection = ("none",)
    start: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Where it begins, as a fraction of training."""
    lr_factor: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    restart_schedule: bool = False
    """Whether the learning-rate schedule, warmup included, begins anew with this phase."""


Solver = Literal["svm", "softmax"]


@dataclass(frozen=True)
class Codes:
    """CNN codes: what a stage of the fixed network puts out, with a linear classifier that a solver fits to it."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    solver: Solver
    stage: str = "last"
    """A stage before the head, or `last` for the last of them."""
    rectified: bool = True
    """Whether a ReLU comes before averaging; it changes nothing where the stage ends in one."""
    cs: Annotated[tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...], Field(min_length=1)] = (
        *(1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0),
    )
    """Inverse strengths of the penalty, ascending; validation chooses one."""

    def __post_init__(self) -> None:
        if list(self.cs) != sorted(set(self.cs)):
            raise ValueError(f"cs must rise from one to the next, not be {list(self.cs)}")


@dataclass(frozen=True)
class Policy:
    """Which parts of the network learn, and when; or a solver in place of training."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    phases: Annotated[tuple[Phase, ...], Field(min_length=1)] = ()
    init: Literal["pretrained", "random"] = "pretrained"
    head: Literal["replaced", "appended"] = "replaced"
    """A new classifier in place of the old one, or one more layer on top of it."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Factor on the learning rate for each stage down from the head."""
    codes: Codes | None = None
    """What a solver does in place of `phases`."""
    about: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        if bool(self.phases) == bool(self.codes):
            raise ValueError("a policy has either `phases` or `codes`")
        if self.codes and (self.head == "appended" or self.layer_decay != 1):
            raise ValueError("`codes` leave no network to train: `head` and `layer_decay` mean nothing beside them")
