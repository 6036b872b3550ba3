"""Frames to sentences: what the report says first, computed from the numbers and from nothing else."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd

from harness.results import axes_of, scenario_of
from harness.wording import mean_sd, points, points_between, trick_set

_LISTED = 8
"""Policies or effects that a sentence lists at most."""


def findings(cells: pd.DataFrame, effects: pd.DataFrame, seeds: int) -> list[str]:
    """Return the findings of a grid as sentences, each with its n and interval. None claims more than n can carry."""
    top = effects[(effects["metric"] == "test_top1") & effects["estimate"].notna()]
    sentences = [*_policies(cells, top), *_strongest(top[top["kind"] != "policy"]), *_chance(top)]
    if seeds == 1:
        sentences.append("One seed cannot tell an effect from chance: nothing here has an interval.")
    elif seeds < 6:
        sentences.append(
            f"With {seeds} seeds this grid can show large effects only: take what it shows as a hint of what to test "
            "with more seeds."
        )
    return sentences


def coverage(plan: Mapping[str, Any]) -> str:
    """Return what the intervals of top-1 cover and what they do not, as the plan has it."""
    settings = plan["settings"]
    varied = ["the draw of the training images"] if settings.get("train images drawn by seed") else []
    varied += [
        "the initial head" if settings.get("weights") != "random" else "the initial weights",
        "the order of the data",
    ]
    fixed = ["other test images", *(["another pretrained network"] if settings.get("weights") != "random" else [])]
    shared = [p for p in plan.get("prerequisites", ()) if p.get("role") == "teacher"]
    fixed += ["another teacher"] if shared and not settings.get("train images drawn by seed") else []
    fixed += ["another choice of the learning rates"] if plan.get("tuning") else []
    return (
        f"The intervals cover what differs between seeds: {_list(varied, 'and')}. "
        f"They do not cover {_list(fixed, 'or')}: all seeds share one."
    )


def _list(words: list[str], last: str) -> str:
    return f" {last} ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _policies(cells: pd.DataFrame, top: pd.DataFrame) -> list[str]:
    axes = axes_of(cells)
    known = cells[cells["cell"].map(trick_set) == "baseline"].dropna(subset=["test_top1_mean"])
    sentences = []
    for scenario in dict.fromkeys(scenario_of(row, axes) for row in known.to_dict("records")):
        begin = f"At {scenario}, w" if scenario else "W"
        rows = [row for row in known.to_dict("records") if scenario_of(row, axes) == scenario]
        against = [row for row in top.to_dict("records") if scenario_of(row, axes) == scenario]
        sentences += _policies_of(begin, rows, [row for row in against if row["kind"] == "policy"])
    return sentences


def _policies_of(begin: str, baselines: list[dict[Hashable, Any]], effects: list[dict[Hashable, Any]]) -> list[str]:
    few = len(baselines) <= _LISTED
    ranked = baselines if few else sorted(baselines, key=lambda row: -row["test_top1_mean"])
    shown = [f"{row['policy']} {mean_sd(row['test_top1_mean'], row['test_top1_sd'])} %" for row in ranked]
    listed = ", ".join(shown) if few else f"{', '.join(shown[:3])}, … {', '.join(shown[-3:])}"
    n = sorted({row["n"] for row in baselines})
    over = f"{n[0]}" if len(n) == 1 else f"{n[0]} to {n[-1]}"
    how = "one seed" if n == [1] else f"mean ± sd over {over} seeds"
    sentences = [f"{begin}ithout tricks, test top-1 by policy ({how}): {listed}."]
    against = [f"{row['policy']} {_effect(row)}" for row in effects]
    if against and few:
        sentences.append(f"Against {baselines[0]['policy']}, paired by seed: {'; '.join(against)}.")
    return sentences


def _under(row: Mapping[Any, Any], axes: list[str]) -> str:
    return f"{row['policy']} at {scenario_of(row, axes)}" if axes else str(row["policy"])


def _strongest(top: pd.DataFrame) -> list[str]:
    sentences, axes = [], axes_of(top)
    where = [_under(row, axes) for row in top.to_dict("records")]
    for under, group in top.groupby(pd.Series(where, top.index, dtype=str), sort=False):
        best = group.sort_values("estimate", key=abs).iloc[-1].to_dict()
        if best["estimate"] == 0:
            sentences.append(f"Under {under}, no trick made any difference.")
            continue
        sentences.append(f"Under {under}, the largest measured difference is {best['trick']}: {_effect(best)}.")
    if len(sentences) <= _LISTED:
        return sentences
    largest = top.sort_values("estimate", key=abs, ascending=False).head(_LISTED).to_dict("records")
    listed = "; ".join(f"{row['trick']} under {_under(row, axes)} {_effect(row)}" for row in largest)
    return [f"Of {len(top)} effects the largest measured: {listed}."]


def _effect(row: Mapping[Any, Any]) -> str:
    text = f"{points(row['estimate'])} points"
    if pd.isna(row["low"]):
        return text
    return f"{text} (95 % interval {points_between(row['low'], row['high'])}, n = {row['n']})"


def _chance(top: pd.DataFrame) -> list[str]:
    known = top[top["low"].notna()]
    if known.empty:
        return []
    apart = known[(known["low"] > 0) | (known["high"] < 0)]
    return [
        f"Of {len(known)} effects with an interval, {len(apart)} {'has' if len(apart) == 1 else 'have'} one that "
        f"leaves out 0; about {0.05 * len(known):.1f} would if nothing had any effect. No correction for their number "
        "is made: all are exploratory."
    ]
