"""Every policy in every scenario, without tricks."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from harness.plots.style import GREY, STYLE
from harness.results import axes_of, scenario_of
from harness.wording import mean_sd, trick_set


def scenarios(cells: pd.DataFrame) -> Figure:
    """Draw mean test top-1 ± sd without tricks, policies down and scenarios across; the best of each is framed."""
    axes = axes_of(cells)
    known = [row for row in cells.to_dict("records") if trick_set(row["cell"]) == "baseline"]
    policies = list(dict.fromkeys(row["policy"] for row in known))
    columns = list(dict.fromkeys(scenario_of(row, axes) for row in known))
    by_place = {(row["policy"], scenario_of(row, axes)): row for row in known}
    shown = np.full((len(policies), len(columns)), np.nan)
    for (policy, scenario), row in by_place.items():
        shown[policies.index(policy), columns.index(scenario)] = 100 * row["test_top1_mean"]
    with mpl.rc_context(STYLE):
        size = (max(7.6, 2.1 + 1.25 * len(columns)), 1.9 + 0.48 * len(policies))
        figure = Figure(figsize=size, layout="constrained")
        panel = figure.add_subplot()
        cmap = mpl.colormaps["YlGnBu"].with_extremes(bad="#eeeeee")
        image = panel.imshow(np.ma.masked_invalid(shown), cmap=cmap, aspect="auto")
        panel.set_xticks(range(len(columns)), [name.replace(", ", ",\n") for name in columns])
        panel.set_yticks(range(len(policies)), policies)
        panel.tick_params(length=0)
        panel.spines[:].set_visible(False)
        middle = np.nanmean([np.nanmin(shown), np.nanmax(shown)]) if np.isfinite(shown).any() else 0
        for j, scenario in enumerate(columns):
            best = np.nanmax(shown[:, j], initial=-np.inf)
            for i, policy in enumerate(policies):
                row = by_place.get((policy, scenario), {})
                text = mean_sd(row["test_top1_mean"], row["test_top1_sd"]) if row else "not run"
                dark = bool(shown[i, j] > middle)
                panel.text(j, i, text, ha="center", va="center", fontsize=8.5, color="white" if dark else "black")
                if shown[i, j] == best:
                    panel.add_patch(Rectangle((j - 0.48, i - 0.46), 0.96, 0.92, fill=False, ec="#D55E00", lw=2))
        figure.colorbar(image, ax=panel, shrink=0.9, pad=0.02, label="test top-1, %")
        panel.set_title("Test top-1 without tricks, by policy and scenario")
        panel.set_xlabel("mean ± sd over seeds, %; the highest mean of each scenario is framed", color=GREY)
    return figure
