"""What a worker reports while it trains. A record carries the digest of its training and the time in milliseconds."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np

FailureKind = Literal["diverged", "freeze_violation", "error", "killed", "disk_full", "out_of_memory", "timeout"]
PASSING: frozenset[FailureKind] = frozenset({"killed", "disk_full"})
"""Failures that say nothing of the training: the next run of a grid tries again."""


@dataclass(frozen=True)
class Started:
    """A training has begun, or goes on."""

    digest: str
    timestamp: int
    device: str
    after_epoch: int = 0
    """The epoch of the checkpoint from which it goes on, whose records come again; 0 where it begins."""
    led_by: str = ""
    """Digest of the training whose leading epochs, the same as its own, come first; empty where none was there."""


@dataclass(frozen=True)
class Epoch:
    """One epoch is over; `step` counts the optimizer steps so far."""

    digest: str
    timestamp: int
    epoch: int
    step: int
    train_loss: float
    val: Mapping[str, float]
    """By the names of metrics, the task's score among them."""


@dataclass(frozen=True)
class Figure:
    """One figure of a diagnosis."""

    name: str
    layer: str
    """The batch-norm layer it is of; empty where it is of the whole network."""
    value: float | None
    reason: str = ""
    """Why there is no value."""


@dataclass(frozen=True)
class Diagnosed:
    """What the trained network's batch norm does; comes before Finished."""

    digest: str
    timestamp: int
    figures: tuple[Figure, ...]


@dataclass(frozen=True)
class Finished:
    """A training is over and its frozen tensors are as they were."""

    digest: str
    timestamp: int
    test: Mapping[str, float]
    """As `val` of an epoch."""
    trainable_params: int
    wall_s: float
    """Seconds from its beginning to its end, leading epochs included, whatever ran beside it; no figure of speed."""
    weights_sha256: str
    changed: tuple[str, ...]
    """Names of the tensors that are not, bit for bit, in the weights it was trained from."""
    test_predictions: np.ndarray | None
    """Predicted class [N] of each test image, int64; None where a task has no such thing."""
    test_labels: np.ndarray | None
    duplicates_dropped: int
    notes: tuple[str, ...] = ()
    """What a reader of the result must know of how it came about, each a clause without a full stop."""
    pictures: tuple[bytes, ...] = ()
    """PNGs of a few test images with what was predicted of them, the same images in every training of a study."""


@dataclass(frozen=True)
class Failed:
    """A training ended without a result."""

    digest: str
    timestamp: int
    kind: FailureKind
    reason: str
    traceback: str = ""


@dataclass(frozen=True)
class Retried:
    """A training ended as another attempt may not; it is tried again."""

    digest: str
    timestamp: int
    kind: FailureKind
    reason: str


@dataclass(frozen=True)
class Probed:
    """One round of the exclusive probe of a training's step."""

    digest: str
    timestamp: int
    round: int
    images_per_s: float
    peak_memory_bytes: int


Record = Started | Epoch | Diagnosed | Finished | Failed | Retried | Probed


def now() -> int:
    """Return the time in milliseconds since the epoch, as MLflow counts it."""
    return time.time_ns() // 1_000_000
