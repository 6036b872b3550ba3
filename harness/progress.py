"""How far a grid is: what its process yields while it works."""

from dataclasses import dataclass
from typing import Literal

Stage = Literal["pretraining", "teaching", "tuning", "probing", "training"]


@dataclass(frozen=True)
class Update:
    """How far a grid is; `text` is what is trained first, or the best cell so far by mean score on validation."""

    stage: Stage
    done: int
    total: int
    failed: int = 0
    text: str = ""
