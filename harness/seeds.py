"""Independent random streams, each derived from a seed and a name by a stable hash.

Every draw of a training (split, data order, initial weights, each trick) has a stream of its own, so switching one
trick on or off changes no other draw: that is what makes cells of one seed comparable pair by pair.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def derive(seed: int, name: str) -> int:
    """Return the 63-bit seed of stream `name` under `seed`; the same on every machine and Python version."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:8], "big") >> 1


def stream(seed: int, name: str) -> np.random.Generator:
    """Return the generator of stream `name` under `seed`.

    It draws on the CPU whatever device trains, so a seed means the same draws everywhere.
    """
    import numpy as np  # here, so that reading a spec does not wait for it

    return np.random.default_rng(derive(seed, name))
