"""The budget view: which policy and trick set to take where training time is short."""

from __future__ import annotations

import pandas as pd

from harness.results import axes_of, scenario_of
from harness.tasks.metrics import TOP1, Metric
from harness.wording import mean_sd, some


def frontier(cells: pd.DataFrame, score: Metric = TOP1) -> pd.DataFrame:
    """Return the cells worth their time, the quickest first: each does better on validation than all quicker ones.

    One frontier for each scenario. The choice is made on validation, since a maximum over scores on test flatters
    itself; the time is that of the training steps at the probed rate, and of a teacher, not of choosing a learning
    rate nor of pretraining. Cells without a probed rate are left out, and those that lack a replicate: the mean of the
    others is a selection.
    """
    axes, val_mean = axes_of(cells), score.val_mean
    known = _complete(cells, score)
    known = known.assign(scenario=[scenario_of(row, axes) for row in known.to_dict("records")])
    ranked = known.sort_values(["train_s", val_mean], ascending=[True, False], kind="stable")
    best = ranked.groupby("scenario")[val_mean].cummax()
    first = ~ranked.assign(best=best).duplicated(["scenario", "best"])
    places = {scenario: place for place, scenario in enumerate(dict.fromkeys(known["scenario"]))}
    return ranked[first].sort_values("scenario", key=lambda s: s.map(places), kind="stable").reset_index(drop=True)


def _complete(cells: pd.DataFrame, score: Metric) -> pd.DataFrame:
    lost = cells[["failed", "diverged", "missing"]].sum(axis=1)
    return cells[lost == 0].dropna(subset=["train_s", score.val_mean])


def within(cells: pd.DataFrame, seconds: float, score: Metric = TOP1) -> list[str]:
    """Return, for each scenario, the cell that did best on validation of those that train within so many seconds."""
    lines = []
    for scenario, rows in frontier(cells, score).groupby("scenario", sort=False):
        name = str(scenario)
        fitting = rows[rows["train_s"] <= seconds]
        at = f" at {name}" if name else ""
        if fitting.empty:
            quickest = rows.iloc[0]
            lines.append(
                f"Within {seconds:g} s of training{at}: nothing; the quickest cell, {quickest['cell']}, takes "
                f"{quickest['train_s']:.3g} s."
            )
            continue
        best = fitting.iloc[-1]
        lines.append(
            f"Within {seconds:g} s of training{at}: {best['cell']} ({best['train_s']:.3g} s), test {score.label} "
            f"{mean_sd(best[score.mean], best[score.sd])} %."
        )
    left_out = cells.loc[~cells.index.isin(_complete(cells, score).index), "cell"].tolist()
    if left_out:
        lines.append(f"Not considered, since their time is not measured or a replicate is missing: {some(left_out)}.")
    return lines
