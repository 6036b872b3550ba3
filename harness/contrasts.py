"""Contrasts: every effect as a weighted sum of cells. Pure functions of which cells there are.

An effect on any metric is `sum(weight * metric(cell))`, paired by whatever the metric is paired by; so a main effect, a
Shapley value and a plain difference are estimated, given an interval and judged in one way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise, product
from math import factorial
from typing import Any

from harness.designs import Built, recognise
from harness.wording import scenario, trick_set

TrickSet = frozenset[str]
Weights = dict[str, float]
"""Cell to its weight; the weights of every contrast sum to 0."""

_CLEAR = 5
"""Resolution from which no two-factor interaction is mixed with a main effect or with another (Box & Hunter 1961)."""


@dataclass(frozen=True)
class Cell:
    """What a contrast needs to know of a cell."""

    name: str
    policy: str
    scenario: str
    tricks: TrickSet
    trick_set: str
    """The name of the trick set, as people read it."""


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
    orders: tuple[Weights, ...] = ()
    """Of a Shapley value from sampled orders: what each order says; the weights are their mean."""
    share_of_orders: float = 0.0
    """Which share of all orders those are."""


@dataclass(frozen=True)
class _Group:
    """The cells of one policy in one scenario, and the designs they were asked for by."""

    policy: str
    scenario: str
    cells: Mapping[TrickSet, Cell]
    designs: Sequence[Built]

    def has(self, *sets: TrickSet) -> bool:
        return all(tricks in self.cells for tricks in sets)

    def name(self, tricks: TrickSet) -> str:
        return self.cells[tricks].trick_set

    def weights(self, by_set: Mapping[TrickSet, float]) -> Weights:
        return {self.cells[tricks].name: weight for tricks, weight in by_set.items() if weight}

    def contrast(self, kind: str, trick: str, against: str, design: str, by_set: Mapping[TrickSet, float]) -> Contrast:
        return Contrast(kind, self.policy, trick, against, self.scenario, design, self.weights(by_set))


NONE: TrickSet = frozenset()


def contrasts(cells: Sequence[Cell], designs: Callable[[str, str], Sequence[Built]]) -> list[Contrast]:
    """Return every contrast that `cells` allow, scenario by scenario and policy by policy.

    `designs` returns the designs of a policy in a scenario. Policies are held against the first, scenarios too.
    """
    found: dict[tuple[str, str], dict[TrickSet, Cell]] = {}
    for cell in cells:
        found.setdefault((cell.policy, cell.scenario), {})[cell.tricks] = cell
    groups = [_Group(*key, sets, designs(*key)) for key, sets in found.items()]
    within = {id(group): [contrast for kind in _WITHIN for contrast in kind(group)] for group in groups}
    result: list[Contrast] = []
    for group in groups:
        here = [other for other in groups if other.scenario == group.scenario]
        there = next(other for other in groups if other.policy == group.policy)
        result += _policy(group, here)
        result += within[id(group)]
        if group is not here[0]:
            result += _crossed(within[id(group)], within[id(here[0])], here[0].policy)
        if group is not there:
            result += _crossed(within[id(group)], within[id(there)], there.scenario)
    return result


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
        )
        for row in plan["cells"]
    ]
    told: dict[tuple[str, str], list[Built]] = {}
    for row in plan.get("designs", ()):
        sets, orders = (tuple(map(tuple, row[key])) for key in ("sets", "orders"))
        built = Built(row["kind"], tuple(row["factors"]), sets, orders, row["resolution"])
        for policy, levels in product(row["policies"], row["levels"]):
            told.setdefault((policy, scenario(levels)), []).append(built)

    def designs(policy: str, place: str) -> Sequence[Built]:
        sets = [tuple(cell.tricks) for cell in cells if (cell.policy, cell.scenario) == (policy, place)]
        return told.get((policy, place)) or recognise(sets, [*plan["tricks"]])

    return contrasts(cells, designs)


def _policy(group: _Group, here: Sequence[_Group]) -> Iterator[Contrast]:
    """A policy without tricks against the first policy without tricks."""
    first = next((other for other in here if other.has(NONE)), group)
    if group is not first and group.has(NONE):
        weights = {group.cells[NONE].name: 1.0, first.cells[NONE].name: -1.0}
        yield Contrast("policy", group.policy, "", first.policy, group.scenario, "", weights)


def _crossed(ours: Sequence[Contrast], theirs: Sequence[Contrast], against: str) -> Iterator[Contrast]:
    """What each trick does here minus what it does there: does its worth depend on policy or scenario?"""
    kinds = ("one_in", "combined", "main")
    there = {(c.kind, c.trick, c.design): c for c in theirs}
    for contrast in ours:
        other = there.get((contrast.kind, contrast.trick, contrast.design))
        if other and contrast.kind in kinds:
            yield replace(
                contrast, kind="interaction", against=against, weights=_sum(contrast.weights, other.weights, -1)
            )


def _alone(group: _Group) -> Iterator[Contrast]:
    """Each trick against no trick."""
    if group.has(NONE):
        for tricks in group.cells:
            if len(tricks) == 1:
                (trick,) = tricks
                yield group.contrast("one_in", trick, group.name(NONE), "one_in", {tricks: 1, NONE: -1})


def _together(group: _Group) -> Iterator[Contrast]:
    """Several tricks against none, and how much more that is than the sum of each alone."""
    for tricks, design in _tops(group).items():
        if not group.has(NONE):
            continue
        name = group.name(tricks)
        yield group.contrast("combined", name, group.name(NONE), design, {tricks: 1, NONE: -1})
        singles = [frozenset({trick}) for trick in tricks]
        if group.has(*singles):
            by_set = {tricks: 1.0, NONE: len(singles) - 1.0, **dict.fromkeys(singles, -1.0)}
            yield group.contrast("synergy", name, "the sum of each alone", design, by_set)


def _left_out(group: _Group) -> Iterator[Contrast]:
    """All tricks against all but one: what it is worth in the presence of the others."""
    for tricks, design in _tops(group).items():
        if design == "list":
            continue
        for trick in _ordered(group, tricks):
            rest = tricks - {trick}
            if group.has(rest) and rest:
                yield group.contrast("leave_one_out", trick, group.name(rest), design, {tricks: 1, rest: -1})


def _steps(group: _Group) -> Iterator[Contrast]:
    """Tricks stacked in an order: what each adds to those before it."""
    seen = set()
    for design in group.designs:
        for order in design.orders:
            for before, after in pairwise(_prefixes(order)):
                (trick,) = after - before
                if group.has(before, after) and (len(design.orders) == 1 or (before, after) not in seen):
                    seen.add((before, after))
                    named = f"cumulative: {' > '.join(order)}"
                    yield group.contrast("step", trick, group.name(before), named, {after: 1, before: -1})


def _factorial(group: _Group) -> Iterator[Contrast]:
    """Main effects, averaged over the other tricks on and off, and two-factor interactions where they are clear.

    In a full factorial a main effect is a Banzhaf value, not a Shapley value: it weighs every set of the others alike.
    """
    for design in _crossings(group):
        on = {trick: {tricks: 1.0 if trick in tricks else -1.0 for tricks in _sets(design)} for trick in design.factors}
        runs = len(design.sets)
        for trick, sign in on.items():
            by_set = {tricks: 2 * s / runs for tricks, s in sign.items()}
            yield group.contrast("main", trick, "", design.kind, by_set)
        if _resolution(design) < _CLEAR:
            continue
        for one, other in combinations(design.factors, 2):
            # The effect of one where the other is on minus where it is off: each a mean over a quarter of the runs.
            by_set = {tricks: 4 * on[one][tricks] * on[other][tricks] / runs for tricks in _sets(design)}
            yield group.contrast("interaction", f"{one} × {other}", "", design.kind, by_set)


def _pairs(group: _Group) -> Iterator[Contrast]:
    """Two tricks together against the sum of each alone, without any other trick."""
    for design in group.designs:
        if design.kind != "pairs":
            continue
        for one, other in combinations(design.factors, 2):
            both, a, b = frozenset({one, other}), frozenset({one}), frozenset({other})
            if group.has(both, a, b, NONE):
                by_set = {both: 1.0, a: -1.0, b: -1.0, NONE: 1.0}
                yield group.contrast("interaction", f"{one} × {other}", "", "pairs", by_set)


def _shapley(group: _Group) -> Iterator[Contrast]:
    """What a trick adds, averaged over every order of stacking (Shapley 1953)."""
    for design in group.designs:
        if len(design.orders) > 1:
            yield from _shapley_of_orders(group, design)
    for design in _crossings(group):
        if design.kind == "factorial":
            for trick in design.factors:
                yield group.contrast("shapley", trick, "", "factorial", _shapley_weights(design, trick))
        elif _resolution(design) >= _CLEAR:
            # The game of the fitted second-order model, v(S) = b0 + sum b_i + sum b_ij, gives each trick
            # b_i + sum_j b_ij / 2, which is its main effect.
            for trick in design.factors:
                by_set = {tricks: (2 if trick in tricks else -2) / len(design.sets) for tricks in _sets(design)}
                yield group.contrast("shapley", trick, "", "fractional: second-order model", by_set)


def _shapley_weights(design: Built, trick: str) -> dict[TrickSet, float]:
    """Return the weight of every set of a full factorial in the Shapley value of a trick."""
    k = len(design.factors)

    def share(size: int) -> float:
        return factorial(size) * factorial(k - size - 1) / factorial(k)

    return {s: share(len(s) - 1) if trick in s else -share(len(s)) for s in _sets(design)}


def _shapley_of_orders(group: _Group, design: Built) -> Iterator[Contrast]:
    orders = [order for order in design.orders if group.has(*_prefixes(order))]
    if not orders:
        return
    whole = frozenset(orders[0])
    orders = [order for order in orders if frozenset(order) == whole]
    share = len(set(orders)) / factorial(len(whole))
    for trick in _ordered(group, whole):
        each = []
        for order in orders:
            before = frozenset(order[: order.index(trick)])
            each.append(group.weights({before | {trick}: 1.0, before: -1.0}))
        mean: Weights = {}
        for weights in each:
            mean = _sum(mean, weights, 1 / len(each))
        found = group.contrast("shapley", trick, "", f"cumulative: {len(orders)} orders", {})
        yield replace(found, weights=mean, orders=tuple(each), share_of_orders=share)


_WITHIN: tuple[Callable[[_Group], Iterator[Contrast]], ...] = (
    _alone,
    _together,
    _left_out,
    _steps,
    _factorial,
    _pairs,
    _shapley,
)


def _tops(group: _Group) -> dict[TrickSet, str]:
    """Return the sets that a design looks at as a whole, each with the first design it is of."""
    tops: dict[TrickSet, str] = {}
    for design in group.designs:
        whole = [frozenset(design.factors)] if design.kind not in ("pairs", "one_in", "list") else []
        for tricks in _sets(design) if design.kind == "list" else whole:
            if len(tricks) > 1 and group.has(tricks):
                tops.setdefault(tricks, design.kind)
    return tops


def _crossings(group: _Group) -> list[Built]:
    """Return the factorials and fractions of which every cell is there."""
    kinds = ("factorial", "fractional")
    return [d for d in group.designs if d.kind in kinds and d.factors and group.has(*_sets(d))]


def _resolution(design: Built) -> int:
    return _CLEAR if design.resolution is None else design.resolution


def _sets(design: Built) -> list[TrickSet]:
    return [frozenset(tricks) for tricks in design.sets]


def _prefixes(order: Sequence[str]) -> list[TrickSet]:
    return [frozenset(order[:length]) for length in range(len(order) + 1)]


def _ordered(group: _Group, tricks: TrickSet) -> list[str]:
    """Return the tricks of a set in the order of the designs' factors."""
    known = dict.fromkeys(label for design in group.designs for label in design.factors)
    return [label for label in known if label in tricks]


def _sum(ours: Weights, theirs: Weights, factor: float) -> Weights:
    total = dict(ours)
    for cell, weight in theirs.items():
        total[cell] = total.get(cell, 0.0) + factor * weight
    return {cell: weight for cell, weight in total.items() if abs(weight) > 1e-15}
