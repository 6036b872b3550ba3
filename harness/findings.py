"""Frames to sentences: what the report says first, computed from the numbers and from nothing else."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd

from harness.claims import claimed
from harness.contrasts import SOURCES
from harness.family import Family
from harness.results import axes_of, scenario_of
from harness.tasks.metrics import FLOORS, METRICS, TOP1, Metric, task_in
from harness.wording import (
    count,
    mean_sd,
    named,
    points,
    points_between,
    ratio,
    ratio_between,
    some,
    trick_set,
)

Row = Mapping[Any, Any]
_LISTED = 8
"""Policies or effects that a sentence lists at most."""
_EDGES = 3
"""Cells with a rate at the edge that are named at most; a table has them all."""
_SCENARIOS = 4
"""Scenarios that have sentences of their own at most."""


def findings(
    cells: pd.DataFrame,
    effects: pd.DataFrame,
    seeds: int,
    family: Family | None = None,
    tuning: Mapping[str, Any] | None = None,
    score: Metric = TOP1,
) -> list[str]:
    """Return the findings of a grid as sentences, each with its n and interval. None claims more than n can carry.

    `tuning` are the learning rates chosen, by cell, as the plan has them.
    """
    top = effects[(effects["metric"] == score.test) & effects["estimate"].notna()]
    sentences = [
        *claimed(effects, family),
        *_edges(tuning or {}),
        *_policies(cells, top, score),
        *_floors(cells),
        *_sources(top),
        *_together(top),
        *_strongest(top),
        *_crossed(top),
        *_costs(effects),
        *_diverged(cells),
        *_chance(top),
    ]
    if seeds == 1:
        sentences.append("One seed cannot tell an effect from chance: nothing here has an interval.")
    elif seeds < 6:
        sentences.append(
            f"With {seeds} seeds this grid can show large effects only: take what it shows as a hint of what to test "
            "with more seeds."
        )
    return sentences


def _edges(tuning: Mapping[str, Any]) -> list[str]:
    """Return how many of the rates chosen end their list: what looks like a trick's worth may be a rate's."""
    edges = [cell for cell, choice in tuning.items() if choice["at_edge"]]
    if not edges:
        return []
    return [
        f"In {len(edges)} of {len(tuning)} cells the learning rate chosen ends the list that was tried, so a better "
        f"one may lie beyond, and a difference from such a cell may be one of rates: {some(edges, _EDGES)}."
    ]


def _policies(cells: pd.DataFrame, top: pd.DataFrame, score: Metric) -> list[str]:
    axes = axes_of(cells)
    known = cells[cells["cell"].map(trick_set) == "baseline"].dropna(subset=[score.mean])
    by_scenario: dict[str, list[dict[Hashable, Any]]] = {}
    for row in known.to_dict("records"):
        by_scenario.setdefault(scenario_of(row, axes), []).append(row)
    if len(by_scenario) > _SCENARIOS:
        return _best_by_scenario(by_scenario, score)
    policies = top[top["kind"] == "policy"].to_dict("records")
    return [
        sentence
        for scenario, rows in by_scenario.items()
        for sentence in _policies_of(scenario, rows, [row for row in policies if row["scenario"] == scenario], score)
    ]


def _best_by_scenario(by_scenario: Mapping[str, list[dict[Hashable, Any]]], score: Metric) -> list[str]:
    """Return in one sentence which policy has the highest mean in each of many scenarios."""
    by_policy: dict[str, list[str]] = {}
    for scenario, rows in by_scenario.items():
        if len(rows) > 1:
            best = max(rows, key=lambda row: row[score.mean])
            shown = f"{scenario} ({mean_sd(best[score.mean], best[score.sd])} %)"
            by_policy.setdefault(best["policy"], []).append(shown)
    listed = "; ".join(
        f"{policy} at {', '.join(at)}"
        if len(at) <= _LISTED
        else f"{policy} in {len(at)} of {len(by_scenario)} scenarios"
        for policy, at in by_policy.items()
    )
    said = f"Without tricks, the policy of the highest mean test {score.label} (± sd over seeds) is {listed}."
    return [said] if listed else []


def _policies_of(
    scenario: str, baselines: list[dict[Hashable, Any]], effects: list[dict[Hashable, Any]], score: Metric
) -> list[str]:
    begin = f"At {scenario}, w" if scenario else "W"
    few = len(baselines) <= _LISTED
    ranked = baselines if few else sorted(baselines, key=lambda row: -row[score.mean])
    shown = [f"{row['policy']} {mean_sd(row[score.mean], row[score.sd])} %" for row in ranked]
    listed = ", ".join(shown) if few else f"{', '.join(shown[:3])}, … {', '.join(shown[-3:])}"
    n = sorted({row["n"] for row in baselines})
    over = f"{n[0]}" if len(n) == 1 else f"{n[0]} to {n[-1]}"
    how = "one seed" if n == [1] else f"mean ± sd over {over} seeds"
    sentences = [f"{begin}ithout tricks, test {score.label} by policy ({how}): {listed}."]
    against = [f"{row['policy']} {_effect(row)}" for row in effects if row["against"] == effects[0]["against"]]
    if against and few:
        sentences.append(f"Against {effects[0]['against']}, paired by seed: {'; '.join(against)}.")
    return sentences


def _floors(cells: pd.DataFrame) -> list[str]:
    """Return what the test images are worth without training, where that cannot be known before the data."""
    known = [metric for metric in METRICS[task_in(cells.columns)] if metric.name in FLOORS]
    told = [f"{metric.label} {100 * cells[metric.test].mean():.1f} %" for metric in known if metric.test in cells]
    return [f"By comparison, the mean over cells: {', '.join(told)}."] if told else []


def _sources(top: pd.DataFrame) -> list[str]:
    """Return, for each policy, what it gains in other scenarios over several source networks of each."""
    rows = top[(top["kind"] == "scenario") & top["scenario"].str.endswith(f"every {SOURCES}")]
    said = [
        f"Over source networks, under {policy} against {against}: "
        + "; ".join(f"{row['scenario']} {_effect(row)}" for row in group.to_dict("records"))
        + "."
        for (policy, against), group in rows.groupby(["policy", "against"], sort=False)
    ]
    return [sentence.replace(f", every {SOURCES}", "") for sentence in said]


def _together(top: pd.DataFrame) -> list[str]:
    """Return, of each policy's largest trick set, what it gives and whether that is more than the sum of each alone."""
    rows = top[top["kind"].isin(["combined", "synergy"])].to_dict("records")
    whole = [row for row in rows if row["kind"] == "synergy"]
    combined = {_place(row): row for row in rows if row["kind"] == "combined"}
    if _SCENARIOS < len(whole) <= _LISTED:
        told = "; ".join(f"{row['trick']} under {_under(row)} {_effect(combined[_place(row)])}" for row in whole)
        return [f"Tricks together, against none: {told}."]
    if not whole or len(whole) > _LISTED:
        return []
    sentences = []
    for row in whole:
        both = combined[_place(row)]
        if both["n"] != row["n"]:
            continue  # over other seeds, the whole and its parts do not add up
        alone = both["estimate"] - row["estimate"]
        sentences.append(
            f"Under {_under(row)}, {row['trick']} give {_effect(both)}; each alone sums to {points(alone)} points, "
            f"so the whole differs from the sum by {_effect(row)}."
        )
    return sentences


def _place(row: Row) -> tuple[str, ...]:
    return row["policy"], row["scenario"], row["trick"]


def _under(row: Row) -> str:
    return f"{row['policy']} at {row['scenario']}" if row["scenario"] else str(row["policy"])


def _strongest(top: pd.DataFrame) -> list[str]:
    """Return the trick that changes most under each policy."""
    kinds = ["one_in"] if (top["kind"] == "one_in").any() else ["main", "step", "combined"]
    rows = top[top["kind"].isin(kinds)]
    sentences = []
    for under, group in rows.groupby(rows.apply(_under, axis=1) if len(rows) else "policy", sort=False):
        best = group.sort_values("estimate", key=abs).iloc[-1].to_dict()
        which = (
            f"the largest of {len(group)} measured differences" if len(group) > 1 else "the only measured difference"
        )
        sentences.append(f"Under {under}, {which} is {best['trick']}: {_effect(best)}.")
    if len(sentences) <= _LISTED:
        return sentences
    largest = rows.sort_values("estimate", key=abs, ascending=False).head(_LISTED).to_dict("records")
    listed = "; ".join(f"{row['trick']} under {_under(row)} {_effect(row)}" for row in largest)
    return [f"Of {len(rows)} effects the largest measured, which flatter themselves: {listed}."]


def _crossed(top: pd.DataFrame) -> list[str]:
    """Return the interaction of each sort that is largest for its uncertainty, of those that are not judged above."""
    rows = top[(top["kind"] == "interaction") & (top["role"] != "primary") & top["p"].notna()]
    rows = rows.sort_values("p", kind="stable")
    sentences = []
    for crossed, text in ((True, "depends on what is frozen or on the scenario"), (False, "depends on another trick")):
        found = rows[(rows["against"] != "") == crossed].to_dict("records")
        if found:
            what = f"of whether a trick's worth {text}"
            several = f"Of {len(found)} measures {what}, the clearest, which flatters itself,"
            which = several if len(found) > 1 else f"The only measure {what}"
            sentences.append(f"{which} is {named(found[0])}: {_effect(found[0])}.")
    return sentences


def _costs(effects: pd.DataFrame) -> list[str]:
    """Return which trick surely adds most to the training time, or how much any of them may add."""
    rows = effects[(effects["kind"] == "one_in") & (effects["metric"] == "train_s") & effects["low"].notna()]
    if rows.empty:
        return []
    surely = rows[rows["low"] > 0]
    if surely.empty:
        most = rows.sort_values("high").iloc[-1].to_dict()
        return [
            f"No trick surely adds to the training time; {most['trick']} under {_under(most)} may by as much as "
            f"{ratio(most['high'])} (the end of its 95 % interval)."
        ]
    dear = surely.sort_values("estimate").iloc[-1].to_dict()
    between = ratio_between(dear["low"], dear["high"])
    return [
        f"Of {len(rows)} effects on training time, {len(surely)} {'has' if len(surely) == 1 else 'have'} an interval "
        f"above × 1, about {0.025 * len(rows):.1f} would by chance; largest is {dear['trick']} under {_under(dear)}, "
        f"{ratio(dear['estimate'])} (95 % interval {between})."
    ]


def _diverged(cells: pd.DataFrame) -> list[str]:
    lost = cells[cells["diverged"] > 0]
    if lost.empty:
        return []
    listed = some([f"{row['cell']} ({row['diverged']})" for row in lost.to_dict("records")], _LISTED)
    return [
        f"{count(int(lost['diverged'].sum()), 'replicate')} diverged: {listed}. Effects are over the pairs that "
        "finished, which are a selection; no trick is said to help where a side of it diverged."
    ]


def _effect(row: Row) -> str:
    text = f"{points(row['estimate'])} points"
    if pd.isna(row["low"]):
        return text
    return f"{text} (95 % interval {points_between(row['low'], row['high'])}, n = {row['n']})"


def _chance(top: pd.DataFrame) -> list[str]:
    known = top[top["low"].notna() & (top["role"] == "exploratory") & (top["kind"] != "scenario")]
    if known.empty:
        return []
    apart = known[(known["low"] > 0) | (known["high"] < 0)]
    return [
        f"Of {len(known)} exploratory effects with an interval, {len(apart)} {'has' if len(apart) == 1 else 'have'} "
        f"one that leaves out 0; about {0.05 * len(known):.1f} would if nothing had any effect. Nothing corrects them "
        "for their number: they are hints, not findings."
    ]
