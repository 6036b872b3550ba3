"""Primary contrasts: the few effects a study is made to judge, named before its data."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from harness.spec.section import Section

Kind = Literal[
    "one_in", "leave_one_out", "step", "main", "interaction", "shapley", "combined", "synergy", "policy", "scenario"
]
Names = str | Annotated[tuple[str, ...], Field(min_length=1)]


class Wanted(Section):
    """One effect, or several where a key lists several values: the columns of `effects.csv` that name it."""

    kind: Kind | None = None
    """Where it is left out: `one_in` for a trick, `policy` for a policy alone."""
    policy: Names | None = None
    """The policy, or several."""
    trick: Names | None = None
    """The trick, or several; of an interaction of two `a × b`."""
    against: Names | None = None
    """Of a policy: whichever it is held against; where no pair with it is named, the first."""
    scenario: Names | None = None
    """The scenario as reports call it, or several; left out, every one."""
    design: Names | None = None
    """The design that gives the effect, where several do."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.policy is None and self.trick is None:
            raise ValueError("name a policy or a trick")
        return self

    def given(self) -> dict[str, Names]:
        """Return what was written, the kind with it."""
        kind = self.kind or ("one_in" if self.trick is not None else "policy")
        return {"kind": kind, **self.model_dump(exclude_none=True, exclude={"kind"})}

    @property
    def pairs(self) -> Iterator[tuple[str, str]]:
        """Policies that are held against another one by name, each with that one."""
        if self.given()["kind"] == "policy":
            yield from product(_several(self.policy), _several(self.against))


def _several(names: Names | None) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else names or ()


class Primary(Section):
    """The family of primary contrasts, corrected for its size; everything else is exploratory."""

    contrasts: Annotated[tuple[Wanted, ...], Field(min_length=1)]
    bound: Annotated[float, Field(gt=0, lt=1)] | None = None
    """The largest difference of scores on test, a fraction, that makes no difference; None claims no such thing."""
    sd: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Standard deviation of the paired difference of two cells' scores on test, a fraction, for `harness plan`."""
    pilot: str | None = None
    """A `runs.csv` of an earlier study, from which that standard deviation is taken instead."""
    power: Annotated[float, Field(gt=0, lt=1)] = 0.8
    """The probability with which the smallest effect that `harness plan` names would be found."""

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Policies that are held against another one by name, each with that one."""
        return tuple(dict.fromkeys(pair for wanted in self.contrasts for pair in wanted.pairs))

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.sd is not None and self.pilot is not None:
            raise ValueError("give sd or pilot, not both")
        return self
