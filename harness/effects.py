"""Runs frame to cells and effects: paired differences over seeds, and what they cost."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from harness.results import axes_of
from harness.stats import LEVEL, paired_t
from harness.wording import trick_set

COSTS = ("images_per_s", "train_s", "peak_memory_bytes", "trainable_params")
OVER_SEEDS = f"{LEVEL:.0%} paired t over seeds"
OVER_ROUNDS = f"{LEVEL:.0%} paired t over probe rounds, log ratio"
EXACT = "exact difference"
COLUMNS = ("kind", "policy", "trick", "metric", "n", "estimate", "low", "high", "interval")


def cells(runs: pd.DataFrame) -> pd.DataFrame:
    """Return one row a cell: how many replicates finished and did not, mean and sd of test and validation top-1, costs.

    `runs` is the frame of `results.runs_frame`.
    """
    rows, axes = [], axes_of(runs)
    for cell, group in runs.groupby("cell", sort=False):
        finished = group[group["status"] == "finished"]
        tops = {
            f"{metric}_{name}": value
            for metric in ("test_top1", "val_top1")
            for name, value in (("mean", finished[metric].mean()), ("sd", finished[metric].std(ddof=1)))
        }
        rows.append(
            {
                "cell": cell,
                **{axis: group[axis].iloc[0] for axis in axes},
                "policy": group["policy"].iloc[0],
                **{trick: bool(group[trick].iloc[0]) for trick in tricks_of(runs)},
                "n": len(finished),
                "failed": int(group["status"].isin(["failed", "killed"]).sum()),
                "diverged": int((group["status"] == "diverged").sum()),
                "missing": int(group["status"].isin(["missing", "running", "scheduled"]).sum()),
                **tops,
                **{metric: finished[metric].mean() for metric in ("test_mean_per_class", *COSTS)},
            }
        )
    return pd.DataFrame(rows)


def tricks_of(runs: pd.DataFrame) -> list[str]:
    """Return the trick columns: those between `policy` and `seed`."""
    columns = list(runs.columns)
    return columns[columns.index("policy") + 1 : columns.index("seed")]


def effects(runs: pd.DataFrame, throughput: pd.DataFrame) -> pd.DataFrame:
    """Return one row an effect and metric.

    Kinds: `one_in`, a trick alone, and `combined`, several, against the same policy without tricks; `policy`, a policy
    without tricks against the first policy without tricks; each within its own scenario. Top-1 is paired by seed over
    the seeds that both sides finished; throughput is a log-ratio paired by probe round (positive is faster); memory and
    parameters are exact.
    `estimate`, `low` and `high` are NaN where nothing can be paired.
    """
    tricks, axes = tricks_of(runs), axes_of(runs)
    sets = runs.drop_duplicates("cell").to_dict("records")
    by_scenario: dict[tuple[Any, ...], dict[str, str]] = defaultdict(dict)
    for row in sets:
        if not any(row[trick] for trick in tricks):
            by_scenario[tuple(row[axis] for axis in axes)][row["policy"]] = row["cell"]
    rows: list[dict[str, Any]] = []
    for row in sets:
        levels = {axis: row[axis] for axis in axes}
        baselines = by_scenario[tuple(levels.values())]
        policy, active = row["policy"], [trick for trick in tricks if row[trick]]
        if active and policy in baselines:
            kind, base = "one_in" if len(active) == 1 else "combined", baselines[policy]
        elif not active and row["cell"] != next(iter(baselines.values())):
            kind, base = "policy", next(iter(baselines.values()))
        else:
            continue
        names = {**levels, "kind": kind, "policy": policy, "trick": trick_set(row["cell"]) if active else ""}
        rows += [{**names, **found} for found in _compare(runs, throughput, base, row["cell"])]
    return pd.DataFrame(rows, columns=[*axes, *COLUMNS])


def _compare(runs: pd.DataFrame, throughput: pd.DataFrame, base: str, cell: str) -> Iterator[dict[str, Any]]:
    finished = runs[runs["status"] == "finished"]
    yield _paired("test_top1", finished, "seed", base, cell, OVER_SEEDS)
    rates = throughput.assign(images_per_s=np.log(throughput["images_per_s"])) if len(throughput) else throughput
    if len(rates):
        yield _paired("images_per_s", rates, "round", base, cell, OVER_ROUNDS)
    for metric in ("peak_memory_bytes", "trainable_params"):
        sides = [finished.loc[finished["cell"] == side, metric].dropna() for side in (base, cell)]
        known = all(len(side) for side in sides)
        difference = sides[1].iloc[0] - sides[0].iloc[0] if known else math.nan
        n = min(len(side) for side in sides)
        yield _row(metric, n, difference, math.nan, math.nan, EXACT)


def _paired(metric: str, frame: pd.DataFrame, by: str, base: str, cell: str, interval: str) -> dict[str, Any]:
    table = frame.pivot_table(index=by, columns="cell", values=metric, observed=True).reindex(columns=[base, cell])
    differences = (table[cell] - table[base]).dropna().to_numpy()
    if not len(differences):
        return _row(metric, 0, math.nan, math.nan, math.nan, "none: no pair finished")
    found = paired_t(differences)
    if found.n == 1:
        interval = "none: n = 1"
    elif math.isnan(found.low):
        interval = "none: every pair differs alike"
    return _row(metric, found.n, found.estimate, found.low, found.high, interval)


def _row(metric: str, n: int, estimate: float, low: float, high: float, interval: str) -> dict[str, Any]:
    return {"metric": metric, "n": n, "estimate": estimate, "low": low, "high": high, "interval": interval}
