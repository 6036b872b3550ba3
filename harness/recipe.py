"""The recipe of a training: named seams that tricks fill in, and that the training loop reads.

A trick is a pure function `Recipe -> Recipe`. Each seam says how two tricks combine: sequences are kept in canonical
order, factors multiply, and a seam with one owner refuses a second writer. The loop never learns which trick filled a
seam.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


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


class TargetMap(Protocol):
    """A map of target distributions."""

    def __call__(self, targets: Tensor) -> Tensor:
        """Map targets [N, K], rows summing to 1, to targets of the same kind."""


class Mix(Protocol):
    """A map of a whole batch, drawn anew for each."""

    def __call__(self, images: Tensor, targets: Tensor, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Map float images [N, C, H, W] and targets [N, K] to a batch of the same shapes."""


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

    warmups: tuple[Warmup, ...] = ()
    """Multiplied."""
    decay: Decay | None = None
    """One owner; None is the spec's own decay."""
    param_rules: tuple[ParamRule, ...] = ()
    """Multiplied, each over the parameters it matches."""
    target_maps: tuple[TargetMap, ...] = ()
    """Composed in canonical order, before mixing."""
    mix: Mix | None = None
    """One owner."""

    def adding(self, seam: str, item: Any) -> Recipe:
        """Return a recipe with `item` appended to a sequence seam."""
        return self._with(seam, (*getattr(self, seam), item))

    def owning(self, seam: str, item: Any) -> Recipe:
        """Return a recipe whose one-owner seam is `item`; raises Conflict where it is taken."""
        if getattr(self, seam) is not None:
            owner, other = type(getattr(self, seam)).__name__, type(item).__name__
            raise Conflict(f"both {owner} and {other} would own the {seam} of the recipe; only one can")
        return self._with(seam, item)

    def _with(self, seam: str, value: Any) -> Recipe:
        return replace(self, **{seam: value})
