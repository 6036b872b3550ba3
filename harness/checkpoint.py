"""How far a training is, kept at the end of an epoch, so that it goes on bit for bit where its process died."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.models import weights
from harness.records import Epoch
from harness.training import Training
from harness.versions import version_mark
from harness.workspace import Workspace


@dataclass(frozen=True)
class Checkpoint:
    """All that the rest of a training depends on."""

    learner: dict[str, Any]
    """As of `Learner.state`."""
    phase: int
    before: dict[str, Tensor]
    """The network as its phase began."""
    streams: list[Any]
    """As of `Batches.state`."""
    epochs: tuple[Epoch, ...]
    """The records so far."""
    wall_s: float

    @property
    def epoch(self) -> int:
        """The epoch it was made after."""
        return self.epochs[-1].epoch

    @property
    def step(self) -> int:
        """Optimizer steps so far."""
        return self.epochs[-1].step


@dataclass(frozen=True)
class Checkpoints:
    """Those of a workspace's unfinished trainings."""

    place: Workspace
    every_s: float | None
    """Least time between two of one training; 0 makes one every epoch, None none at all."""

    def path(self, digest: str) -> Path:
        """Return where that of a training lies."""
        return self.place.partial(digest, version_mark())

    def write(self, training: Training, device: str, checkpoint: Checkpoint) -> str:
        """Keep it in place of the one before; returns why it could not be kept, if so: the training goes on."""
        content = {
            "training": training.digest,
            "device": device,
            **vars(checkpoint),
            "epochs": [asdict(record) for record in checkpoint.epochs],
        }
        try:
            weights.save(content, self.path(training.digest))
        except OSError as error:
            return f"its checkpoint after epoch {checkpoint.epoch} could not be written: {error}"
        return ""

    def read(self, training: Training, device: str) -> tuple[Checkpoint | None, str]:
        """Return that of a training on a device, by the device's name, if there is one that serves.

        Beside it stands why one that is there does not serve: the training begins anew, and replaces it.
        """
        path = self.path(training.digest)
        if not path.exists():
            return None, ""
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
            made_for = content.pop("training"), content.pop("device")
            epochs = tuple(Epoch(**record) for record in content.pop("epochs"))
            found = Checkpoint(**content, epochs=epochs)
        except Exception as error:  # a file that is broken raises errors of every kind
            return None, f"a checkpoint was ignored that cannot be read ({type(error).__name__})"
        if made_for != (training.digest, device):
            return None, f"a checkpoint was ignored that is of training {made_for[0]} on {made_for[1]}"
        return found, ""

    def discard(self, digests: Iterable[str]) -> None:
        """Remove those of trainings, and what a process left that died while it wrote one."""
        for digest in digests:
            path = self.path(digest)
            for file in (path, *path.parent.glob(f"{path.stem}.*.part")):
                file.unlink(missing_ok=True)


class Keeper:
    """Keeps the checkpoints of one training in one process."""

    def __init__(self, checkpoints: Checkpoints, training: Training, device: str) -> None:
        """Read what an earlier process kept; `device` is the name of the one that trains."""
        self._checkpoints, self._training, self._device = checkpoints, training, device
        self.saved, self._ignored = checkpoints.read(training, device)
        self._not_written = ""
        self._last = time.perf_counter()

    @property
    def notes(self) -> tuple[str, ...]:
        """What could not be read, and what could not be written."""
        return tuple(note for note in (self._ignored, self._not_written) if note)

    def keep(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint where the last one is old enough."""
        every_s = self._checkpoints.every_s
        if every_s is not None and time.perf_counter() - self._last >= every_s:
            self._not_written = self._checkpoints.write(self._training, self._device, checkpoint)
            self._last = time.perf_counter()
