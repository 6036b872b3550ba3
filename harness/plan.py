"""The plan of a study: its cells, what each trains, what they share, what cannot run and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from harness.data import Survey
from harness.designs import Built, TrickSet
from harness.earlier import Prerequisite
from harness.facts import Facts
from harness.family import Family
from harness.judging import Verdict
from harness.spec import Levels
from harness.specfile import Study
from harness.training import Training
from harness.wording import cell_name, set_name


@dataclass(frozen=True)
class Cell:
    """One policy with one trick set, in one scenario."""

    policy: str
    tricks: TrickSet
    all_tricks: TrickSet
    """Those of the whole study, so that a set of nearly all has a short name."""
    levels: Levels = ()

    @property
    def trick_set(self) -> str:
        """The name of the trick set; one of nearly all goes by what it lacks."""
        return set_name(self.tricks, self.all_tricks)

    @property
    def axes(self) -> list[str]:
        """The names of the axes."""
        return [axis for axis, _ in self.levels]

    @property
    def scenario(self) -> str:
        """The levels of the axes; empty where there is no axis."""
        return ", ".join(f"{axis} {level}" for axis, level in self.levels)

    @property
    def name(self) -> str:
        """The name people read, without the seed."""
        return cell_name(self.policy, self.tricks, self.all_tricks, self.scenario)


@dataclass(frozen=True)
class Replicate:
    """One cell at one seed, and the training it needs."""

    cell: Cell
    seed: int
    training: Training
    program: str
    """Digest of the training at the first seed: replicates that differ by seed alone have one program."""
    data: Survey
    planned: str = ""
    """Digest of the training that was planned, where it did not fit its device and this one stands for it."""

    @property
    def name(self) -> str:
        """The name people read."""
        return f"{self.cell.name} | seed {self.seed}"

    def in_smaller_parts(self) -> Replicate | None:
        """Return it with batches in twice as many parts, which is another training; None where they are too small."""
        train = self.training.train
        if train.records_graphs or 4 * train.accumulate > train.batch_size:  # batch norm wants more than one image
            return None
        made = replace(self.training, train=train.model_copy(update={"accumulate": 2 * train.accumulate}))
        return replace(self, training=made, program=made.digest, planned=self.planned or self.training.digest)


@dataclass(frozen=True)
class Judgement:
    """What can be said of a cell before it runs."""

    cell: Cell
    verdict: Verdict
    reason: str = ""


@dataclass(frozen=True)
class Designed:
    """The designs of one policy in one scenario, over the tricks that can run there."""

    policy: str
    levels: Levels
    designs: tuple[Built, ...]


@dataclass(frozen=True)
class Candidate:
    """One learning rate tried for one cell at one tuning seed."""

    cell: Cell
    lr: float
    seed: int
    training: Training
    data: Survey


@dataclass(frozen=True)
class Choice:
    """The learning rate of a cell, and what it was chosen by."""

    lr: float
    val: tuple[tuple[float, float], ...]
    """Each rate with its mean score on validation over the tuning seeds; NaN where all diverged."""

    @property
    def at_edge(self) -> bool:
        """Whether the best rate ends the list, so that a better one may lie beyond it."""
        return self.lr in (self.val[0][0], self.val[-1][0])


@dataclass(frozen=True)
class Plan:
    """All that a spec asks for."""

    study: Study
    replicates: tuple[Replicate, ...]
    judgements: tuple[Judgement, ...]
    """One for each cell asked for, in order; invalid and excluded ones have no replicates."""
    designs: tuple[Designed, ...]
    """One for each policy that can run and scenario."""
    prerequisites: tuple[Prerequisite, ...]
    """What is trained once, before the replicates, in an order in which each finds what it needs."""
    candidates: tuple[Candidate, ...]
    """What is tried to choose learning rates; none where the spec tunes nothing."""
    choices: Mapping[str, Choice]
    """Learning rates chosen so far, by name of cell."""
    family: Family | None = None
    """The primary contrasts."""
    facts: Facts = field(default_factory=Facts, compare=False, repr=False)
    """What was found out for it."""

    @property
    def trainings(self) -> dict[str, Training]:
        """The distinct trainings of the replicates by digest, in order."""
        return {r.training.digest: r.training for r in self.replicates}

    @property
    def probed(self) -> list[tuple[str, str, Training]]:
        """What the probe of speed measures, if any: name, program and training of each cell, and of each teacher."""
        if self.study.spec.throughput is None:
            return []
        cells = [(cell.name, found.program, found.training) for cell, found in self.first.items()]
        teachers = {p.program: p for p in self.prerequisites if p.role == "teacher"}
        return cells + [(f"teacher {p.training.model.name}", program, p.at_seed_0) for program, p in teachers.items()]

    @property
    def programs(self) -> dict[Cell, str]:
        """The cells that run, in order, each with its program."""
        return {cell: replicate.program for cell, replicate in self.first.items()}

    @cached_property
    def first(self) -> dict[Cell, Replicate]:
        """The cells that run, in order, each with its first replicate."""
        found = {replicate.cell: replicate for replicate in reversed(self.replicates)}
        return dict(reversed(found.items()))
