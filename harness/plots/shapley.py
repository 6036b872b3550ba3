"""Shapley values: the combined effect, divided fairly among the tricks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.plots.style import GAIN, GREY, LOSS, PALE, SMALL, STYLE, first, footer, grid, interval_name, top1
from harness.wording import points


def shapley(effects: pd.DataFrame) -> Figure | None:
    """Draw the Shapley value of each trick on test top-1 with its interval, the largest first, and their sum.

    The sum is the effect of all tricks together. One panel a policy, scenario and design. None where there are none.
    """
    found = top1(effects, "shapley")
    if found.empty:
        return None
    shown, note = first(list(dict.fromkeys(zip(found["row"], found["design"], strict=True))), "policies and scenarios")
    most = int(found.groupby(["row", "design"]).size().max())
    designs = found["design"].nunique()
    with mpl.rc_context(STYLE):
        figure, panels = grid(len(shown), 2, 4.6, 0.27 * (most + 1) + 0.75)
        for panel, (row, design) in zip(panels, shown, strict=True):
            group = found[(found["row"] == row) & (found["design"] == design)]
            _bars(panel, group.sort_values("estimate", ascending=False, kind="stable").to_dict("records"))  # type: ignore[arg-type]
            title = row.replace("\n", ", ") + (f" ({design})" if designs > 1 else "")
            panel.set_title(title, fontsize=10)
        for panel in panels[-2:]:
            panel.set_xlabel("points of test top-1")
        figure.suptitle("Shapley values: each trick's share of the combined effect", x=0.01, ha="left", fontsize=11)
        name = interval_name(found)
        parts = [f"lines: {name}" if name else "", "hatched: a loss; sum: the effect of all tricks together"]
        footer(figure, [*parts, note])
    return figure


def _bars(panel: Axes, effects: Sequence[Mapping[str, Any]]) -> None:
    for y, effect in enumerate(effects):
        if pd.notna(effect["estimate"]):
            gain = effect["estimate"] >= 0
            style: Any = {"color": GAIN} if gain else {"color": "white", "edgecolor": LOSS, "hatch": "////"}
            panel.barh(y, 100 * effect["estimate"], height=0.62, **style)
        if pd.notna(effect["low"]):
            panel.plot([100 * effect["low"], 100 * effect["high"]], [y, y], color="black", lw=1, solid_capstyle="butt")
        _right(panel, y, _said(effect))
    total = sum(effect["estimate"] for effect in effects)
    last = len(effects)
    panel.barh(last, 100 * total, height=0.62, color=PALE)
    _right(panel, last, points(total))
    panel.axvline(0, color=GREY, lw=0.8, zorder=0)
    panel.axhline(last - 0.5, color=GREY, lw=0.6)
    panel.set_yticks(range(last + 1), [*(effect["trick"] for effect in effects), "sum"])
    panel.set_ylim(last + 0.6, -0.6)
    panel.tick_params(axis="y", length=0)
    panel.spines["left"].set_visible(False)


def _right(panel: Axes, y: float, text: str) -> None:
    panel.text(1.02, y, text, transform=panel.get_yaxis_transform(), va="center", fontsize=SMALL)


def _said(effect: Mapping[str, Any]) -> str:
    if pd.isna(effect["estimate"]):
        return "no pair finished"
    text = points(effect["estimate"])
    if pd.notna(effect["low"]):
        text += f" [{points(effect['low'])}, {points(effect['high'])}]"
    if effect["order_se"] > 0:
        text += f", s.e. of orders {100 * effect['order_se']:.1f}"
    return text
