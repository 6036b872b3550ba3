"""Bars, intervals and texts of figures whose rows stand below each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from harness.plots.style import GAIN, LOSS, SMALL
from harness.wording import points, points_between


def bar(panel: Axes, y: float, effect: Mapping[Any, Any], start: float = 0.0) -> None:
    """Draw an effect as a bar from `start`, in points of the score, with its interval; a loss is hatched too."""
    style: Any = {"color": GAIN} if effect["estimate"] >= 0 else {"color": "white", "ec": LOSS, "hatch": "////"}
    panel.barh(y, 100 * effect["estimate"], left=start, height=0.62, **style)
    interval(panel, y, start + 100 * effect["low"], start + 100 * effect["high"], color="black", lw=1.0)


def interval(panel: Axes, y: float, low: float, high: float, color: str, lw: float) -> None:
    """Draw an interval, if there is one."""
    if pd.notna(low):
        panel.plot([low, high], [y, y], color=color, lw=lw, solid_capstyle="butt")


def beside(panel: Axes, y: float, text: str, bold: bool = False) -> None:
    """Write at the right of a row."""
    place = panel.get_yaxis_transform()
    panel.text(1.02, y, text, transform=place, va="center", fontsize=SMALL, weight="bold" if bold else "normal")


def in_words(effect: Mapping[Any, Any]) -> str:
    """Return an estimate and its interval in points."""
    if pd.isna(effect["estimate"]):
        return "no pair finished"
    between = points_between(effect["low"], effect["high"])
    return points(effect["estimate"]) + (f" [{between}]" if pd.notna(effect["low"]) else "")


def label_rows(panel: Axes, places: Sequence[float], labels: Sequence[str]) -> None:
    """Name the rows at the left, without an axis; the first stands at the top."""
    panel.set_yticks(places, labels)
    panel.tick_params(axis="y", length=0)
    panel.spines["left"].set_visible(False)
    panel.set_ylim(max(places) + 0.6, min(places) - 0.6)
