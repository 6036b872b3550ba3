"""Frames to sentences: what the report says first, computed from the numbers and from nothing else."""

from __future__ import annotations

import pandas as pd

from harness.wording import mean_sd, points, points_between, short


def findings(cells: pd.DataFrame, effects: pd.DataFrame, seeds: int) -> list[str]:
    """Return the findings of a grid as sentences, each with its n and interval. None claims more than n can carry."""
    top = effects[(effects["metric"] == "test_top1") & effects["estimate"].notna()]
    sentences = [*_policies(cells), *_strongest(top), *_chance(top)]
    if seeds < 6:
        sentences.append(
            f"With {seeds} seed{'s' if seeds > 1 else ''} this grid can show large effects only: take what it shows "
            "as a hint of what to test with more seeds."
        )
    return sentences


def _policies(cells: pd.DataFrame) -> list[str]:
    baselines = cells[cells["cell"].str.endswith("| baseline")].dropna(subset=["test_top1_mean"])
    if baselines.empty:
        return []
    ranked = baselines.sort_values("test_top1_mean", ascending=False).to_dict("records")
    listed = ", ".join(f"{row['policy']} {mean_sd(row['test_top1_mean'], row['test_top1_sd'])} %" for row in ranked)
    n = sorted({row["n"] for row in ranked})
    over = f"{n[0]}" if len(n) == 1 else f"{n[0]} to {n[-1]}"
    return [f"Without tricks, test top-1 by policy (mean ± sd over {over} seeds): {listed}."]


def _strongest(top: pd.DataFrame) -> list[str]:
    sentences = []
    for policy, group in top.groupby("policy", sort=False):
        best = group.sort_values("estimate", key=abs).iloc[-1].to_dict()
        named = f"Under {policy}, the largest measured difference is {short(best['trick'])}"
        sentence = f"{named}: {points(best['estimate'])} points"
        if pd.notna(best["low"]):
            sentence += f" (95 % interval {points_between(best['low'], best['high'])}, n = {best['n']})"
        sentences.append(sentence + ".")
    return sentences


def _chance(top: pd.DataFrame) -> list[str]:
    known = top[top["low"].notna()]
    if known.empty:
        return []
    apart = known[(known["low"] > 0) | (known["high"] < 0)]
    return [
        f"Of {len(known)} effects with an interval, {len(apart)} {'has' if len(apart) == 1 else 'have'} one that "
        f"leaves out 0; about {0.05 * len(known):.1f} would if no trick did anything. No correction for their number "
        "is made: all are exploratory."
    ]
