"""What is trained first, and what policies make of it: do better source networks transfer better?"""

from __future__ import annotations

import math

import pandas as pd

from harness.contrasts import SOURCES
from harness.results import Grid, axes_of, scenario_of
from harness.tasks.metrics import TOP1, Metric
from harness.wording import mean_sd, points, points_between, trick_set

COLUMNS = ("policy", "scenario", "source", "source_top1", "score")
NOTE = (
    "Each point is one source network: its top-1 on test images of its own task, and the mean over seeds of what a "
    "policy makes of it without tricks. Differences are to the first scenario; with an axis "
    "`weights.pretrain.seed` the ± is the sd over source networks, and intervals cover other source networks as well."
)


def frame(grid: Grid, cells: pd.DataFrame) -> pd.DataFrame:
    """Return one row a policy without tricks, scenario and source network, with the top-1 of that and the score.

    `scenario` leaves out which of several source networks it is, `score` is the mean over seeds. Empty where all cells
    begin with one source network, or the plan trained none.
    """
    first = grid.prerequisites
    own = {} if first.empty else dict(zip(first["digest"], first[TOP1.test], strict=True))
    sources = {cell["cell"]: cell.get("source") for cell in grid.plan["cells"]}
    axes = [axis for axis in axes_of(cells) if axis != SOURCES]
    rows = [
        {
            "policy": row["policy"],
            "scenario": scenario_of(row, axes),
            "source": sources[row["cell"]],
            "source_top1": own[sources[row["cell"]]],
            "score": row[grid.score.mean],
        }
        for row in cells.to_dict("records")
        if trick_set(row["cell"]) == "baseline" and sources.get(row["cell"]) in own
    ]
    found = pd.DataFrame(rows, columns=[*COLUMNS])
    return found if found["source"].nunique() > 1 else found.iloc[:0]


def differences(found: pd.DataFrame, effects: pd.DataFrame, score: Metric) -> pd.DataFrame:
    """Return the effects of scenarios by policy and scenario, as `frame` names them: over all source networks."""
    rows = effects[(effects["kind"] == "scenario") & (effects["metric"] == score.test)]
    pooled = rows["scenario"].str.endswith(f"every {SOURCES}")
    if pooled.any():
        rows = rows[pooled].assign(
            **{
                name: rows[name].str.removesuffix(f"every {SOURCES}").str.rstrip(", ")
                for name in ("scenario", "against")
            }
        )
    first = found["scenario"].iloc[0] if len(found) else ""
    return rows[rows["against"] == first].set_index(["policy", "scenario"])


def table(found: pd.DataFrame, effects: pd.DataFrame, score: Metric) -> pd.DataFrame | None:
    """Return a row a scenario: top-1 of its source networks, and each policy's score and difference to the first."""
    if found.empty:
        return None
    against = differences(found, effects, score).to_dict("index")
    rows = []
    for scenario, group in found.groupby("scenario", sort=False):
        own = group.drop_duplicates("source")["source_top1"]
        row = {
            "scenario": scenario,
            "source networks": len(own),
            f"source test {TOP1.label}, %": mean_sd(own.mean(), own.std()),
        }
        for policy, cells in group.groupby("policy", sort=False):
            effect = against.get((policy, scenario), {"estimate": math.nan, "low": math.nan, "high": math.nan})
            row[f"{policy}: test {score.label}, %"] = mean_sd(cells["score"].mean(), cells["score"].std())
            row[f"{policy}: against the first, points"] = points(effect["estimate"])
            row[f"{policy}: 95 % interval"] = points_between(effect["low"], effect["high"])
        rows.append(row)
    return pd.DataFrame(rows)


def first_table(prerequisites: pd.DataFrame) -> pd.DataFrame | None:
    """Return what was trained before the cells: pretrained networks and teachers, with top-1 on tests of their own."""
    if prerequisites.empty:
        return None
    grouped = prerequisites.groupby(["what", "epochs"], sort=False)[TOP1.test].agg(["mean", "std", "size"])
    return pd.DataFrame(
        {
            "trained first": what,
            "networks": row["size"],
            "epochs": epochs,
            f"own test {TOP1.label}, %": mean_sd(row["mean"], row["std"]),
        }
        for (what, epochs), row in zip(grouped.index, grouped.to_dict("records"), strict=True)
    )
