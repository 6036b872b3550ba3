"""How numbers and names read in figures, tables, sentences and the terminal, so that they read alike everywhere."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.tasks.metrics import Metric

NOTHING = "–"
"""What stands where there is no number."""
NOTHING_FROZEN = "no stage is frozen before the first that moves"
"""Why no frozen stage is computed once, where there is none."""
_NAMED = 3


@dataclass(frozen=True)
class Terms:
    """What the runs of a grid measure and what pairs them, where that is not the test top-1 of seeds."""

    metric: str = "test top-1"
    paired_by: str = "seed"
    """What the runs of a pair share; empty where runs are not paired."""

    @property
    def one(self) -> str:
        """One replicate of every cell; of runs that several columns pair it is a block."""
        return {"": "run", "seed": "seed"}.get(self.paired_by, "block")

    @property
    def many(self) -> str:
        """Several replicates."""
        return f"{self.one}s"

    def said(self, text: str) -> str:
        """Return a text of the harness, which speaks of the test top-1 of seeds, in these terms.

        Not for what a user wrote, such as labels: those may hold the same words.
        """
        if self == Terms():
            return text
        new = {
            "paired by seed": f"paired by {self.paired_by}" if self.paired_by else "unpaired",
            "test top-1": self.metric,
            "top-1": self.metric,
            "seeds": self.many,
            "seed": self.one,
        }

        def replaced(match: re.Match[str]) -> str:
            old = match[0]
            found = new[old.lower()]
            return found if old[0].islower() or found == self.metric else found.capitalize()

        return re.sub(rf"\b({'|'.join(new)})\b", replaced, text, flags=re.IGNORECASE)


def terms_of(plan: Mapping[str, Any]) -> Terms:
    """Return the terms of a plan; one that says nothing is of a study of the harness."""
    return Terms(**plan.get("terms", {}))


def set_name(tricks: Sequence[str], of: Sequence[str]) -> str:
    """Return the name of a trick set; one of nearly all tricks goes by what it lacks."""
    lacking = [label for label in of if label not in tricks]
    if len(tricks) > _NAMED and len(lacking) <= _NAMED:
        return f"all but {', '.join(lacking)}" if lacking else f"all {len(tricks)} together"
    return " + ".join(tricks) or "baseline"


def cell_name(policy: str, tricks: Sequence[str], of: Sequence[str], scenario: str) -> str:
    """Return the name of a cell, without the seed; `of` are the tricks of the whole study."""
    return " | ".join(part for part in (policy, set_name(tricks, of), scenario) if part)


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
    if row["kind"] == "scenario":
        return f"{row['policy']} at {row['scenario']} against {row['against']}"
    under = f" under {row['policy']}{where}"
    if row["kind"] == "interaction" and row["against"]:
        return f"{row['trick']}{under} rather than {row['against']}"
    before = {"main": "main effect of ", "shapley": "Shapley value of "}.get(row["kind"], "")
    after = {"leave_one_out": "all others", "step": row["against"]}.get(row["kind"], "")
    beyond = " beyond the sum of each" if row["kind"] == "synergy" else ""
    return f"{before}{row['trick']}{' on top of ' if after else ''}{after}{beyond}{under}"


def points(fraction: float) -> str:
    """Return a difference of a score, a fraction, in signed points."""
    # A small loss stays a loss: −0.0 is below 0.
    return NOTHING if math.isnan(fraction) else f"{100 * (fraction or 0.0):+.1f}".replace("-", "−")


def points_between(low: float, high: float) -> str:
    """Return an interval of a difference of a score in points."""
    return NOTHING if math.isnan(low) else f"{points(low)} to {points(high)}"


def open_between(low: float, high: float) -> str:
    """Return a simultaneous interval in points: it is open, so that one that ends at exactly 0 leaves 0 out."""
    if math.isnan(low):
        return NOTHING
    return f"{'above 0' if low == 0 else points(low)} to {'below 0' if high == 0 else points(high)}"


def bound_in_words(fraction: float) -> str:
    """Return a bound on differences of a score, a fraction, in points without a sign."""
    return f"{100 * fraction:g} point{'s'[: fraction != 0.01]}"


def ratio(log: float) -> str:
    """Return a log-ratio as a factor."""
    return NOTHING if math.isnan(log) else f"× {math.exp(log):.2f}"


def ratio_between(low: float, high: float) -> str:
    """Return an interval of a log-ratio as factors."""
    return NOTHING if math.isnan(low) else f"{math.exp(low):.2f} to {math.exp(high):.2f}"


def count(number: int, what: str) -> str:
    """Return a number of things: 1 seed, 3 seeds."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def mean_sd(mean: float, sd: float) -> str:
    """Return the mean ± sd of a score, fractions, in per cent without the sign."""
    if math.isnan(mean):
        return NOTHING
    return f"{100 * mean:.1f}" if math.isnan(sd) else f"{100 * mean:.1f} ± {100 * sd:.1f}"


def score_text(cell: Mapping[Any, Any], score: Metric) -> str:
    """Return the mean ± sd of a cell's score on test with how many replicates it lost, or why there is none."""
    if not cell["n"]:
        return "diverged" if cell["diverged"] else "failed" if cell["failed"] else "missing"
    lost = cell["failed"] + cell["diverged"] + cell["missing"]
    return mean_sd(cell[score.mean], cell[score.sd]) + (f" (−{lost})" if lost else "")


def number(value: float, form: str) -> str:
    """Return a number in a format of Python's mini-language."""
    return NOTHING if math.isnan(value) else format(value, form)


def signed(value: float, form: str) -> str:
    """Return a difference in a format of Python's mini-language, with its sign."""
    return NOTHING if math.isnan(value) else format(value, f"+{form}").replace("-", "−")


def p_value(p: float) -> str:
    """Return a p-value; small ones as a bound."""
    return NOTHING if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.{4 if p < 0.1 else 3}f}"


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
