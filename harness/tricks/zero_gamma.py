"""Zero γ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from harness.recipe import Recipe, Where

if TYPE_CHECKING:
    from torch import nn

    from harness.models.layout import Layout


@dataclass(frozen=True)
class ZeroLastGamma:
    """γ = 0 in the batch norm that ends a residual branch: each block begins as its shortcut (He et al. 2018, §3.1)."""

    def touches(self, layout: Layout) -> tuple[str, ...]:
        """Return the names of those γ; raises ValueError where no residual branch ends in a batch norm."""
        if not layout.last_norms:
            raise ValueError("the network has no residual branch that ends in a batch norm, whose γ could be zero")
        return tuple(f"{name}.weight" for name in layout.last_norms)

    def __call__(self, module: nn.Module, layout: Layout) -> None:
        """Set those γ of `module` to zero."""
        from torch import nn  # here, so that listing the tricks does not wait for it

        for name in self.touches(layout):
            nn.init.zeros_(module.get_parameter(name))


@dataclass(frozen=True)
class ZeroGammaTrick:
    """The last γ of every residual branch begins at zero; on pretrained weights this erases what was learned."""

    source: ClassVar[str] = "He et al. 2018, §3.1"
    where: Where = "target"

    def __call__(self, recipe: Recipe) -> Recipe:
        """Add the edit to the recipe's inits."""
        return recipe.adding("inits", (self.where, ZeroLastGamma()))
