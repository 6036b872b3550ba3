"""Every policy in every scenario, without tricks."""

from __future__ import annotations

from textwrap import fill

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from harness.plots.matrix import coloured, number
from harness.plots.style import GREY, STYLE
from harness.results import axes_of, scenario_of
from harness.tasks.metrics import TOP1, Metric
from harness.wording import score_text, trick_set

_ACROSS = 8
"""Scenarios that stand side by side at most."""


def scenarios(cells: pd.DataFrame, score: Metric = TOP1) -> Figure | None:
    """Draw the mean score on test ± sd without tricks; the best policy of each scenario is framed.

    Policies down and scenarios across, or where these are many the other way. None where there is one scenario alone.
    """
    axes = axes_of(cells)
    if not axes:
        return None
    known = [row for row in cells.to_dict("records") if trick_set(row["cell"]) == "baseline"]
    policies = list(dict.fromkeys(row["policy"] for row in known))
    columns = list(dict.fromkeys(scenario_of(row, axes) for row in known))
    down = len(columns) > _ACROSS
    by_place = {(row["policy"], scenario_of(row, axes)): row for row in known}
    shown = np.full((len(policies), len(columns)), np.nan)
    for (policy, scenario), row in by_place.items():
        shown[policies.index(policy), columns.index(scenario)] = 100 * row[score.mean]
    with mpl.rc_context(STYLE):
        across, along = (policies, columns) if down else (columns, policies)
        size = (max(7.6, (4.2 if down else 2.1) + 1.25 * len(across)), 1.9 + (0.3 if down else 0.48) * len(along))
        figure = Figure(figsize=size, layout="constrained")
        panel = figure.add_subplot()
        cmap = mpl.colormaps["YlGnBu"].with_extremes(bad="#eeeeee")
        image = coloured(panel, shown.T if down else shown, cmap, None, None)
        panel.set_xticks(range(len(across)), [_broken(name) for name in across])
        panel.set_yticks(range(len(along)), along)
        for j, scenario in enumerate(columns):
            best = np.nanmax(shown[:, j], initial=-np.inf)
            for i, policy in enumerate(policies):
                row = by_place.get((policy, scenario), {})
                text = score_text(row, score) if row else "not run"
                y, x = (j, i) if down else (i, j)
                number(panel, image, y, x, text)
                if shown[i, j] == best:
                    panel.add_patch(Rectangle((x - 0.48, y - 0.46), 0.96, 0.92, fill=False, ec="#D55E00", lw=2))
        figure.colorbar(image, ax=panel, shrink=0.9, pad=0.02, label=f"test {score.label}, %")
        panel.set_title(f"Test {score.label} without tricks, by policy and scenario")
        note = "mean ± sd over seeds, %, and how many replicates were lost; the highest mean of each scenario is framed"
        panel.set_xlabel(fill(note, max(56, 30 * len(across))), color=GREY)
    return figure


def _broken(name: str) -> str:
    """Break a name into lines that fit a column: after commas and, where a line would be too long, after a plus."""
    lines = name.replace(", ", ",\n").replace("+", "+ ")
    return fill(lines, 15, replace_whitespace=False).replace("+ ", "+")
