"""Contrasts: every effect as a weighted sum of cells. Pure functions of which cells there are.

An effect on any metric is `sum(weight * metric(cell))`, paired by whatever the metric is paired by; so a main effect, a
Shapley value and a plain difference are estimated, given an interval and judged in one way.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

from harness.contrasts.averages import main_effects, pairs, shapley
from harness.contrasts.differences import alone, left_out, steps, together
from harness.contrasts.group import KEYS, NONE, SOURCES, Cell, Contrast, Group, TrickSet, Weights, key_of
from harness.designs import Built, recognise
from harness.wording import scenario, trick_set

__all__ = ["KEYS", "SOURCES", "Cell", "Contrast", "Weights", "contrasts", "key_of", "of_plan"]
_WITHIN: tuple[Callable[[Group], Iterator[Contrast]], ...] = (
    alone,
    together,
    left_out,
    steps,
    main_effects,
    pairs,
    shapley,
)
_CROSSED = ("one_in", "combined", "main")
"""Kinds whose dependence on policy and scenario is an effect of its own."""


def contrasts(
    cells: Sequence[Cell],
    designs: Callable[[str, str], Sequence[Built]],
    held: Collection[tuple[str, str]] = (),
) -> list[Contrast]:
    """Return every contrast that `cells` allow, scenario by scenario and policy by policy.

    `designs` returns the designs of a policy in a scenario. Policies are held against the first, the first of a pair in
    `held` against its second too; scenarios against that which differs by one axis alone, at its first level.
    """
    found: dict[tuple[str, str], dict[TrickSet, Cell]] = {}
    for cell in cells:
        found.setdefault((cell.policy, cell.scenario), {})[cell.tricks] = cell
    groups = [Group(*key, sets, list(dict.fromkeys(designs(*key)))) for key, sets in found.items()]
    within = {
        (group.policy, group.scenario): [contrast for kind in _WITHIN for contrast in kind(group)] for group in groups
    }
    result: list[Contrast] = []
    for group in groups:
        ours = within[group.policy, group.scenario]
        here = [other for other in groups if other.scenario == group.scenario]
        there = _references(group, [other for other in groups if other.policy == group.policy])
        result += [*_policy(group, here, held), *_scenarios(group, there), *ours]
        for first, name in ((here[0], here[0].policy), *((other, other.scenario) for other in there)):
            if first is not group:
                result += _crossed(group, ours, first, within[first.policy, first.scenario], name)
    once: dict[tuple[str, ...], Contrast] = {}
    for contrast in result:
        once.setdefault(key_of(contrast), contrast)  # what several designs look at alike is one effect
    return [*once.values()]


def of_plan(plan: Mapping[str, Any]) -> list[Contrast]:
    """Return the contrasts of a plan as `summary.summarise` has it.

    A plan that tells no designs (one of somebody else's table, or kept by an earlier version) has those that its trick
    sets amount to.
    """
    cells = [
        Cell(
            row["cell"],
            row["policy"],
            scenario(row.get("levels", {})),
            frozenset(row["tricks"]),
            trick_set(row["cell"]),
            tuple(row.get("levels", {}).items()),
            row.get("tested_on", ""),
        )
        for row in plan["cells"]
    ]
    told: dict[tuple[str, str], list[Built]] = {}
    for row in plan.get("designs", ()):
        sets, orders = (tuple(map(tuple, row[key])) for key in ("sets", "orders"))
        sampled = row.get("sampled", False)
        built = Built(row["kind"], tuple(row["factors"]), sets, orders, row["resolution"], sampled=sampled)
        for policy, levels in product(row["policies"], row["levels"]):
            told.setdefault((policy, scenario(levels)), []).append(built)

    def designs(policy: str, place: str) -> Sequence[Built]:
        sets = [tuple(cell.tricks) for cell in cells if (cell.policy, cell.scenario) == (policy, place)]
        return told.get((policy, place)) or recognise(sets, [*plan["tricks"]])

    return contrasts(cells, designs, {(policy, against) for policy, against in plan.get("held", ())})


def _references(group: Group, alike: Sequence[Group]) -> list[Group]:
    """Return the scenarios of a policy that differ from its own by one axis, which is at its first level there."""
    first = {axis: level for other in reversed(alike) for axis, level in other.levels.items()}
    wanted = [group.levels | {axis: level} for axis, level in first.items() if group.levels[axis] != level]
    return [other for levels in wanted for other in alike if other.levels == levels]


def _policy(group: Group, here: Sequence[Group], held: Collection[tuple[str, str]]) -> Iterator[Contrast]:
    """A policy without tricks against the first policy without tricks, and against those it is to be held against."""
    plain = [other for other in here if other.has(NONE)]
    for number, other in enumerate(plain):
        wanted = number == 0 or (group.policy, other.policy) in held
        if wanted and group is not other and group.has(NONE):
            weights = {group.cells[NONE].name: 1.0, other.cells[NONE].name: -1.0}
            yield Contrast("policy", group.policy, "", other.policy, group.scenario, "", weights)


def _scenarios(group: Group, there: Sequence[Group]) -> Iterator[Contrast]:
    """A policy without tricks in one scenario against itself in another, where the test images are the same.

    Not where the two differ by their source checkpoint, of which one is as good as the other.
    """
    for other in there:
        if group.levels.get(SOURCES) == other.levels.get(SOURCES) and group.has(NONE) and other.has(NONE):
            ours, theirs = group.cells[NONE], other.cells[NONE]
            if ours.tested_on and ours.tested_on == theirs.tested_on:
                weights = {ours.name: 1.0, theirs.name: -1.0}
                yield Contrast("scenario", group.policy, "", other.scenario, group.scenario, "", weights)


def _crossed(
    group: Group, ours: Sequence[Contrast], first: Group, theirs: Sequence[Contrast], against: str
) -> Iterator[Contrast]:
    """What each trick does in `group` minus what it does in `first`: does its worth depend on policy or scenario?

    Only where both are of the same trick sets: a main effect over other tricks, for one, is another effect.
    """
    there = {(c.kind, c.trick, c.design): c for c in theirs}
    for contrast in ours:
        other = there.get((contrast.kind, contrast.trick, contrast.design))
        if other and contrast.kind in _CROSSED and group.by_set(contrast) == first.by_set(other):
            weights = contrast.weights | {cell: -weight for cell, weight in other.weights.items()}
            yield replace(contrast, kind="interaction", against=against, weights=weights)
