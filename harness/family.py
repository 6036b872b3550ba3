"""The family of primary contrasts: those effects that a spec names before its data, to be judged together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.contrasts import KEYS, Contrast, key_of, of_plan
from harness.errors import HarnessError
from harness.wording import some

if TYPE_CHECKING:
    from harness.facts import Facts
    from harness.spec import Primary


@dataclass(frozen=True)
class Family:
    """The primary contrasts of a study."""

    members: tuple[Mapping[str, str], ...]
    """Of each the values of KEYS."""
    bound: float | None = None
    """The largest difference of scores on test that makes no difference; None where none was named."""
    sd: float | None = None
    """Standard deviation of the paired difference of two cells' scores, as far as it is known before the data."""
    scales: tuple[float, ...] = ()
    """Of each member, its standard deviation in that of two cells' difference, if all cells vary independently."""
    power: float = 0.8
    cells: tuple[tuple[str, ...], ...] = ()
    """Of each member, the names of the cells it is computed from."""
    late: bool = False
    """Whether they were named, or changed, when this grid or another had shown one of them at some seed."""


def family_of(primary: Primary | None, plan: Mapping[str, Any], facts: Facts) -> Family | None:
    """Return the family that a spec names among the contrasts of a plan; None where it names none.

    Raises HarnessError where an entry names no contrast, or several, or the pilot cannot be read.
    """
    if primary is None:
        return None
    contrasts = of_plan(plan)
    members: dict[tuple[str, ...], Contrast] = {}
    for number, wanted in enumerate(primary.contrasts):
        lists = {key: value if isinstance(value, tuple) else (value,) for key, value in wanted.given().items()}
        for values in product(*lists.values()):
            found = _find(dict(zip(lists, values, strict=True)), contrasts, number)
            members[key_of(found)] = found
    named = tuple(dict(zip(KEYS, member, strict=True)) for member in members)
    return Family(
        named,
        primary.bound,
        _sd(primary, sorted({cell["policy"] for cell in plan["cells"]}), facts),
        tuple(sqrt(sum(w**2 for w in found.weights.values()) / 2) for found in members.values()),
        primary.power,
        tuple(tuple(found.weights) for found in members.values()),
    )


def _sd(primary: Primary, policies: Sequence[str], facts: Facts) -> float | None:
    """Return the stated standard deviation of a paired difference, or that of a pilot's."""
    if primary.pilot is None:
        return primary.sd
    return facts.sd_of_differences(Path(primary.pilot), policies)


def _find(named: Mapping[str, str], contrasts: Sequence[Contrast], number: int) -> Contrast:
    shown = ", ".join(f"{key} {value!r}" for key, value in named.items())
    left: Sequence[Contrast] = contrasts
    for key, value in named.items():
        kept = [c for c in left if getattr(c, key) == value]
        if not kept:
            legal = some(list(dict.fromkeys(repr(getattr(c, key)) for c in left)), 12)
            raise HarnessError(f"contrast {number + 1}: no effect with {shown}: {key} may be {legal}")
        left = kept
    if len(left) > 1:
        open_keys = [key for key in KEYS if len({getattr(c, key) for c in left}) > 1]
        legal = "; ".join(f"{key}: {some(list(dict.fromkeys(getattr(c, key) for c in left)), 6)}" for key in open_keys)
        raise HarnessError(f"contrast {number + 1}: {len(left)} effects with {shown}; say which ({legal})")
    return left[0]
