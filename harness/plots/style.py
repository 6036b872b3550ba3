"""What all figures share: palette, rc, and the names of their rows."""

from __future__ import annotations

from typing import Any

import pandas as pd

from harness.results import axes_of, scenario_of

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
    "svg.hashsalt": "harness",  # the same figure gives the same bytes
    "svg.fonttype": "path",
}
GREY = "#767676"
HOLLOW = ("1", "2", "3", "4", "+", "x")
DASHES = ("-", ":", "--", "-.")
PANELS = 4
"""Panels side by side."""
SHAPES = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*", "p", "h", "d", "8", "H", *HOLLOW)


def rows_of(frame: pd.DataFrame) -> list[str]:
    """Return what a row of a figure is called: policy, and scenario where there are axes."""
    axes = axes_of(frame)
    return ["\n".join(filter(None, (row["policy"], scenario_of(row, axes)))) for row in frame.to_dict("records")]
