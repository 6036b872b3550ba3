"""A training as plain data: everything that decides its numbers, and nothing else but where its files lie."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.digest import digest, digest_by
from harness.freezing.policy import Codes
from harness.freezing.resolve import ResolvedPhase
from harness.models.zoo import HEADS
from harness.recipe import Recipe
from harness.spec import Data, Model, Train
from harness.tasks.metrics import Task


def _place(**options: Any) -> Any:
    """Declare a field that says where something lies, which is no part of a training's identity."""
    return field(metadata={"identity": False}, **options)


@dataclass(frozen=True)
class Origin:
    """Pretrained weights by content."""

    content: str
    """Digest of the training that makes them, or of the file."""
    path: str = _place()
    partial: bool = False
    """Whether what does not fit the network keeps its initial values, in place of an error."""


@dataclass(frozen=True)
class Teacher:
    """A trained network to imitate."""

    model: Model
    origin: Origin


@dataclass(frozen=True)
class Training:
    """One training of one network: picklable, comparable, with an identity by content."""

    model: Model
    classes: int
    head: tuple[str, ...]
    """Name prefixes of the head, which pretrained weights leave alone."""
    origin: Origin | None
    """Where the backbone's weights come from; None draws them from the seed."""
    data: Data
    data_content: str
    """Digest of the files of the data set."""
    train: Train
    recipe: Recipe
    phases: tuple[ResolvedPhase, ...]
    seed: int
    teacher: Teacher | None = None
    """What the loss terms of the recipe imitate."""
    diagnose: bool = False
    """Whether batch norm is inspected once the training is over."""
    kept_classes: int | None = None
    """Classes of an old classifier that stays, under the new layer; None replaces it."""
    codes: Codes | None = None
    """What a solver fits in place of the phases, its stage by name."""
    data_root: str | None = _place(default=None)
    save_to: str | None = _place(default=None)
    """Where the trained weights go, if anywhere."""

    @cached_property
    def digest(self) -> str:
        """Identity of the training."""
        return digest(self)

    def at(self, seeds: Iterable[int]) -> list[Training]:
        """Return the training at each of `seeds`."""
        digest_at = digest_by(self, "seed")
        return [_known(replace(self, seed=seed), digest_at(seed)) for seed in seeds]

    def saved_to(self, path: Path) -> Training:
        """Return the training that leaves its weights at `path`."""
        return _known(replace(self, save_to=str(path)), self.digest)

    @property
    def task(self) -> Task:
        """What the network is trained for."""
        return HEADS[self.model.head].task if self.model.head else "classification"

    @property
    def located_data(self) -> Data:
        """The data section with the folder it is read from."""
        return self.data.model_copy(update={"root": self.data_root})


def _known(training: Training, digest: str) -> Training:
    """Return a training whose digest is known, so that a plan of thousands need not work each out from nothing."""
    vars(training)["digest"] = digest  # where `cached_property` keeps it
    return training
