"""Designs and constraints: which trick sets a spec asks for, and which cells it leaves out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import factorial
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

from harness import fractions
from harness.errors import unknown
from harness.spec.axes import level_name
from harness.spec.section import Positive, Section

MOST_FACTORS = 12
"""Tricks of a full factorial at most: 4,096 trick sets."""
Labels = Annotated[tuple[str, ...], Field(min_length=1)]
Fault = tuple[tuple[int | str, ...], str]
"""Where in the spec, and what is wrong there."""


class RandomOrders(Section):
    """Random orders of stacking, half of them drawn, each with its reverse."""

    orders: Annotated[int, Field(ge=2, le=1000, multiple_of=2)]
    """How many: an even number."""
    seed: Annotated[int, Field(ge=0)] = 0
    """What they are drawn from."""
    tricks: Labels | None = None
    """None takes all."""


class Fraction(Section):
    """A two-level fraction: exactly one of resolution, runs and Plackett–Burman."""

    resolution: Literal[3, 4, 5] | None = None
    """The smallest fraction of at least this resolution."""
    runs: Positive | None = None
    """The regular fraction of so many trick sets."""
    plackett_burman: Literal[True] | None = None
    """As many trick sets as the next multiple of 4 above the number of tricks."""
    tricks: Labels | None = None
    """None takes all."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if sum(value is not None for value in (self.resolution, self.runs, self.plackett_burman)) != 1:
            raise ValueError("give exactly one of `resolution`, `runs` and `plackett_burman`")
        return self


def _tuples(value: Any) -> Any:
    """Read lists as tuples, which strict checking wants of whatever a function has looked at."""
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _one_order(value: Any) -> Any:
    """Read a list of names as one order."""
    found = _tuples(value)
    flat = isinstance(found, tuple) and found and all(isinstance(item, str) for item in found)
    return (found,) if flat else found


def _by_name(value: Any) -> Any:
    return {value: True} if value == "plackett_burman" else _tuples(value)


def _form(value: Any) -> str:
    return "mapping" if isinstance(value, dict | Section) else "list"


FractionOrName = Annotated[Fraction, BeforeValidator(_by_name)]
Orders = Annotated[
    Annotated[tuple[Labels, ...], Field(min_length=1), Tag("list")] | Annotated[RandomOrders, Tag("mapping")],
    Discriminator(_form),
    BeforeValidator(_one_order),
]


class DesignOf(Section):
    """A design with what it needs to know: exactly one of these; a list of tricks restricts a design to them."""

    one_in: Labels | None = None
    """Each of these tricks by itself."""
    all: Labels | None = None
    """All of these together."""
    leave_one_out: Labels | None = None
    """All of these together, and all but each."""
    pairs: Labels | None = None
    """Each of these by itself, and every two together."""
    factorial: Labels | None = None
    """Every combination of these."""
    fractional: FractionOrName | None = None
    """A fraction of every combination, or `plackett_burman`."""
    cumulative: Orders | None = None
    """An order, several orders, or a number of random ones."""
    list: tuple[tuple[str, ...], ...] | None = None
    """Trick sets written out."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.model_fields_set) != 1 or self.chosen[1] is None:
            raise ValueError(f"give exactly one of {', '.join(type(self).model_fields)}")
        return self

    @property
    def chosen(self) -> tuple[str, Any]:
        """Which design, and what was written for it."""
        (kind,) = self.model_fields_set
        return kind, getattr(self, kind)


Design = Annotated[
    Annotated[Literal["one_in", "all", "leave_one_out", "pairs", "factorial", "cumulative"], Tag("name")]
    | Annotated[DesignOf, Tag("mapping")],
    # One form or the other, so that an error speaks of the form that was written.
    Discriminator(lambda value: "mapping" if isinstance(value, dict | DesignOf) else "name"),
]


def _names(value: Any) -> Any:
    return (value,) if isinstance(value, str) else _tuples(value)


class Exclusion(Section):
    """A condition on cells: all that is written must hold; other keys are axes, each with a level or several."""

    model_config = ConfigDict(extra="allow")

    policy: Annotated[Labels, BeforeValidator(_names)] | None = None
    """One of these policies."""
    tricks: tuple[str, ...] = ()
    """All of these are on."""
    without: tuple[str, ...] = ()
    """All of these are off."""
    about: str = ""
    """Why."""

    @property
    def levels(self) -> dict[str, list[str]]:
        """The axes of the condition, each with the names of the levels at which it holds."""
        return {
            axis: [level_name(value) for value in (given if isinstance(given, list) else [given])]
            for axis, given in (self.model_extra or {}).items()
        }

    @property
    def on_tricks(self) -> bool:
        """Whether it depends on which tricks are on."""
        return bool(self.tricks or self.without)

    def at(self, policy: str, levels: Mapping[str, str]) -> bool:
        """Whether policy and scenario are those it speaks of."""
        here = all(levels[axis] in wanted for axis, wanted in self.levels.items())
        return here and (self.policy is None or policy in self.policy)

    def holds(self, policy: str, tricks: Sequence[str], levels: Mapping[str, str]) -> bool:
        """Whether a cell is one that it speaks of."""
        return self.at(policy, levels) and set(self.tricks) <= set(tricks) and not set(self.without) & set(tricks)

    def __str__(self) -> str:
        """Return the condition as a person reads it."""
        parts = [
            *([f"with {' + '.join(self.tricks)}"] if self.tricks else []),
            *([f"without {' and '.join(self.without)}"] if self.without else []),
            *([f"under {' or '.join(self.policy)}"] if self.policy else []),
            *(f"at {axis} {' or '.join(levels)}" for axis, levels in self.levels.items()),
        ]
        return (", ".join(parts) or "of any kind") + (f" ({self.about})" if self.about else "")


class Requirement(Exclusion):
    """A condition, and the tricks that must be on where it holds."""

    needs: Labels
    """All of these must be on where the condition holds, or the cell is left out."""


def faults(
    designs: Sequence[Any],
    exclude: Sequence[Exclusion],
    require: Sequence[Requirement],
    policies: Sequence[str],
    tricks: Sequence[str],
    axes: Mapping[str, Sequence[str]],
) -> Iterator[Fault]:
    """Yield what is wrong with designs and constraints, given the policies, tricks, axes and levels that there are."""
    for number, design in enumerate(designs):
        kind, given = (design, None) if isinstance(design, str) else design.chosen
        place: tuple[int | str, ...] = ("designs", number) if given is None else ("designs", number, kind)
        yield from _design_faults(place, kind, given, tricks)
    for name, constraints in (("exclude", exclude), ("require", require)):
        for number, constraint in enumerate(constraints):
            yield from _constraint_faults((name, number), constraint, policies, tricks, axes)


def _design_faults(place: tuple[int | str, ...], kind: str, given: Any, tricks: Sequence[str]) -> Iterator[Fault]:
    chosen = given.tricks if isinstance(given, RandomOrders | Fraction) else given
    rows = chosen if kind in ("list", "cumulative") and not isinstance(given, Section) else [chosen]
    for row in rows or ():
        strangers = [label for label in row or () if label not in tricks]
        yield from ((place, unknown("trick in a design", label, tricks)) for label in strangers)
        if strangers:
            return
        if kind != "list" and row and len(set(row)) < len(row):
            yield place, f"a trick is named twice: {', '.join(row)}"
            return
    factors = len(tricks if chosen is None else chosen)
    if kind == "factorial" and factors > MOST_FACTORS:
        yield (
            place,
            (
                f"all combinations of {factors} tricks are {2**factors:,} trick sets; legal: up to {MOST_FACTORS}, "
                "such as {factorial: [a, b, c]}; or take `fractional`"
            ),
        )
    elif isinstance(given, RandomOrders) and given.orders > factorial(factors):
        yield place, f"{given.orders} orders are more than the {factorial(factors)} that {factors} tricks have"
    elif isinstance(given, Fraction):
        yield from ((place, fault) for fault in _fraction_faults(given, factors))


def _fraction_faults(given: Fraction, factors: int) -> Iterator[str]:
    if given.plackett_burman:
        try:
            fractions.check_plackett_burman(factors)
        except ValueError as error:
            yield str(error)
    elif factors > fractions.MOST:
        yield (
            f"no fraction of {factors} tricks is known here by its resolution or runs; legal: up to {fractions.MOST} "
            "tricks, or `fractional: plackett_burman`"
        )
    elif given.runs is not None and given.runs not in (legal := [*fractions.runs_of(factors), 2**factors]):
        yield f"no fraction of {factors} tricks has {given.runs} runs; legal: {', '.join(map(str, legal))}"


def _constraint_faults(
    place: tuple[int | str, ...],
    constraint: Exclusion,
    policies: Sequence[str],
    tricks: Sequence[str],
    axes: Mapping[str, Sequence[str]],
) -> Iterator[Fault]:
    keys = [key for key in type(constraint).model_fields if key not in ("about", "needs")]
    if place[0] == "exclude" and not constraint.model_fields_set - {"about"} and not constraint.levels:
        yield place, f"without a condition it would drop every cell; give any of {', '.join([*keys, *axes])}"
    named = {key: getattr(constraint, key, None) or () for key in ("policy", "tricks", "without", "needs")}
    for key, labels in named.items():
        what, legal = ("policy", policies) if key == "policy" else ("trick", tricks)
        yield from (((*place, key), unknown(what, label, legal)) for label in labels if label not in legal)
    for axis, levels in constraint.levels.items():
        if axis not in axes:
            yield (*place, axis), unknown("key or axis", axis, [*type(constraint).model_fields, *axes])
            continue
        if not levels:
            yield (*place, axis), f"name a level; legal: {', '.join(axes[axis])}"
        yield from (
            ((*place, axis), unknown(f"level of {axis}", level, axes[axis]))
            for level in levels
            if level not in axes[axis]
        )
