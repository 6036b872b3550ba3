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


def scenarios(cells: pd.DataFrame, score: Metric = TOP1) -> Figure | None:
    """Draw the mean score on test ± sd without tricks, policies down and scenarios across; the best of each is framed.

    None where there is one scenario alone.
    """
    axes = axes_of(cells)
    if not axes:
        return None
    known = [row for row in cells.to_dict("records") if trick_set(row["cell"]) == "baseline"]
    policies = list(dict.fromkeys(row["policy"] for row in known))
    columns = list(dict.fromkeys(scenario_of(row, axes) for row in known))
    by_place = {(row["policy"], scenario_of(row, axes)): row for row in known}
    shown = np.full((len(policies), len(columns)), np.nan)
    for (policy, scenario), row in by_place.items():
        shown[policies.index(policy), columns.index(scenario)] = 100 * row[score.mean]
    with mpl.rc_context(STYLE):
        size = (max(7.6, 2.1 + 1.25 * len(columns)), 1.9 + 0.48 * len(policies))
        figure = Figure(figsize=size, layout="constrained")
        panel = figure.add_subplot()
        cmap = mpl.colormaps["YlGnBu"].with_extremes(bad="#eeeeee")
        image = coloured(panel, shown, cmap, None, None)
        panel.set_xticks(
            range(len(columns)), [fill(name.replace(", ", ",\n"), 15, replace_whitespace=False) for name in columns]
        )
        panel.set_yticks(range(len(policies)), policies)
        for j, scenario in enumerate(columns):
            best = np.nanmax(shown[:, j], initial=-np.inf)
            for i, policy in enumerate(policies):
                row = by_place.get((policy, scenario), {})
                text = score_text(row, score) if row else "not run"
                number(panel, image, i, j, text)
                if shown[i, j] == best:
                    panel.add_patch(Rectangle((j - 0.48, i - 0.46), 0.96, 0.92, fill=False, ec="#D55E00", lw=2))
        figure.colorbar(image, ax=panel, shrink=0.9, pad=0.02, label=f"test {score.label}, %")
        panel.set_title(f"Test {score.label} without tricks, by policy and scenario")
        panel.set_xlabel(
            "mean ± sd over seeds, %, and how many replicates were lost; the highest mean of each scenario is framed",
            color=GREY,
        )
    return figure
