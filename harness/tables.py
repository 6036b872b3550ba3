"""Frames to the tables of a report: what stands in each column, in words and units a person reads."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from harness import norms, provenance, transfer, wording
from harness.contrasts import KEYS
from harness.results import Grid, axes_of
from harness.tasks.metrics import METRICS, Metric, Task, score_of, task_planned

_POOLED = ("data_sets", "n", "iqm", "low", "high", "gain", "gain_low", "gain_high", "p_improvement")
_MOST = 60
"""Rows of the table of interactions: the clearest; `effects.csv` has all."""
_KINDS = {
    "policy": "policy",
    "scenario": "scenario",
    "one_in": "alone",
    "combined": "together",
    "synergy": "beyond the sum",
    "leave_one_out": "on top of all others",
    "step": "stacked",
    "main": "main effect",
}
"""How the kinds of effects read in a table, in its order."""

DATA_SETS_NOTE = (
    "The interquartile mean of test {score} over seeds and data sets, %, its gain over the same policy without tricks "
    "in points, and how often a seed gains, with 95 % bootstrap intervals stratified by data set: they cover other "
    "seeds on these data sets, not other data sets."
)


def of_grid(grid: Grid, cells: pd.DataFrame, effects: pd.DataFrame, data_sets: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the tables of a grid that have something to show, by name."""
    score = grid.score
    made = {
        "primary": primary_table(effects, score),
        "effects": effects_table(effects, score),
        "shapley": shapley_table(effects, score),
        "interactions": interactions_table(effects, score),
        "data_sets": data_sets_table(data_sets),
        "cells": cells_table(cells, task_planned(grid.plan)),
        "transfer": transfer.table(transfer.frame(grid, cells), effects, score),
        "first": transfer.first_table(grid.prerequisites),
        "rates": rates_table(grid.plan, score),
        "norms": norms.table(grid.batch_norm, cells) if len(grid.batch_norm) else None,
        "designs": designs_table(grid.plan),
        "problems": provenance.problems(grid.runs),
        "judged": provenance.judged(grid.plan),
        "shared": provenance.shared(grid.runs),
        "settings": provenance.settings(grid),
    }
    return {name: table for name, table in made.items() if table is not None}


def data_sets_table(data_sets: pd.DataFrame) -> pd.DataFrame | None:
    """Return what `pooling.over_data` found."""
    if data_sets.empty:
        return None
    others = [name for name in data_sets.columns if name not in _POOLED]
    gains = "gain" in data_sets
    return _frame(
        {
            **{name: row[name] for name in others},
            "data sets": row["data_sets"],
            "runs": row["n"],
            "interquartile mean, %": wording.number(100 * row["iqm"], ".1f"),
            "95 % interval": f"{100 * row['low']:.1f} to {100 * row['high']:.1f}",
            **(
                {
                    "gain": wording.points(row["gain"]),
                    "95 % interval of the gain": wording.points_between(row["gain_low"], row["gain_high"]),
                    "gains in, %": wording.number(100 * row["p_improvement"], ".0f"),
                }
                if gains
                else {}
            ),
        }
        for row in data_sets.to_dict("records")
    )


def primary_table(effects: pd.DataFrame, score: Metric) -> pd.DataFrame | None:
    """Return the primary contrasts with their claims."""
    rows = effects[effects["role"] == "primary"].to_dict("records")
    return _frame(
        {
            "effect": wording.named(row),
            "claim": row["claim"],
            f"points of {score.label}": wording.points(row["estimate"]),
            "simultaneous 95 % interval": wording.open_between(row["simultaneous_low"], row["simultaneous_high"]),
            "p (Holm)": wording.p_value(row["p_holm"]),
            "n": row["n"],
            "95 % interval alone": wording.points_between(row["low"], row["high"]),
            "diverged": f"{row['diverged']:.0%}",
        }
        for row in rows
    )


def effects_table(effects: pd.DataFrame, score: Metric) -> pd.DataFrame | None:
    """Return the effects on the score beside what they cost; interactions and Shapley values have other tables."""
    costs: dict[tuple[Any, ...], dict[str, dict[Any, Any]]] = {}
    for row in effects[effects["metric"] != score.test].to_dict("records"):
        costs.setdefault(_key(row), {})[row["metric"]] = row
    scenarios, examples = (effects["scenario"] != "").any(), effects["examples_low"].notna().any()
    rows = effects[(effects["metric"] == score.test) & effects["kind"].isin([*_KINDS])].to_dict("records")
    tricks = any(row["trick"] for row in rows)
    return _frame(
        {
            "policy": row["policy"],
            **({"trick": row["trick"] or "none"} if tricks else {}),
            **({"scenario": row["scenario"]} if scenarios else {}),
            "effect": _KINDS[row["kind"]],
            "against": row["against"],
            f"points of {score.label}": wording.points(row["estimate"]),
            "95 % interval": wording.points_between(row["low"], row["high"]),
            "n": row["n"],
            "p": wording.p_value(row["p"]),
            **(
                {"with other test images": wording.points_between(row["examples_low"], row["examples_high"])}
                if examples
                else {}
            ),
            **(_cost_columns(costs.get(_key(row), {})) if costs else {}),
        }
        for row in rows
    )


def _key(row: Mapping[Any, Any]) -> tuple[Any, ...]:
    return tuple(row[key] for key in KEYS)


def _cost_columns(costs: Mapping[str, Mapping[Any, Any]]) -> dict[str, str]:
    def value(metric: str) -> float:
        return float(costs[metric]["estimate"]) if metric in costs else math.nan

    def factor(metric: str) -> str:
        """In parentheses where the rounds of the probe cannot tell it from 1."""
        text = wording.ratio(value(metric))
        known = metric in costs and not math.isnan(costs[metric]["low"])
        return f"({text})" if known and costs[metric]["low"] <= 0 <= costs[metric]["high"] else text

    return {
        "speed": factor("images_per_s"),
        "training time": factor("train_s"),
        "peak memory, MiB": wording.signed(value("peak_memory_bytes") / 2**20, ",.1f"),
        "trainable parameters": wording.signed(value("trainable_params"), ",.0f"),
    }


def shapley_table(effects: pd.DataFrame, score: Metric) -> pd.DataFrame | None:
    """Return the Shapley values with what they sum to: the combined effect, by construction, of what they share out."""
    rows = effects[(effects["kind"] == "shapley") & (effects["metric"] == score.test)]
    groups = rows.groupby(["scenario", "policy", "design"], sort=False)
    return _frame(
        {
            "policy": policy,
            **({"scenario": scenario} if scenario else {}),
            "from": design,
            "trick": row["trick"],
            f"points of {score.label}": wording.points(row["estimate"]),
            "95 % interval": wording.points_between(row["low"], row["high"]),
            "n": row["n"],
            "se of the orders": wording.number(100 * row["order_se"], ".2f"),
            "all sum to": wording.points(group["estimate"].sum(skipna=False)),
        }
        for (scenario, policy, design), group in groups
        for row in group.to_dict("records")
    )


def interactions_table(effects: pd.DataFrame, score: Metric) -> pd.DataFrame | None:
    """Return the interactions, the clearest first."""
    rows = effects[(effects["kind"] == "interaction") & (effects["metric"] == score.test)]
    return _frame(
        {
            "interaction": wording.named(row),
            "from": row["design"],
            f"points of {score.label}": wording.points(row["estimate"]),
            "95 % interval": wording.points_between(row["low"], row["high"]),
            "n": row["n"],
            "p": wording.p_value(row["p"]),
        }
        for row in rows.sort_values("p", kind="stable").head(_MOST).to_dict("records")
    )


def designs_table(plan: Mapping[str, Any]) -> pd.DataFrame | None:
    """Return the designs that say more than their cells do: fractions with their aliases, and what a design lacks."""
    return _frame(
        {
            "design": f"{row['kind']}: {len(row['sets'])} trick sets of {', '.join(row['factors'])}",
            "policies": wording.some(row["policies"], 6),
            "cannot be told apart": "; ".join(row["aliases"]),
            "note": row["note"],
        }
        for row in plan.get("designs", ())
        if row["aliases"] or row["note"]
    )


def _frame(rows: Iterable[dict[str, Any]]) -> pd.DataFrame | None:
    frame = pd.DataFrame([*rows])
    return None if frame.empty else frame


def cells_table(cells: pd.DataFrame, task: Task) -> pd.DataFrame:
    """Return every cell with its metrics and its costs."""
    axes, score = axes_of(cells), score_of(task)
    others = [metric for metric in METRICS[task][1:] if cells[metric.test].notna().any()]
    tricks = any(wording.trick_set(cell) != "baseline" for cell in cells["cell"])
    return pd.DataFrame(
        {
            "policy": row["policy"],
            **({"tricks": wording.trick_set(row["cell"])} if tricks else {}),
            **{axis: row[axis] for axis in axes},
            f"test {score.label}, %": wording.mean_sd(row[score.mean], row[score.sd]),
            **{f"{metric.label}, %": wording.number(100 * row[metric.test], ".1f") for metric in others},
            "finished": f"{row['n']} of {row['n'] + row['failed'] + row['diverged'] + row['missing']}",
            "images per s": wording.number(row["images_per_s"], ",.0f"),
            "training, s": wording.number(row["train_s"], ".2f"),
            "peak memory, MiB": wording.number(row["peak_memory_bytes"] / 2**20, ".1f"),
            "trainable parameters": wording.number(row["trainable_params"], ",.0f"),
        }
        for row in cells.to_dict("records")
    )


def rates_table(plan: Mapping[str, Any], score: Metric) -> pd.DataFrame | None:
    """Return the learning rate chosen for each cell, with the mean score on validation of every rate, in per cent."""
    rows = []
    for cell, choice in plan.get("tuning", {}).items():
        tried = {
            f"at {lr:g}": wording.number(100 * (math.nan if top is None else top), ".1f")
            for lr, top in choice[score.val]
        }
        rows.append(
            {
                "cell": cell,
                "learning rate": f"{choice['lr']:g}",
                "at the edge": "yes: a better one may lie beyond" if choice["at_edge"] else "",
                **tried,
            }
        )
    return pd.DataFrame(rows) if rows else None
