"""What contrasts are made of: cells, the cells of one policy in one scenario, and weights over them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.designs import Built

TrickSet = frozenset[str]
Weights = dict[str, float]
"""Cell to its weight; the weights of every contrast sum to 0."""
NONE: TrickSet = frozenset()
SOURCES = "source_seed"
"""The axis whose levels are source checkpoints, a sample: `weights.pretrain.seed`."""
KEYS = ("kind", "policy", "trick", "against", "scenario", "design")
"""What names a contrast."""


@dataclass(frozen=True)
class Cell:
    """What a contrast needs to know of a cell."""

    name: str
    policy: str
    scenario: str
    tricks: TrickSet
    trick_set: str
    """The name of the trick set, as people read it."""
    levels: tuple[tuple[str, str], ...] = ()
    """The levels of the axes, which make the scenario."""
    tested_on: str = ""
    """What stands for its test images; empty where that is not known."""


@dataclass(frozen=True)
class Contrast:
    """One effect: what it is called and what it is computed from."""

    kind: str
    policy: str
    trick: str
    against: str
    scenario: str
    design: str
    weights: Weights
    draws: tuple[Weights, ...] = ()
    """Of a Shapley value from orders: what each says, or each with its reverse; the weights are their mean."""
    share_of_orders: float = 0.0
    """Which share of all orders those are."""


@dataclass(frozen=True)
class Group:
    """The cells of one policy in one scenario, and the designs they were asked for by."""

    policy: str
    scenario: str
    cells: Mapping[TrickSet, Cell]
    designs: Sequence[Built]

    @property
    def levels(self) -> dict[str, str]:
        """The levels of the axes."""
        return dict(next(iter(self.cells.values())).levels)

    def has(self, *sets: TrickSet) -> bool:
        """Whether there is a cell for each of these."""
        return all(tricks in self.cells for tricks in sets)

    def name(self, tricks: TrickSet) -> str:
        """Return how people read a trick set."""
        return self.cells[tricks].trick_set

    def weights(self, by_set: Mapping[TrickSet, float]) -> Weights:
        """Return weights of trick sets as weights of cells."""
        return {self.cells[tricks].name: weight for tricks, weight in by_set.items() if weight}

    def by_set(self, contrast: Contrast) -> dict[TrickSet, float]:
        """Return the weights of a contrast of this group as weights of trick sets."""
        sets = {cell.name: tricks for tricks, cell in self.cells.items()}
        return {sets[cell]: weight for cell, weight in contrast.weights.items()}

    def contrast(self, kind: str, trick: str, against: str, design: str, by_set: Mapping[TrickSet, float]) -> Contrast:
        """Return a contrast within this group."""
        return Contrast(kind, self.policy, trick, against, self.scenario, design, self.weights(by_set))

    def ordered(self, tricks: TrickSet) -> list[str]:
        """Return the tricks of a set in the order of the designs' factors."""
        known = dict.fromkeys(label for design in self.designs for label in design.factors)
        return [label for label in known if label in tricks]


def key_of(contrast: Contrast) -> tuple[str, ...]:
    """Return the values of KEYS."""
    return tuple(getattr(contrast, key) for key in KEYS)


def sets_of(design: Built) -> list[TrickSet]:
    """Return the trick sets of a design."""
    return [frozenset(tricks) for tricks in design.sets]


def prefixes(order: Sequence[str]) -> list[TrickSet]:
    """Return what is on after each step of stacking, nothing first."""
    return [frozenset(order[:length]) for length in range(len(order) + 1)]


def called(design: Built, alike: Sequence[Built]) -> str:
    """Return the name of a design: its kind, and what else it takes to tell it from those `alike`."""
    if len(alike) < 2:
        return design.kind
    return f"{design.kind} of {', '.join(design.factors)} in {len(design.sets)}"
