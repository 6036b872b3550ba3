"""Mixed-precision training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from harness.recipe import Recipe

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class HalfPrecision:
    """float16 with its loss scaled on CUDA (He et al. 2018, §3.2; Micikevicius et al. 2018, §3), bfloat16 elsewhere.

    bfloat16 is what CPUs are fast at; it has the exponents of float32, so its loss needs no scale.
    """

    def dtype(self, device_type: str) -> torch.dtype:
        """Return the type to compute in on `cpu` or `cuda`."""
        import torch  # here, so that listing the tricks does not wait for it

        return torch.float16 if device_type == "cuda" else torch.bfloat16


@dataclass(frozen=True)
class MixedPrecisionTrick:
    """Compute in 16-bit floats, keep the weights in 32."""

    source: ClassVar[str] = "He et al. 2018, §3.2"

    def __call__(self, recipe: Recipe) -> Recipe:
        """Own the recipe's precision."""
        return recipe.owning("precision", HalfPrecision())
