"""Averages over many trick sets: main effects, two-factor interactions and Shapley values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from math import factorial

from harness.contrasts.group import NONE, Contrast, Group, TrickSet, called, prefixes, sets_of
from harness.designs import Built

_CLEAR = 5
"""Resolution from which no two-factor interaction is mixed with a main effect or with another (Box & Hunter 1961)."""


def main_effects(group: Group) -> Iterator[Contrast]:
    """Main effects, averaged over the other tricks on and off, and two-factor interactions where they are clear.

    In a full factorial a main effect is a Banzhaf value, not a Shapley value: it weighs every set of the others alike.
    """
    crossings = _crossings(group)
    for design in crossings:
        name = called(design, [other for other in crossings if other.kind == design.kind])
        sets = sets_of(design)
        on = {trick: {tricks: 1.0 if trick in tricks else -1.0 for tricks in sets} for trick in design.factors}
        runs = len(design.sets)
        for trick, sign in on.items():
            by_set = {tricks: 2 * s / runs for tricks, s in sign.items()}
            yield group.contrast("main", trick, "", name, by_set)
        if _resolution(design) < _CLEAR:
            continue
        for one, other in combinations(design.factors, 2):
            # The effect of one where the other is on minus where it is off: each a mean over a quarter of the runs.
            by_set = {tricks: 4 * on[one][tricks] * on[other][tricks] / runs for tricks in sets}
            yield group.contrast("interaction", f"{one} × {other}", "", name, by_set)


def pairs(group: Group) -> Iterator[Contrast]:
    """Two tricks together against the sum of each alone, without any other trick."""
    for design in group.designs:
        if design.kind != "pairs":
            continue
        for one, other in combinations(design.factors, 2):
            both, a, b = frozenset({one, other}), frozenset({one}), frozenset({other})
            if group.has(both, a, b, NONE):
                by_set = {both: 1.0, a: -1.0, b: -1.0, NONE: 1.0}
                yield group.contrast("interaction", f"{one} × {other}", "", "pairs", by_set)


def shapley(group: Group) -> Iterator[Contrast]:
    """What a trick adds, averaged over every order of stacking (Shapley 1953)."""
    stacked = [design for design in group.designs if len(design.orders) > 1]
    for design in stacked:
        yield from _shapley_of_orders(group, design, called(design, stacked))
    crossings = [design for design in _crossings(group) if _resolution(design) >= _CLEAR]
    for design in crossings:
        name = called(design, [other for other in crossings if other.kind == design.kind])
        for trick in design.factors:
            if design.kind == "factorial":
                yield group.contrast("shapley", trick, "", name, _shapley_weights(design, trick))
                continue
            # The game of the fitted second-order model, v(S) = b0 + sum b_i + sum b_ij, gives each trick
            # b_i + sum_j b_ij / 2, which is its main effect.
            by_set = {tricks: (2 if trick in tricks else -2) / len(design.sets) for tricks in sets_of(design)}
            yield group.contrast("shapley", trick, "", f"{name}: second-order model", by_set)


def _shapley_weights(design: Built, trick: str) -> dict[TrickSet, float]:
    """Return the weight of every set of a full factorial in the Shapley value of a trick."""
    k = len(design.factors)

    def share(size: int) -> float:
        return factorial(size) * factorial(k - size - 1) / factorial(k)

    return {s: share(len(s) - 1) if trick in s else -share(len(s)) for s in sets_of(design)}


def _shapley_of_orders(group: Group, design: Built, name: str) -> Iterator[Contrast]:
    """Yield the means over all orders, or a sample of them; orders chosen by hand, or the rest of some, are none."""
    orders, whole = design.orders, frozenset(design.factors)
    share = len(orders) / factorial(len(whole))
    if not design.sampled and share < 1:
        return
    if not all(frozenset(order) == whole and group.has(*prefixes(order)) for order in orders):
        return
    # An order and its reverse are drawn as one, so that the two are no independent draws.
    paired = all(order[::-1] in orders for order in orders)
    draws = [(order, order[::-1]) for order in orders if order < order[::-1]] if paired else [(o,) for o in orders]
    found = Contrast("shapley", group.policy, "", "", group.scenario, f"{name}: {len(orders)} orders", {})
    for trick in group.ordered(whole):
        each = tuple(group.weights(_added(trick, draw)) for draw in draws)
        weights = group.weights(_added(trick, orders))
        yield replace(found, trick=trick, weights=weights, draws=each, share_of_orders=share)


def _added(trick: str, orders: Sequence[tuple[str, ...]]) -> dict[TrickSet, float]:
    """Return the weights of what a trick adds to those before it, the mean over orders."""
    counts = Counter[TrickSet]()
    for order in orders:
        before = frozenset(order[: order.index(trick)])
        counts[before | {trick}] += 1
        counts[before] -= 1
    return {tricks: count / len(orders) for tricks, count in counts.items()}


def _crossings(group: Group) -> list[Built]:
    """Return the factorials and fractions of which every cell is there."""
    kinds = ("factorial", "fractional")
    return [d for d in group.designs if d.kind in kinds and d.factors and group.has(*sets_of(d))]


def _resolution(design: Built) -> int:
    return _CLEAR if design.resolution is None else design.resolution
