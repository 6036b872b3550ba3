"""Weight decay on weights only."""

from dataclasses import dataclass
from typing import ClassVar

from harness.recipe import ParamRule, Recipe


@dataclass(frozen=True)
class NoBiasDecayTrick:
    """Weight decay on convolution and linear weights only; none on biases, γ and β."""

    source: ClassVar[str] = "He et al. 2018, §3.1"

    def __call__(self, recipe: Recipe) -> Recipe:
        """Add the rule: every vector (bias, γ, β) goes undecayed."""
        return recipe.adding("param_rules", ParamRule(ndim=1, weight_decay_factor=0.0))
