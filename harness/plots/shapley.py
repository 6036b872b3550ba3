"""Shapley values: the combined effect, divided fairly among the tricks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.plots.bars import bar, beside, in_words, label_rows
from harness.plots.style import GREY, PALE, STYLE, first, footer, grid, interval_name, on
from harness.tasks.metrics import TOP1, Metric
from harness.wording import points


def shapley(effects: pd.DataFrame, score: Metric = TOP1) -> Figure | None:
    """Draw the Shapley value of each trick on the score with its interval, the largest first, and their sum.

    The sum is the effect of all tricks together, as the design has it. One panel a policy, scenario and design. None
    where none is known.
    """
    found = on(score, effects, "shapley")
    if found["estimate"].isna().all():
        return None
    shown, note = first(list(dict.fromkeys(zip(found["row"], found["design"], strict=True))), "policies and scenarios")
    most = int(found.groupby(["row", "design"]).size().max())
    designs = found["design"].nunique()
    with mpl.rc_context(STYLE):
        figure, panels = grid(len(shown), 2, 4.6, 0.27 * (most + 1) + 0.75, sharex=True)
        for panel, (row, design) in zip(panels, shown, strict=True):
            group = found[(found["row"] == row) & (found["design"] == design)]
            _bars(panel, group.sort_values("estimate", ascending=False, kind="stable").to_dict("records"))
            title = row.replace("\n", ", ") + (f" ({design})" if designs > 1 else "")
            panel.set_title(title, fontsize=10)
        for panel in panels[-2:]:
            panel.set_xlabel(f"points of test {score.label}")
            panel.tick_params(labelbottom=True)
        figure.suptitle("Shapley values: each trick's share of the combined effect", x=0.01, ha="left", fontsize=11)
        name = interval_name(found)
        parts = [f"lines: {name}" if name else "", "hatched: a loss; sum: what they share out"]
        footer(figure, [*parts, note])
    return figure


def _bars(panel: Axes, effects: Sequence[Mapping[Any, Any]]) -> None:
    for y, effect in enumerate(effects):
        bar(panel, y, effect)
        spread = f", s.e. of orders {100 * effect['order_se']:.1f}" if effect["order_se"] > 0 else ""
        beside(panel, y, in_words(effect) + spread)
    total, last = sum(effect["estimate"] for effect in effects), len(effects)
    panel.barh(last, 100 * total, height=0.62, color=PALE)
    beside(panel, last, points(total))
    panel.axvline(0, color=GREY, lw=0.8, zorder=0)
    panel.axhline(last - 0.5, color=GREY, lw=0.6)
    label_rows(panel, range(last + 1), [*(effect["trick"] for effect in effects), "sum"])
