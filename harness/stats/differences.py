"""What every interval and test asks of its numbers first."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

DECIMALS = 12
"""To which differences of floats are told apart; what is left is rounding."""


def checked(differences: ArrayLike, dimensions: int = 1) -> NDArray[np.float64]:
    """Return the differences as an array of floats; raises ValueError where there are none, or one is not finite."""
    d = np.asarray(differences, dtype=float)
    if d.ndim != dimensions:
        raise ValueError(f"differences of shape {d.shape}: expected {dimensions} dimension(s)")
    if not d.size:
        raise ValueError("a mean of no differences")
    if not np.isfinite(d).all():
        raise ValueError("differences must be finite; drop the pairs that are not, and say so")
    return d


def alike(d: NDArray[np.float64]) -> bool:
    """Whether the differences say nothing of their spread: one alone, or all the same but for rounding."""
    return d.size < 2 or float(d.std(ddof=1)) <= 10**-DECIMALS * max(abs(float(d.mean())), 1.0)
