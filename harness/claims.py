"""Claims: what may be said of the primary contrasts, judged as one family; all else is exploratory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from harness.contrasts import KEYS
from harness.errors import HarnessError
from harness.family import Family
from harness.stats import LEVEL, claim, critical_effect, seeds_needed, simultaneous, smallest_effect
from harness.wording import bound_in_words, count, open_between, points
from harness.wording import named as effect_name

_UNDECIDED = 3
"""Contrasts told one by one of which nothing is claimed; the table has the others."""


def judge(frame: pd.DataFrame, samples: Mapping[int, np.ndarray], family: Family | None) -> pd.DataFrame:
    """Return the frame of effects with roles, claims and the bound within which a claim is that of no difference.

    `samples` are the paired differences [n] of the rows on the score, by the row's index. A claim is read off the
    interval that covers the whole family at once, and off nothing else. Where a side diverged, the pairs that finished
    are a selection, so nothing is claimed to help, nor to make no difference, and a harm only if it stands with the
    score of guessing in place of what diverged.
    """
    frame = frame.assign(role="exploratory", claim="", bound=np.nan)
    if family is None or family.late:
        return frame
    places = frame.loc[[*samples], [*KEYS]].itertuples(index=False, name=None)
    named = dict(zip(places, samples, strict=True))
    lacking = [member for member in family.members if tuple(member[key] for key in KEYS) not in named]
    if lacking:
        raise HarnessError(
            f"the primary contrast {effect_name(lacking[0])!r} is none of this grid's effects as this version names "
            "them; `harness run` names them anew"
        )
    rows = [named[tuple(member[key] for key in KEYS)] for member in family.members]
    judged = simultaneous([samples[row] for row in rows], LEVEL)
    lost = frame.loc[rows, ["diverged", "with_chance"]].to_numpy(dtype=float)
    claims = []
    for low, high, (diverged, with_chance) in zip(judged.low, judged.high, lost, strict=True):
        claimed = claim(low, high, family.bound or 0.0)
        sure = diverged == 0 or (claimed == "hurts" and with_chance < 0)
        claims.append(claimed if sure else "no evidence")
    frame.loc[rows, "role"] = "primary"
    frame.loc[rows, "claim"] = claims
    frame.loc[rows, "bound"] = family.bound if family.bound else np.nan
    numbers = ["p_holm", "simultaneous_low", "simultaneous_high"]
    frame.loc[rows, numbers] = np.column_stack([judged.p_holm, judged.low, judged.high])
    return frame


def claimed(effects: pd.DataFrame, family: Family | None) -> list[str]:
    """Return what is claimed of the primary contrasts, a sentence for each sort of claim."""
    if family is None:
        return []
    if family.late:
        return ["The primary contrasts were named after there were runs of this grid, so nothing is claimed of them."]
    rows = effects[effects["role"] == "primary"].to_dict("records")
    bound = f" (less than {bound_in_words(family.bound)})" if family.bound else ""
    words = {
        "helps": "What helps",
        "hurts": "What hurts",
        "makes no difference": f"What makes no difference{bound}",
        "no evidence": "What these data cannot tell",
    }
    n = sorted({row["n"] for row in rows})
    several = len(rows) > 1
    judged = "s, named before the data, are judged together" if several else ", named before the data, is judged"
    sentences = [
        f"{len(rows)} primary contrast{judged}: the intervals hold for {'all at once' if several else 'it'}, at 95 % "
        f"(n = {' to '.join(map(str, n[:: max(len(n) - 1, 1)]))})."
    ]
    for said, text in words.items():
        found = [row for row in rows if row["claim"] == said and not (said == "no evidence" and row["diverged"] > 0)]
        if said == "no evidence" and len(found) > _UNDECIDED + 1:
            which = f"All {len(rows)}" if len(found) == len(rows) else f"{len(found)} of them"
            text = f"{which} are undecided, as far as these data can tell; the nearest to a claim"
            found = pd.DataFrame(found).sort_values("p", kind="stable").head(_UNDECIDED).to_dict("records")
        told = [f"{effect_name(row)} {points(row['estimate'])} points ({_between(row)})" for row in found]
        sentences += [f"{text}: {'; '.join(told)}."] if told else []
    lost = [
        f"{effect_name(row)}, {row['diverged']:.0%} of whose replicates diverged "
        f"({points(row['with_chance'])} points with guessing in their place)"
        for row in rows
        if row["claim"] == "no evidence" and row["diverged"] > 0
    ]
    sentences += [f"Not judged, since replicates diverged: {'; '.join(lost)}."] if lost else []
    return sentences + reach(rows)


def _between(row: Mapping[Any, Any]) -> str:
    low, high = row["simultaneous_low"], row["simultaneous_high"]
    return "no interval" if pd.isna(low) else open_between(low, high)


def reach(rows: Sequence[Mapping[Any, Any]]) -> list[str]:
    """Return what the primary contrasts that are not decided would have taken, by the spread that they have."""
    m, left = len(rows), [row for row in rows if row["claim"] == "no evidence" and row["diverged"] == 0]
    spread = [100 * critical_effect(row["n"], m) * row["sd"] for row in left if row["n"] > 1 and row["sd"] > 0]
    if not spread:
        return (
            ["Without two pairs that differ there is no spread, and nothing can be told from chance."] if left else []
        )
    ends = dict.fromkeys(f"{value:.1f}" for value in (min(spread), max(spread)))
    return [
        f"To be claimed before the others of {count(m, 'contrast')}, a mean difference would have had to be "
        f"{' to '.join(ends)} points, by the spread of each."
    ]


def power_lines(family: Family, seeds: int) -> list[str]:
    """Return what a family can show with so many seeds: in sd of its paired differences and, where known, in points."""
    m = len(family.members)
    if seeds < 2:
        return ["With one seed nothing can be claimed: an effect cannot be told from chance."]

    def shown(effect: float) -> str:
        if family.sd is None:
            return f"{effect:.1f} sd"
        ends = dict.fromkeys(f"{100 * effect * family.sd * scale:.1f}" for scale in sorted(family.scales))
        return f"{effect:.1f} sd ({' to '.join([*ends][:: max(len(ends) - 1, 1)])} points)"

    critical, smallest = critical_effect(seeds, m), smallest_effect(seeds, m, power=family.power)
    lines = [
        f"With {seeds} seeds and {count(m, 'primary contrast')} the first claim needs a mean of {shown(critical)} of "
        f"the paired differences; a true effect of {shown(smallest)} is claimed with a probability of "
        f"{family.power:.0%}."
    ]
    if family.bound is not None and family.sd is not None:
        needed = seeds_needed(family.bound / (family.sd * max(family.scales)), m, power=family.power)
        many = "more than 10,000" if needed is None else f"{needed:,}"
        lines.append(
            f"To claim a true effect as small as the bound, {bound_in_words(family.bound)}, takes {many} seeds."
        )
    return lines
