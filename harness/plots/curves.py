"""Learning curves."""

from __future__ import annotations

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from harness.plots.style import COLOURS, DASHES, PANELS, STYLE, rows_of, unique
from harness.tasks.metrics import TOP1, Metric
from harness.wording import trick_set

MOST = 16
"""Trick sets that are told apart at most: two dashes of eight colours."""


def learning_curves(curves: pd.DataFrame, score: Metric = TOP1) -> Figure | None:
    """Draw the score on validation by epoch, a panel a policy, a line a trick set: the mean and the range over seeds.

    What was trained in one go, as the solvers are, is a dot. Of more trick sets than lines can be told apart, those of
    one trick, of none and of all are drawn. None where nothing was trained.
    """
    if curves.empty:
        return None
    curves = curves.assign(row=rows_of(curves))
    rows = list(dict.fromkeys(curves["row"]))
    sets = curves["cell"].map(trick_set)
    names, note = _drawn(unique(sets))
    curves = curves[sets.isin(names)]
    with mpl.rc_context(STYLE):
        wide = min(len(rows), PANELS)
        deep = -(-len(rows) // PANELS)
        figure = Figure(figsize=(max(7.6, 2.75 * wide + 0.6), 2.3 * deep + 1.4), layout="constrained")
        panels = list(figure.subplots(deep, wide, sharey=True, sharex=True, squeeze=False).flat)
        for panel, row in zip(panels, rows, strict=False):
            for cell, group in curves[curves["row"] == row].groupby("cell", sort=False):
                name = trick_set(str(cell))
                index = names.index(name)
                line = {"color": COLOURS[index % len(COLOURS)], "ls": DASHES[index // len(COLOURS) % len(DASHES)]}
                by_epoch = 100 * group.groupby("epoch")[score.val].agg(["mean", "min", "max"])
                dot = "o" if len(by_epoch) == 1 else ""
                panel.plot(by_epoch.index, by_epoch["mean"], lw=1.4, marker=dot, ms=5, label=name, **line)
                panel.fill_between(
                    by_epoch.index, by_epoch["min"], by_epoch["max"], color=line["color"], alpha=0.10, lw=0
                )
            panel.set_title(row, fontsize=10)
            panel.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        for panel in panels[len(rows) :]:
            panel.set_visible(False)
        handles = {label: h for panel in panels for h, label in zip(*panel.get_legend_handles_labels(), strict=True)}
        if handles:
            figure.legend(
                handles.values(),
                handles,
                loc="outside lower center",
                title=note or None,
                ncols=min(4, len(handles)),
                frameon=False,
                fontsize=8.5,
            )
        for panel in panels[max(0, len(rows) - wide) : len(rows)]:
            panel.set_xlabel("epoch")
            panel.tick_params(labelbottom=True)
        figure.supylabel(f"validation {score.label}, %", fontsize=9.5)
        figure.suptitle("Learning curves by policy: mean and range over seeds", x=0.01, ha="left", fontsize=11)
    return figure


def _drawn(names: list[str]) -> tuple[list[str], str]:
    """Return the trick sets to draw, and what is said of those left out."""
    if len(names) <= MOST:
        return names, ""
    plain = [name for name in names if " + " not in name and not name.startswith("all but")]
    kept = (plain if len(plain) > 1 else names)[:MOST]
    return kept, f"{len(kept)} of {len(names)} trick sets"
