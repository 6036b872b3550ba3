"""Designs: which sets of tricks are tried. Pure functions of the labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, combinations, islice, permutations
from math import factorial as count_orders
from typing import Any

from harness import fractions
from harness.fractions import roman
from harness.seeds import stream
from harness.spec import DesignOf, Fraction, RandomOrders
from harness.wording import some

TrickSet = tuple[str, ...]
"""Labels in the order of the spec; the empty set is the baseline."""
_MOST_CHAINS = 1000


@dataclass(frozen=True)
class Built:
    """One design over the tricks that can run."""

    kind: str
    factors: tuple[str, ...]
    sets: tuple[TrickSet, ...]
    orders: tuple[tuple[str, ...], ...] = ()
    """Of a cumulative design: the orders in which tricks are stacked."""
    resolution: int | None = None
    """Of a fraction; None where every effect is told from every other, or the design is not meant for that."""
    aliases: tuple[str, ...] = ()
    """What a fraction cannot tell apart, as lines."""
    note: str = ""
    sampled: bool = False
    """Whether the orders were drawn at random: only then are they a sample of all orders."""


def one_in(labels: Sequence[str]) -> list[TrickSet]:
    """The baseline, and each trick alone."""
    return [(), *((label,) for label in labels)]


def everything(labels: Sequence[str]) -> list[TrickSet]:
    """The baseline, and all tricks together."""
    return [(), tuple(labels)]


def leave_one_out(labels: Sequence[str]) -> list[TrickSet]:
    """The baseline, all tricks together, and all but each."""
    return [*everything(labels), *(tuple(other for other in labels if other != label) for label in labels)]


def pairs(labels: Sequence[str]) -> list[TrickSet]:
    """The baseline, each trick alone, and every two together."""
    return [*one_in(labels), *combinations(labels, 2)]


def factorial(labels: Sequence[str]) -> list[TrickSet]:
    """Every set of tricks, the smaller ones first."""
    return list(chain.from_iterable(combinations(labels, size) for size in range(len(labels) + 1)))


_PLAIN: dict[str, Callable[[Sequence[str]], list[TrickSet]]] = {
    "one_in": one_in,
    "all": everything,
    "leave_one_out": leave_one_out,
    "pairs": pairs,
    "factorial": factorial,
}


def union(designs: Iterable[Built]) -> list[TrickSet]:
    """Return the distinct trick sets of designs, in order."""
    return list(dict.fromkeys(chain.from_iterable(design.sets for design in designs)))


def build(designs: Sequence[str | DesignOf], labels: Sequence[str], left: Sequence[str] = ()) -> tuple[Built, ...]:
    """Return the designs of a spec over the tricks in `labels`.

    A trick that is not among them is no factor: a row that names it is tried without it. `left` are tricks of the
    study that are not, so that a design can say what became of it for that reason. Raises ValueError for a
    Plackett–Burman design of a size that cannot be built.
    """
    return tuple(_build(design, labels, left) for design in designs)


def _build(design: str | DesignOf, labels: Sequence[str], left: Sequence[str]) -> Built:
    kind: str
    given: Any
    kind, given = (design, None) if isinstance(design, str) else design.chosen
    if kind in _PLAIN:
        factors = _among(labels, given)
        return Built(kind, factors, tuple(dict.fromkeys(_PLAIN[kind](factors))))
    if kind == "list":
        rows = dict.fromkeys([(), *(_among(labels, row) for row in given)])
        return Built(kind, _among(labels, chain.from_iterable(rows)), tuple(rows))
    if kind == "fractional":
        return _fractional(given, _among(labels, given.tricks), _among(left, given.tricks))
    if isinstance(given, RandomOrders):
        factors = _among(labels, given.tricks)
        orders = random_orders(factors, given.orders, given.seed)
        note = "" if len(orders) == given.orders else f"{given.orders} orders are asked; these are all there are"
        return replace(_cumulative(labels, orders), note=note, sampled=True)
    written = [tuple(labels)] if given is None else [tuple(x for x in order if x in labels) for order in given]
    return _cumulative(labels, written)


def _among(labels: Sequence[str], chosen: Iterable[str] | None) -> TrickSet:
    """Return those of `labels` that are chosen, in their own order; all where nothing is said."""
    wanted = None if chosen is None else set(chosen)
    return tuple(label for label in labels if wanted is None or label in wanted)


def _cumulative(labels: Sequence[str], orders: Iterable[tuple[str, ...]]) -> Built:
    """Return the baseline, then the tricks stacked in each of the orders."""
    distinct = tuple(dict.fromkeys(order for order in orders if order))
    stacks = [_among(labels, order[:size]) for order in distinct for size in range(1, len(order) + 1)]
    factors = _among(labels, chain.from_iterable(distinct))
    return Built("cumulative", factors, tuple(dict.fromkeys([(), *stacks])), distinct)


def random_orders(labels: Sequence[str], number: int, seed: int) -> list[tuple[str, ...]]:
    """Return so many distinct orders, each followed by its reverse; all orders where there are no more.

    The reverse is antithetic: what comes early in one comes late in the other, so averages over both vary less.
    """
    if number >= count_orders(len(labels)):
        return list(permutations(labels))
    generator, orders = stream(seed, "orders of tricks"), dict[tuple[str, ...], None]()
    while len(orders) < number:
        order = tuple(labels[i] for i in generator.permutation(len(labels)))
        if order not in orders:
            orders |= {order: None, order[::-1]: None}
    return list(orders)


def _fractional(given: Fraction, factors: TrickSet, left: TrickSet) -> Built:
    """Return a fraction, or the full factorial where no fraction of so few tricks will do."""
    signs = _signs_of(given, len(factors))
    if signs is None:
        asked = f"resolution {roman(given.resolution)}" if given.resolution else f"{given.runs} runs"
        asked = "Plackett–Burman" if given.plackett_burman else f"a fraction of {asked}"
        note = f"{asked} was asked, and takes every set of so few tricks"
        return Built("factorial", factors, tuple(factorial(factors)), note=note)
    built = _fraction(factors, [_among(factors, _on(factors, row)) for row in signs.tolist()])
    notes = ["Plackett–Burman"] if given.plackett_burman else []
    if given.resolution and built.resolution != given.resolution:
        notes.append(f"resolution {roman(given.resolution)} was asked, and no smaller fraction reaches it")
    before = _signs_of(given, len(factors) + len(left)) if left else None
    if before is not None and (was := fractions.resolution(before)) != built.resolution:
        notes.append(f"with {some(left)} it would be {before.shape[0]} trick sets of resolution {roman(was or 0)}")
    return replace(built, note="; ".join(notes))


def _signs_of(given: Fraction, factors: int) -> fractions.Signs | None:
    """Return a fraction as ±1; None where it takes the full factorial."""
    if factors < 3:
        return None
    if given.plackett_burman:
        return fractions.plackett_burman(factors)
    runs = given.runs or fractions.runs_for(factors, given.resolution or 0)
    return fractions.regular(factors, runs) if runs and runs < 2**factors else None


def _on(factors: Sequence[str], row: Sequence[int]) -> list[str]:
    return [label for label, sign in zip(factors, row, strict=True) if sign > 0]


def _fraction(factors: TrickSet, sets: Iterable[TrickSet]) -> Built:
    """Return an orthogonal fraction, whatever it was built by, with what it cannot tell apart."""
    ordered = tuple(sorted(sets, key=lambda tricks: (len(tricks), [factors.index(label) for label in tricks])))
    signs = _signs(factors, ordered)
    return Built(
        "fractional",
        factors,
        ordered,
        resolution=fractions.resolution(signs),
        aliases=fractions.aliases(signs, factors),
    )


def _signs(factors: Sequence[str], sets: Sequence[TrickSet]) -> fractions.Signs:
    import numpy as np

    return np.array([[1 if label in tricks else -1 for label in factors] for tricks in sets], np.int64)


def run_of(design: Built, ran: Iterable[TrickSet]) -> Built:
    """Return what is left of a design where only the trick sets `ran` can run.

    A factorial or a fraction that lacks some is a mere list: its averages would compare unlike sets.
    """
    there = set(ran)
    kept = tuple(tricks for tricks in design.sets if tricks in there)
    lacking = [" + ".join(tricks) or "baseline" for tricks in design.sets if tricks not in there]
    if not lacking:
        return design
    note = f"but for {some(lacking)} (invalid or excluded)"
    if design.kind not in ("factorial", "fractional"):
        return replace(design, sets=kept, note="; ".join(part for part in (design.note, note) if part))
    whole = "a full factorial" if design.kind == "factorial" else f"a fraction of {len(design.sets)} trick sets"
    return Built("list", design.factors, kept, note=f"{whole} {note}: no main effects can be taken from it")


def recognise(sets: Sequence[TrickSet], factors: Sequence[str]) -> tuple[Built, ...]:
    """Return which designs a bare list of trick sets amounts to, several where it holds several.

    A full factorial holds pairs and every order of stacking, which are not told apart from it.
    """
    there = {_among(factors, tricks) for tricks in sets}
    names = _among(factors, chain.from_iterable(there))
    found: list[Built] = []
    whole = len(names) > 1 and len(there) == 2 ** len(names)
    if whole:
        found.append(Built("factorial", names, tuple(factorial(names))))
    elif len(names) > 2 and fractions.is_orthogonal(_signs(names, [*there])):
        found.append(_fraction(names, there))
    found += _one_change(names, there)
    if not whole:
        found += _pairs_in(names, there)
        leading = _leading(names, there)
        orders = list(islice(_chains((), names, leading), _MOST_CHAINS + 1)) if len(names) > 1 and () in leading else []
        found += [_cumulative(names, orders)] if 0 < len(orders) <= _MOST_CHAINS else []
    left = tuple(tricks for tricks in there if len(tricks) > 1 and tricks not in union(found))
    if left:
        ordered = sorted(left, key=lambda tricks: (len(tricks), [names.index(label) for label in tricks]))
        found.append(Built("all" if left == (names,) else "list", names, tuple(ordered)))
    return tuple(found)


def _one_change(names: TrickSet, there: set[TrickSet]) -> Iterator[Built]:
    """Yield one-in and leave-one-out as far as they are there."""
    alone = [label for label in names if (label,) in there]
    if () in there and alone:
        yield Built("one_in", tuple(alone), tuple(one_in(alone)))
    lacking = [label for label in names if tuple(other for other in names if other != label) in there]
    if len(names) > 1 and names in there and lacking:
        rest = [tuple(other for other in names if other != label) for label in lacking]
        yield Built(
            "leave_one_out", tuple(lacking), tuple(dict.fromkeys([*([()] if () in there else []), names, *rest]))
        )


def _pairs_in(names: TrickSet, there: set[TrickSet]) -> Iterator[Built]:
    """Yield the pairs that are there with both of their tricks alone and the baseline."""
    squares = [pair for pair in combinations(names, 2) if {(), pair, *((label,) for label in pair)} <= there]
    if squares:
        factors = _among(names, chain.from_iterable(squares))
        yield Built("pairs", factors, (*one_in(factors), *squares))


def _leading(names: TrickSet, there: set[TrickSet]) -> set[TrickSet]:
    """Return the sets from which all `names` can be reached trick by trick.

    Following only these, no chain ends before its top: a table of many sets would have more such ends than time allows.
    """
    leading = {names} & there
    for tricks in sorted(there, key=len, reverse=True):
        if any(_among(names, (*tricks, label)) in leading for label in names if label not in tricks):
            leading.add(tricks)
    return leading


def _chains(stack: tuple[str, ...], names: TrickSet, there: set[TrickSet]) -> Iterator[tuple[str, ...]]:
    """Yield every order in which `names` can be stacked upon `stack` trick by trick, each step of it there."""
    if len(stack) == len(names):
        yield stack
    for label in names:
        if label not in stack and _among(names, (*stack, label)) in there:
            yield from _chains((*stack, label), names, there)
