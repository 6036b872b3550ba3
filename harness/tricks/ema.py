"""Exponential moving average of the weights."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from harness.recipe import Recipe


@dataclass(frozen=True)
class WarmAverage:
    """The average keeps min(decay, (1 + t)/(10 + t)) of itself at step t, from 0.

    While t is small that is an average over about the last tenth of the steps, so that short trainings are not held to
    their first weights; it is TensorFlow's ExponentialMovingAverage with `num_updates`.
    """

    cap: float

    def decay(self, step: int) -> float:
        """Return the share kept at `step`."""
        return min(self.cap, (1 + step) / (10 + step))


@dataclass(frozen=True)
class EmaTrick:
    """Evaluate a running average of the weights in place of the last ones."""

    source: ClassVar[str] = "Szegedy et al. 2016, §8"
    decay: Annotated[float, Field(gt=0, lt=1)] = 0.9998
    """Share that the average keeps of itself in the long run; the default is that of timm's training script."""

    def __call__(self, recipe: Recipe) -> Recipe:
        """Own the recipe's average."""
        return recipe.owning("average", WarmAverage(self.decay))
