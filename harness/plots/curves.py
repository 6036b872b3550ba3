"""Learning curves."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from harness.plots.style import COLOURS, DASHES, PANELS, STYLE, rows_of, unique
from harness.results import axes_of, scenario_of
from harness.tasks.metrics import TOP1, Metric
from harness.wording import trick_set

MOST = 16
"""Lines that are told apart at most: two dashes of eight colours."""
_POLICIES = 8
"""Policies that are compared in one panel at most: as many as there are colours."""


def learning_curves(curves: pd.DataFrame, score: Metric = TOP1) -> Figure | None:
    """Draw the score on validation by epoch, a panel a policy, a line a trick set: the mean and the range over seeds.

    Trainings of unlike numbers of epochs are drawn by step, as epochs of few images are shorter than those of many.
    Policies without tricks in scenarios are the lines of a panel a scenario; where they are many, scenarios are the
    lines of a panel a policy. What was trained in one go, as the solvers are, is a dot. Of more trick sets than lines
    can be told apart, those of one trick, of none and of all are drawn. None where nothing was trained.
    """
    if curves.empty:
        return None
    curves = _placed(curves)
    time = _time(curves)
    rows = unique(curves["panel"])
    names, note = _drawn(unique(curves["line"]))
    curves = curves[curves["line"].isin(names)]
    with mpl.rc_context(STYLE):
        wide = min(len(rows), PANELS)
        deep = -(-len(rows) // PANELS)
        figure = Figure(figsize=(max(7.6, 2.75 * wide + 0.6), 2.3 * deep + 1.4), layout="constrained")
        panels = list(figure.subplots(deep, wide, sharey=True, squeeze=False).flat)
        for panel, row in zip(panels, rows, strict=False):
            for name, group in curves[curves["panel"] == row].groupby("line", sort=False):
                index = names.index(str(name))
                line = {"color": COLOURS[index % len(COLOURS)], "ls": DASHES[index // len(COLOURS) % len(DASHES)]}
                along = 100 * group.groupby(time)[score.val].agg(["mean", "min", "max"])
                dot = "o" if len(along) == 1 else ""
                panel.plot(along.index, along["mean"], lw=1.4, marker=dot, ms=5, label=name, **line)
                panel.fill_between(along.index, along["min"], along["max"], color=line["color"], alpha=0.10, lw=0)
            panel.set_title(row, fontsize=10)
            panel.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            if all(len(line.get_xdata()) == 1 for line in panel.get_lines()):
                panel.set_xticks(sorted({int(line.get_xdata()[0]) for line in panel.get_lines()}))
        for panel in panels[len(rows) :]:
            panel.set_visible(False)
        handles: dict[str, Any] = {}
        for panel in panels:
            for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
                handles.setdefault(label, handle)  # of the first: those of solvers are dots
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
            panel.set_xlabel(time)
        figure.supylabel(f"validation {score.label}, %", fontsize=9.5)
        figure.suptitle("Learning curves: mean and range over seeds", x=0.01, ha="left", fontsize=11)
    return figure


def _placed(curves: pd.DataFrame) -> pd.DataFrame:
    """Return the curves with the panel and the line that each belongs to."""
    axes, sets = axes_of(curves), curves["cell"].map(trick_set)
    if not axes or sets.nunique() > 1:
        return curves.assign(panel=rows_of(curves), line=sets)
    scenarios = [scenario_of(row, axes) for row in curves.to_dict("records")]
    if curves["policy"].nunique() > _POLICIES:
        return curves.assign(panel=curves["policy"], line=scenarios)
    return curves.assign(panel=scenarios, line=curves["policy"])


def _time(curves: pd.DataFrame) -> str:
    """Return the column that trainings can be compared along; what was trained in one go has no say in it."""
    epochs = curves.groupby("cell")["epoch"].max()
    return "step" if epochs[epochs > 1].nunique() > 1 else "epoch"


def _drawn(names: list[str]) -> tuple[list[str], str]:
    """Return the lines to draw, and what is said of those left out."""
    if len(names) <= MOST:
        return names, ""
    plain = [name for name in names if " + " not in name and not name.startswith("all but")]
    kept = (plain if len(plain) > 1 else names)[:MOST]
    return kept, f"{len(kept)} of {len(names)} lines"
