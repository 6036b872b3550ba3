"""Differences between trick sets: a trick alone, several together, one left out, a stack step by step."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from harness.contrasts.group import NONE, Contrast, Group, TrickSet, prefixes, sets_of


def alone(group: Group) -> Iterator[Contrast]:
    """Each trick against no trick."""
    if group.has(NONE):
        for tricks in group.cells:
            if len(tricks) == 1:
                (trick,) = tricks
                yield group.contrast("one_in", trick, group.name(NONE), "one_in", {tricks: 1, NONE: -1})


def together(group: Group) -> Iterator[Contrast]:
    """Several tricks against none, and how much more that is than the sum of each alone."""
    for tricks, design in _tops(group).items():
        if not group.has(NONE):
            continue
        name = group.name(tricks)
        yield group.contrast("combined", name, group.name(NONE), design, {tricks: 1, NONE: -1})
        singles = [frozenset({trick}) for trick in group.ordered(tricks)]
        if group.has(*singles):
            by_set = {tricks: 1.0, NONE: len(singles) - 1.0, **dict.fromkeys(singles, -1.0)}
            yield group.contrast("synergy", name, "the sum of each alone", design, by_set)


def left_out(group: Group) -> Iterator[Contrast]:
    """All tricks against all but one: what it is worth in the presence of the others."""
    for tricks, design in _tops(group).items():
        if design == "list":
            continue  # no design asks what one is worth on top of the others
        for trick in group.ordered(tricks):
            rest = tricks - {trick}
            if group.has(rest) and rest:
                weights = {tricks: 1.0, rest: -1.0}
                yield group.contrast("leave_one_out", trick, group.name(rest), "leave_one_out", weights)


def steps(group: Group) -> Iterator[Contrast]:
    """Tricks stacked in an order: what each adds to those before it."""
    seen = set()
    for design in group.designs:
        for order in design.orders:
            for before, after in pairwise(prefixes(order)):
                (trick,) = after - before
                if group.has(before, after) and (len(design.orders) == 1 or (before, after) not in seen):
                    seen.add((before, after))
                    named = f"cumulative: {' > '.join(order)}"
                    yield group.contrast("step", trick, group.name(before), named, {after: 1, before: -1})


def _tops(group: Group) -> dict[TrickSet, str]:
    """Return the sets that a design looks at as a whole, each with the first design it is of."""
    tops: dict[TrickSet, str] = {}
    for design in group.designs:
        whole = [frozenset(design.factors)] if design.kind not in ("pairs", "one_in", "list") else []
        for tricks in sets_of(design) if design.kind == "list" else whole:
            if len(tricks) > 1 and group.has(tricks):
                tops.setdefault(tricks, design.kind)
    return tops
