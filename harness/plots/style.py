"""What all figures share: palette, rc, the grid of panels, and the names of their rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from harness.results import axes_of, scenario_of
from harness.tasks.metrics import Metric

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
"""Okabe and Ito's palette, which the colour-blind can tell apart."""

STYLE: Any = {
    "figure.dpi": 100,
    "savefig.dpi": 160,
    "font.size": 9.5,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "hatch.linewidth": 0.6,
    "svg.hashsalt": "harness",  # the same figure gives the same bytes
    "svg.fonttype": "path",
    "pdf.fonttype": 42,  # TrueType: publishers refuse Type 3
}
GREY = "#767676"
PALE = "#b8b8b8"
GAIN, LOSS = COLOURS[0], COLOURS[1]
TEXT = 8.5
SMALL = 8.0
"""The smallest text there is, in points at the size saved."""
HOLLOW = ("1", "2", "3", "4", "+", "x")
DASHES = ("-", ":", "--", "-.")
PANELS = 4
"""Panels side by side."""
MOST = 12
"""Panels of one figure: the first so many are drawn, and the figure says of how many."""
SHAPES = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*", "p", "h", "d", "8", "H", *HOLLOW)
MARKS = {"helps": "▲", "hurts": "▼", "makes no difference": "=", "no evidence": "○", "": ""}
"""How a figure without room for words marks a claim."""


def rows_of(frame: pd.DataFrame) -> list[str]:
    """Return what a row of a figure is called: policy, and scenario where there are axes.

    Frames of effects say their scenario in a column, frames of cells and curves have a column an axis.
    """
    axes = axes_of(frame)
    return [
        "\n".join(filter(None, (row["policy"], row.get("scenario") or scenario_of(row, axes))))
        for row in frame.to_dict("records")
    ]


def on(score: Metric, effects: pd.DataFrame, *kinds: str) -> pd.DataFrame:
    """Return the effects of some kinds on a score, with the `row` of a figure that each belongs to."""
    found = effects[(effects["metric"] == score.test) & effects["kind"].isin(kinds)]
    return found.assign(row=rows_of(found)).reset_index(drop=True)


def unique(values: pd.Series) -> list[str]:
    """Return the distinct values in the order they come."""
    return list(dict.fromkeys(values))


def interval_name(effects: pd.DataFrame) -> str:
    """Return the words that name the intervals of these effects; empty where none has any."""
    return " or ".join(unique(effects.loc[effects["low"].notna(), "interval"]))


def grid(count: int, wide: int, width: float, height: float, *, sharex: bool = False) -> tuple[Figure, list[Axes]]:
    """Return a figure with `count` panels, at most `wide` side by side, each of so many inches."""
    wide = min(count, wide)
    deep = -(-count // wide)
    figure = Figure(figsize=(max(7.6, width * wide), height * deep + 1.0), layout=ConstrainedLayoutEngine(w_pad=0.1))
    panels = list(figure.subplots(deep, wide, squeeze=False, sharex=sharex).flat)
    for panel in panels[count:]:
        panel.set_visible(False)
    return figure, panels[:count]


def first(names: Sequence[Any], what: str, most: int = MOST) -> tuple[list[Any], str]:
    """Return the first `most` of what would each be a panel, and a note where there are more."""
    note = f"the first {most} of {len(names)} {what}" if len(names) > most else ""
    return list(names[:most]), note


def footer(figure: Figure, notes: Sequence[str], handles: Sequence[Any] = ()) -> None:
    """Write notes, and a legend below them, under the panels of a figure."""
    style: Any = {"frameon": False, "fontsize": TEXT, "title_fontsize": TEXT, "alignment": "left", "borderpad": 0.2}
    if notes := [note for note in notes if note]:
        style["title"] = "\n".join(notes)
    if handles or notes:
        legend = figure.legend(handles=handles, loc="outside lower left", ncols=min(3, max(1, len(handles))), **style)
        legend.get_title().set_color(GREY)
