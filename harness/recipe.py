"""The recipe of a training: named seams that tricks fill in, and that training reads.

A trick is a pure function `Recipe -> Recipe`. Each seam says how two tricks combine: sequences are kept in canonical
order, factors multiply, and a seam with one owner refuses a second writer. Training never learns which trick filled a
seam.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol

from pydantic import ConfigDict, Field

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor, nn

    from harness.models.layout import Layout
    from harness.spec import Model

Where = Literal["source", "target", "both"]
"""Which of the two models an edit of the network is made to: the one pretrained by the plan, or the one fine-tuned."""


class Surgery(Protocol):
    """An edit of the network's description, before weights load."""

    def __call__(self, model: Model) -> Model:
        """Return the edited description; raises ValueError where the network has nothing to edit."""


class Init(Protocol):
    """An edit of the network's parameters, after weights load."""

    def touches(self, layout: Layout) -> tuple[str, ...]:
        """Return the names of the parameters it sets; raises ValueError where the network has none of them."""

    def __call__(self, module: nn.Module, layout: Layout) -> None:
        """Edit the parameters of `module` in place."""


class LrScale(Protocol):
    """A factor on the base learning rate for the whole training."""

    def __call__(self, batch_size: int) -> float:
        """Return the factor."""


class Warmup(Protocol):
    """A factor on the learning rate over the first steps of a schedule."""

    def steps(self, steps_per_epoch: int) -> int:
        """Return the number of steps it lasts."""

    def __call__(self, step: int, steps_per_epoch: int) -> float:
        """Return the factor at `step` (from 0); 1 once it is over."""


class Decay(Protocol):
    """The learning-rate curve of a schedule, independent of its length."""

    def __call__(self, progress: float, warmup_end: float) -> float:
        """Return the factor at `progress`; both arguments are fractions of the schedule in [0, 1)."""


class AugmentMap(Protocol):
    """A map of images, drawn for each image anew."""

    def __call__(self, images: Tensor, generator: np.random.Generator) -> Tensor:
        """Map uint8 images [N, C, H, W] to images of the same kind."""


class TargetMap(Protocol):
    """A map of target distributions."""

    def __call__(self, targets: Tensor) -> Tensor:
        """Map targets [N, K], rows summing to 1, to targets of the same kind."""


class Mix(Protocol):
    """A map of a whole batch, drawn anew for each."""

    def __call__(self, images: Tensor, targets: Tensor, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Map float images [N, C, H, W] and targets [N, K] to a batch of the same shapes."""


class LossTerm(Protocol):
    """A term of the loss besides the cross-entropy with the targets, which it weighs anew."""

    @property
    def hard_weight(self) -> float:
        """The factor on the loss without this term."""

    def __call__(self, logits: Tensor, teacher_logits: Tensor) -> Tensor:
        """Return the term, a scalar, from logits [N, K] of the network and of its teacher."""


class Precision(Protocol):
    """The floats that a training step computes in; weights stay float32."""

    def dtype(self, device_type: str) -> torch.dtype:
        """Return the type to compute in on `cpu` or `cuda`; float16 has its loss scaled."""


class Average(Protocol):
    """A running average of the weights, evaluated in place of the last ones."""

    def decay(self, step: int) -> float:
        """Return the share that the average keeps of itself at `step` (from 0)."""


@dataclass(frozen=True)
class TeacherSpec:
    """A network that must be there before the training, to be imitated."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    model: str | None = None
    """Its model, trained from random weights; None is the study's own, with the study's weights."""
    epochs: Annotated[int, Field(gt=0)] | None = None
    """How long the plan trains it; None is as long as the study's trainings."""
    checkpoint: str | None = None
    """A file with its state dict, trained on the target's classes, relative to the spec's folder; None has the plan
    train it."""


@dataclass(frozen=True)
class ParamRule:
    """Factors for the parameters with `ndim` dimensions (1: biases, γ, β; 2: linear; 4: convolution weights)."""

    ndim: int
    weight_decay_factor: float = 1.0
    lr_factor: float = 1.0


class Conflict(ValueError):
    """Two tricks want the same seam of a recipe, which has one owner."""


@dataclass(frozen=True)
class Recipe:
    """What tricks decide about a training. The empty recipe is the baseline."""

    surgeries: tuple[tuple[Where, Surgery], ...] = ()
    """Applied one after another."""
    inits: tuple[tuple[Where, Init], ...] = ()
    """Applied one after another."""
    param_rules: tuple[ParamRule, ...] = ()
    """Multiplied, each over the parameters it matches."""
    lr_scales: tuple[LrScale, ...] = ()
    """Multiplied."""
    warmups: tuple[Warmup, ...] = ()
    """Multiplied."""
    decay: Decay | None = None
    """One owner; None is the spec's own decay."""
    augments: tuple[AugmentMap, ...] = ()
    """Composed in canonical order, after the spec's own augmentation."""
    target_maps: tuple[TargetMap, ...] = ()
    """Composed in canonical order, before mixing."""
    mixes: tuple[Mix, ...] = ()
    """One of each kind; where there are several, one of them is drawn for each batch."""
    loss_terms: tuple[LossTerm, ...] = ()
    """Added one after another, each to what it leaves of the loss before it."""
    teacher: TeacherSpec | None = None
    """One owner; what `loss_terms` imitate."""
    precision: Precision | None = None
    """One owner; None is float32."""
    average: Average | None = None
    """One owner; None evaluates the last weights."""

    def adding(self, seam: str, item: Any) -> Recipe:
        """Return a recipe with `item` appended to a sequence seam."""
        return self._with(seam, (*getattr(self, seam), item))

    def adding_one(self, seam: str, item: Any) -> Recipe:
        """Return a recipe with `item` appended to a sequence seam; raises Conflict where one of its kind is there."""
        if any(type(other) is type(item) for other in getattr(self, seam)):
            raise Conflict(f"two {type(item).__name__} stand in the {seam} of the recipe; only one can")
        return self.adding(seam, item)

    def owning(self, seam: str, item: Any) -> Recipe:
        """Return a recipe whose one-owner seam is `item`; raises Conflict where it is taken."""
        if getattr(self, seam) is not None:
            owner, other = type(getattr(self, seam)).__name__, type(item).__name__
            raise Conflict(f"both {owner} and {other} would own the {seam} of the recipe; only one can")
        return self._with(seam, item)

    def _with(self, seam: str, value: Any) -> Recipe:
        return replace(self, **{seam: value})
