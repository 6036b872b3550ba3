"""How numbers and names read in figures, tables, sentences and the terminal, so that they read alike everywhere."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

NOTHING = "–"
"""What stands where there is no number."""


def trick_set(cell: str) -> str:
    """Return the trick set in a cell's name, such as `baseline`, `cosine` or `all 5 together`."""
    return cell.split(" | ")[1]


def scenario(levels: Mapping[Any, Any]) -> str:
    """Return the levels of the axes, in their order; empty where there is no axis."""
    return ", ".join(f"{axis} {level}" for axis, level in levels.items())


def named(row: Mapping[Any, Any]) -> str:
    """Return an effect as a phrase, such as `mixup under head` or `mixup × cosine under full at size 32`."""
    where = f" at {row['scenario']}" if row["scenario"] else ""
    if row["kind"] == "policy":
        return f"{row['policy']} against {row['against']}{where}"
    under = f" under {row['policy']}{where}"
    if row["kind"] == "interaction" and row["against"]:
        return f"{row['trick']}{under} rather than {row['against']}"
    before = {"main": "main effect of ", "shapley": "Shapley value of "}.get(row["kind"], "")
    after = {"leave_one_out": "all others", "step": row["against"]}.get(row["kind"], "")
    beyond = " beyond the sum of each" if row["kind"] == "synergy" else ""
    return f"{before}{row['trick']}{' on top of ' if after else ''}{after}{beyond}{under}"


def points(fraction: float) -> str:
    """Return a difference of top-1, a fraction, in signed points."""
    return NOTHING if math.isnan(fraction) else f"{100 * fraction:+.1f}".replace("-0.0", "+0.0").replace("-", "−")


def points_between(low: float, high: float) -> str:
    """Return an interval of a difference of top-1 in points."""
    return NOTHING if math.isnan(low) else f"{points(low)} to {points(high)}"


def ratio(log: float) -> str:
    """Return a log-ratio as a factor."""
    return NOTHING if math.isnan(log) else f"× {math.exp(log):.2f}"


def ratio_between(low: float, high: float) -> str:
    """Return an interval of a log-ratio as factors."""
    return NOTHING if math.isnan(low) else f"{math.exp(low):.2f} to {math.exp(high):.2f}"


def mean_sd(mean: float, sd: float) -> str:
    """Return the mean ± sd of top-1, fractions, in per cent without the sign."""
    if math.isnan(mean):
        return NOTHING
    return f"{100 * mean:.1f}" if math.isnan(sd) else f"{100 * mean:.1f} ± {100 * sd:.1f}"


def top1_of(cell: Mapping[Any, Any]) -> str:
    """Return the mean ± sd of a cell's test top-1 with how many replicates it lost, or why there is none."""
    if not cell["n"]:
        return "diverged" if cell["diverged"] else "failed" if cell["failed"] else "missing"
    lost = cell["failed"] + cell["diverged"] + cell["missing"]
    return mean_sd(cell["test_top1_mean"], cell["test_top1_sd"]) + (f" (−{lost})" if lost else "")


def number(value: float, form: str) -> str:
    """Return a number in a format of Python's mini-language."""
    return NOTHING if math.isnan(value) else format(value, form)


def signed(value: float, form: str) -> str:
    """Return a difference in a format of Python's mini-language, with its sign."""
    return NOTHING if math.isnan(value) else format(value, f"+{form}").replace("-", "−")


def p_value(p: float) -> str:
    """Return a p-value; small ones as a bound."""
    return NOTHING if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def duration(seconds: float) -> str:
    """Return a length of time in the unit a person would use."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"


def some(names: Sequence[str], most: int = 3) -> str:
    """Return the first of `names`, and how many more there are."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
