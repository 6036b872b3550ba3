"""A job: what one process does in one go."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

from harness.spec.execution import Execution
from harness.training import Training
from harness.workspace import Workspace

if TYPE_CHECKING:
    from harness.checkpoint import Checkpoints


@dataclass(frozen=True)
class Job:
    """Trainings one after another, or the probe of their steps."""

    trainings: tuple[Training, ...]
    cache: Path
    probe: tuple[int, int] | None = None
    """Rounds and steps of a probe; None trains."""
    checkpoints: Checkpoints | None = None
    """Where and how often trainings keep how far they are; None never looks there."""

    time_limit_s: float | None = None
    """Longest time that one of the trainings may take; one that takes longer is ended, None lets it go on."""

    reuse: Path | None = None
    """Folder of what trainings share of their frozen parts; None shares nothing."""

    def without(self, digests: Collection[str]) -> Self:
        """Return what is left of the job after some of its trainings."""
        return replace(self, trainings=tuple(t for t in self.trainings if t.digest not in digests))

    @property
    def threads(self) -> int:
        """Processor threads the job uses."""
        return max(training.train.threads for training in self.trainings)


def make_job(
    execution: Execution,
    place: Workspace,
    trainings: Sequence[Training],
    checkpoints: Checkpoints,
    probe: tuple[int, int] | None = None,
) -> Job:
    """Return a job of a workspace's grid."""
    shared = place.shared if execution.reuse else None
    return Job(tuple(trainings), place.cache, probe, checkpoints, execution.time_limit_s, shared)
