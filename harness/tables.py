"""Frames to the tables of a report: what stands in each column, in words and units a person reads."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from harness import norms, wording
from harness.results import Grid, axes_of, scenario_of


def of_grid(grid: Grid, cells: pd.DataFrame, effects: pd.DataFrame) -> dict[str, pd.DataFrame | None]:
    """Return the tables of a grid by name; None where there is nothing to show."""
    return {
        "effects_table": effects_table(effects, cells),
        "cells_table": cells_table(cells),
        "first_table": first_table(grid.prerequisites),
        "rates_table": rates_table(grid.plan),
        "norms_table": norms.table(grid.batch_norm, cells) if len(grid.batch_norm) else None,
        "problems": problems(grid.runs),
        "judged": judged(grid.plan),
        "settings": settings(grid),
    }


def effects_table(effects: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """Return the effects on test top-1 with those on speed; policies are held against the first of their scenario."""
    axes = axes_of(effects)
    first = {scenario_of(row, axes): row["policy"] for row in reversed(cells.to_dict("records"))}
    keys = [*axes, "policy", "trick"]
    speed = {
        tuple(row[key] for key in keys): row for row in effects[effects["metric"] == "images_per_s"].to_dict("records")
    }
    nothing = {"estimate": math.nan, "low": math.nan, "high": math.nan}
    rows = []
    for row in effects[effects["metric"] == "test_top1"].to_dict("records"):
        rate = speed.get(tuple(row[key] for key in keys), nothing)
        rows.append(
            {
                "policy": row["policy"],
                "trick": row["trick"] or f"none: against {first[scenario_of(row, axes)]}",
                **{axis: row[axis] for axis in axes},
                "points of top-1": wording.points(row["estimate"]),
                "95 % interval": wording.points_between(row["low"], row["high"]),
                "n": row["n"],
                "speed": wording.ratio(rate["estimate"]),
                "95 % interval of speed": wording.ratio_between(rate["low"], rate["high"]),
            }
        )
    return pd.DataFrame(rows)


def cells_table(cells: pd.DataFrame) -> pd.DataFrame:
    """Return every cell with its top-1 and its costs."""
    axes, by_class = axes_of(cells), cells["test_mean_per_class"].notna().any()
    return pd.DataFrame(
        {
            "policy": row["policy"],
            "tricks": wording.trick_set(row["cell"]),
            **{axis: row[axis] for axis in axes},
            "test top-1, %": wording.mean_sd(row["test_top1_mean"], row["test_top1_sd"]),
            **({"mean per class, %": wording.number(100 * row["test_mean_per_class"], ".1f")} if by_class else {}),
            "finished": f"{row['n']} of {row['n'] + row['failed'] + row['diverged'] + row['missing']}",
            "images per s": wording.number(row["images_per_s"], ",.0f"),
            "training, s": wording.number(row["train_s"], ".2f"),
            "peak memory, MiB": wording.number(row["peak_memory_bytes"] / 2**20, ".1f"),
            "trainable parameters": wording.number(row["trainable_params"], ",.0f"),
        }
        for row in cells.to_dict("records")
    )


def first_table(prerequisites: pd.DataFrame) -> pd.DataFrame | None:
    """Return what was trained before the cells: pretrained networks and teachers, with top-1 on tests of their own."""
    if prerequisites.empty:
        return None
    grouped = prerequisites.groupby(["what", "epochs"], sort=False)["test_top1"].agg(["mean", "std", "size"])
    return pd.DataFrame(
        {
            "trained first": what,
            "networks": row["size"],
            "epochs": epochs,
            "own test top-1, %": wording.mean_sd(row["mean"], row["std"]),
        }
        for (what, epochs), row in zip(grouped.index, grouped.to_dict("records"), strict=True)
    )


def rates_table(plan: Mapping[str, Any]) -> pd.DataFrame | None:
    """Return the learning rate chosen for each cell, with the mean validation top-1 of every rate, in per cent."""
    rows = []
    for cell, choice in plan.get("tuning", {}).items():
        tried = {
            f"at {lr:g}": wording.number(100 * (math.nan if top is None else top), ".1f")
            for lr, top in choice["val_top1"]
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


def problems(runs: pd.DataFrame) -> pd.DataFrame | None:
    """Return the replicates that did not finish, or whose solver leaves a doubt, with the reason."""
    doubtful = runs["reason"].str.contains("at the edge|did not converge", regex=True)
    odd = runs[(runs["status"] != "finished") | doubtful]
    return odd[["cell", "seed", "status", "reason"]] if len(odd) else None


def judged(plan: Mapping[str, Any]) -> pd.DataFrame | None:
    """Return the cells that are not simply valid, with the reason."""
    rows = [
        {key: j[key] for key in ("cell", "verdict", "reason")} for j in plan["judgements"] if j["verdict"] != "valid"
    ]
    return pd.DataFrame(rows) if rows else None


def settings(grid: Grid) -> pd.DataFrame:
    """Return every setting of a study, and what software and machine ran it."""
    values = {
        **grid.plan["settings"],
        **{f"axis {axis}": levels for axis, levels in grid.plan.get("axes", {}).items()},
        "seeds": ", ".join(map(str, grid.plan["seeds"])),
        "tricks": "; ".join(_trick_text(label, given) for label, given in grid.plan["tricks"].items()),
        **{name: ", ".join(found) for name, found in grid.software.items()},
    }
    rows = [{"setting": name.replace("_", " "), "value": _plain(value)} for name, value in values.items()]
    return pd.DataFrame(rows)


def _trick_text(label: str, given: Mapping[str, Any]) -> str:
    parameters = _plain({key: value for key, value in given.items() if key != "trick"})
    name = label if label == given["trick"] else f"{label} = {given['trick']}"
    return f"{name} ({parameters})" if parameters else name


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        shown = {key: _plain(item) for key, item in value.items() if item not in (None, {})}
        return ", ".join(f"{key.replace('_', ' ')} {text}" for key, text in shown.items() if text)
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
