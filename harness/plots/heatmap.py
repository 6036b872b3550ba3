"""The effect of every trick set under every policy."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from harness.plots.style import GREY, STYLE, rows_of
from harness.wording import points


def heatmap(cells: pd.DataFrame, effects: pd.DataFrame) -> Figure:
    """Draw the effect of every trick set on test top-1, policies down and trick sets across, with its interval.

    `cells` and `effects` are the frames of `effects.py`. A cell without an effect says why; one that lost replicates,
    how many.
    """
    top = effects[(effects["metric"] == "test_top1") & (effects["kind"] != "policy")].copy()
    top["row"] = rows_of(top)
    cells = cells.assign(row=rows_of(cells))
    rows = list(dict.fromkeys(cells["row"]))
    columns = list(dict.fromkeys(top["trick"])) or ["no trick"]
    values = top.pivot_table(index="row", columns="trick", values="estimate", dropna=False, observed=False)
    shown = 100 * values.reindex(index=rows, columns=columns).to_numpy(dtype=float)
    with mpl.rc_context(STYLE):
        width = max(7.6, 2.1 + 1.18 * len(columns))  # wide enough for the title
        figure = Figure(figsize=(width, 1.65 + 0.72 * len(rows)), layout="constrained")
        axes = figure.add_subplot()
        limit = max(1.0, float(np.nanmax(np.abs(shown), initial=0.0)))
        cmap = mpl.colormaps["PuOr_r"].with_extremes(bad="#eeeeee")
        image = axes.imshow(np.ma.masked_invalid(shown), cmap=cmap, vmin=-limit, vmax=limit, aspect="auto")
        axes.set_xticks(range(len(columns)), [_wrap(name) for name in columns])
        axes.set_yticks(range(len(rows)), [_row_label(cells, name) for name in rows])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        for i, name in enumerate(rows):
            for j, trick in enumerate(columns):
                row = top[(top["row"] == name) & (top["trick"] == trick)]
                dark = abs(shown[i, j]) > 0.6 * limit
                axes.text(
                    j,
                    i,
                    _effect_text(row, cells),
                    ha="center",
                    va="center",
                    fontsize=8.5,
                    color="white" if dark else "black",
                )
        figure.colorbar(image, ax=axes, shrink=0.9, pad=0.02, label="points of test top-1")
        axes.set_title("Effect of each trick on test top-1, against the same policy without tricks")
        axes.set_xlabel(
            "trick set; in each cell the mean difference paired by seed, in points,\n"
            "and its 95 % t interval where there are two seeds or more",
            color=GREY,
        )
    return figure


def _wrap(name: str) -> str:
    return name.replace(" + ", "\n+ ").replace("_", "\n").replace(" together", "\ntogether")


def _row_label(cells: pd.DataFrame, name: str) -> str:
    mean = cells[cells["row"] == name].iloc[0].to_dict()["test_top1_mean"]
    return f"{name}\nbaseline {100 * mean:.1f} %" if pd.notna(mean) else f"{name}\nno baseline"


def _effect_text(row: pd.DataFrame, cells: pd.DataFrame) -> str:
    if row.empty:
        return "not run"
    effect = row.iloc[0].to_dict()
    if pd.isna(effect["estimate"]):
        return "no pair\nfinished"
    text = points(effect["estimate"])
    if pd.notna(effect["low"]):
        text += f"\n[{points(effect['low'])}, {points(effect['high'])}]"
    elif effect["n"] > 1:
        text += "\nin every seed"
    planned = cells[["n", "failed", "diverged", "missing"]].sum(axis=1).max()
    return text if effect["n"] == planned else f"{text}\n{effect['n']} of {planned} pairs"
