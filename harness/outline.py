"""The grid of a plan as lines of text: policies, designs, trick sets and axes, and what is skipped."""

from __future__ import annotations

import textwrap
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from harness.fractions import roman
from harness.wording import NOTHING_FROZEN, some, trick_set

_ALIASES = 6
"""Lines of aliases that are printed of a design at most."""
_SETS = 20
"""Trick sets that are named at most."""
_WIDTH = 110
_INDENT = " " * 13


def grid_lines(facts: dict[str, Any]) -> list[str]:
    """Return policies with their designs and trick sets, and the axes; policies that have the same share a paragraph.

    `facts` is the plan as `summary.summarise` has it.
    """
    groups: dict[tuple[Any, ...], list[str]] = {}
    for policy in facts["policies"]:
        sets = tuple(dict.fromkeys(trick_set(c["cell"]) for c in facts["cells"] if c["policy"] == policy))
        own = tuple(number for number, design in enumerate(facts["designs"]) if policy in design["policies"])
        groups.setdefault((own, sets), []).append(policy)
    lines = []
    for (own, sets), policies in groups.items():
        designs = [facts["designs"][number] for number in own]
        lines += wrapped("Policies   ", ", ".join(policies))
        lines += _design_lines(designs, [*facts["tricks"]], scenarios_of(facts))
        lines += [*wrapped("Trick sets ", _listed(sets) or "(none can run)"), ""]
    for axis, levels in facts["axes"].items():
        lines += wrapped("Axis       ", f"{axis}: {', '.join(levels)}")
    return lines if lines[-1] else lines[:-1]


def frozen_lines(kinds: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return which frozen stages are computed once, and for which cells they are not and why.

    `kinds` are as `summary.reused` has them; nothing is said where nothing is frozen.
    """
    if all(kind["reason"] == NOTHING_FROZEN and not kind["teacher"] for kind in kinds):
        return []
    stages, alone, none = (defaultdict[str, list[str]](list) for _ in range(3))
    for kind in kinds:
        if kind["stages"]:
            stages[", ".join(_until(names, end) for names, end in kind["stages"])] += kind["cells"]
        if kind["reason"]:
            (alone if kind["stages"] else none)[kind["reason"]] += kind["cells"]
    lines = ["", "Frozen stages that are computed once for all trainings that share them (until a share of training):"]
    for what, cells in stages.items():
        lines += [*wrapped("  ", f"{what}:"), *wrapped("    ", some(cells))]
    if taught := [cell for kind in kinds if kind["teacher"] for cell in kind["cells"]]:
        lines += [*wrapped("  ", "the teacher, but its head:"), *wrapped("    ", some(taught))]
    for why, cells in alone.items():
        lines += [*wrapped("  ", f"of these in evaluation alone ({why}):"), *wrapped("    ", some(cells))]
    for why, cells in none.items():
        lines += [*wrapped("  ", f"none ({why}):"), *wrapped("    ", some(cells))]
    return lines


def _until(stages: Sequence[str], end: float) -> str:
    part = stages[0] if len(stages) == 1 else f"{stages[0]} to {stages[-1]}"
    return part if end == 1 else f"{part} until {100 * end:.0f} %"


def led_lines(kinds: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return which leading epochs are trained once for several cells; `kinds` are as `summary.led` has them."""
    if not kinds:
        return []
    lines = ["", "Leading epochs that are trained once, for all trainings that share them:"]
    for kind in kinds:
        part = f"  the first {kind['epochs']} of {kind['of']}, as {kind['leader']} has them: "
        lines += wrapped(part, some(kind["cells"]))
    return lines


def scenarios_of(facts: dict[str, Any]) -> int:
    """Return the number of combinations of the levels of the axes."""
    count = 1
    for levels in facts["axes"].values():
        count *= len(levels)
    return count


def _listed(sets: Sequence[str]) -> str:
    if len(sets) <= _SETS:
        return " · ".join(sets)
    return f"{len(sets)}: {' · '.join(sets[:_SETS])} · and {len(sets) - _SETS} more"


def _design_lines(designs: Sequence[dict[str, Any]], tricks: Sequence[str], scenarios: int) -> list[str]:
    """Return the tricks of a group of policies, and its designs, each with what it cannot tell apart."""
    factors = [trick for trick in tricks if any(trick in design["factors"] for design in designs)]
    if not factors:
        return []
    lines, label = wrapped("Tricks     ", ", ".join(factors)), "Designs    "
    for design in (design for design in designs if design["factors"]):
        lines += wrapped(label, _described(design, factors, scenarios))
        label = " " * len(label)
        shown = design["aliases"][:_ALIASES]
        more = len(design["aliases"]) - len(shown)
        lines += [_INDENT + textwrap.shorten(alias, _WIDTH - len(_INDENT), placeholder=" …") for alias in shown]
        lines += [f"{_INDENT}and {more} more in `harness plan --json`"] if more else []
    return lines


def _described(design: dict[str, Any], factors: Sequence[str], scenarios: int) -> str:
    """Return a design in a line: its kind, factors where not all, trick sets, resolution, orders and note."""
    some_of = f" of {some(design['factors'], 12)}" if design["factors"] != factors else ""
    count = len(design["sets"])
    parts = [f"{design['kind']}{some_of}: {count} trick set{'s'[: count != 1]}"]
    if design["resolution"]:
        clear = "" if design["aliases"] else ", no main effect or interaction of two tricks aliased with another"
        parts.append(f"resolution {roman(design['resolution'])}{clear}")
    orders = [" > ".join(order) for order in design["orders"]]
    parts.append(f"{len(orders)} orders, the first {orders[0]}" if len(orders) > 1 else "".join(orders))
    parts.append(design["note"])
    if len(design["levels"]) < scenarios:
        where = [", ".join(f"{axis} {level}" for axis, level in levels.items()) for levels in design["levels"]]
        parts.append(f"only at {some(where)}")
    return "; ".join(part for part in parts if part)


def reasons(judgements: Sequence[dict[str, Any]]) -> list[str]:
    """Return what is skipped or shared, cells with one verdict and reason on one line."""
    grouped: dict[tuple[str, str], list[str]] = {}
    for judgement in judgements:
        grouped.setdefault((judgement["verdict"], judgement["reason"]), []).append(judgement["cell"])
    lines = []
    for (verdict, reason), cells in grouped.items():
        lines += [*wrapped("  ", f"{verdict}: {reason}"), *wrapped("    ", _listed(cells))]
    return lines


def wrapped(label: str, text: str) -> list[str]:
    """Return `text` in lines, the first of them begun with `label`."""
    return textwrap.wrap(text, _WIDTH, initial_indent=label, subsequent_indent=" " * len(label), break_on_hyphens=False)
