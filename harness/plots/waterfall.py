"""Stacked contributions: what each step of a cumulative design adds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.plots.bars import bar, beside, in_words, label_rows
from harness.plots.matrix import by_place, largest, matrix, scale
from harness.plots.style import GREY, MOST, STYLE, first, footer, grid, interval_name, on, rows_of, unique
from harness.tasks.metrics import TOP1, Metric
from harness.wording import mean_sd, points

_PREFIX = "cumulative: "
_ORDERS = 3
"""Orders up to which each has its panel, and more while there is room for all of them."""

Mean = tuple[float, float]
"""Mean and sd of the score of a cell."""


def waterfall(effects: pd.DataFrame, cells: pd.DataFrame, score: Metric = TOP1) -> Figure | None:
    """Draw what each step of a cumulative design adds to the score, from the baseline's mean to the last set's.

    One panel a policy, scenario and order. Where these are many it draws instead the mean step of each trick by its
    place in the order: whether a gain depends on what came before. None where no step is known.
    """
    steps = on(score, effects, "step")
    if steps["estimate"].isna().all():
        return None
    stacks = steps.groupby("row")["design"].nunique()
    several = stacks.max() > _ORDERS and stacks.sum() > MOST
    return _by_position(steps, score) if several else _stacks(steps, _means(cells, score), score)


def _means(cells: pd.DataFrame, score: Metric) -> dict[tuple[str, frozenset[str]], Mean]:
    """Return mean and sd of each cell by row of the figure and trick set."""
    tricks = [name for name in cells.columns if cells[name].dtype == bool]
    rows = zip(cells.to_dict("records"), rows_of(cells), strict=True)
    return {
        (row, frozenset(trick for trick in tricks if cell[trick])): (cell[score.mean], cell[score.sd])
        for cell, row in rows
    }


def _order(design: str) -> list[str]:
    return design.removeprefix(_PREFIX).split(" > ")


def _stacks(steps: pd.DataFrame, means: Mapping[tuple[str, frozenset[str]], Mean], score: Metric) -> Figure:
    shown, note = first(list(dict.fromkeys(zip(steps["row"], steps["design"], strict=True))), "stacks")
    longest = max(len(_order(design)) for _, design in shown)
    with mpl.rc_context(STYLE):
        figure, panels = grid(len(shown), 2, 4.6, 0.27 * (longest + 2) + 0.75)
        for panel, (row, design) in zip(panels, shown, strict=True):
            _stack(panel, row, _order(design), _by_start(steps[steps["row"] == row]), means)
            orders = [other for place, other in shown if place == row]
            title = row.replace("\n", ", ") + (f", order {orders.index(design) + 1}" if len(orders) > 1 else "")
            panel.set_title(title, fontsize=10)
        for row in unique(pd.Series([row for row, _ in shown])):
            alike = [panel for panel, (other, _) in zip(panels, shown, strict=True) if other == row]
            ends = [panel.get_xlim() for panel in alike]
            for panel in alike:
                panel.set_xlim(min(low for low, _ in ends), max(high for _, high in ends))
        for panel in panels[-2:]:
            panel.set_xlabel(f"test {score.label}, %")
        figure.suptitle("What each trick adds to those above it", x=0.01, ha="left", fontsize=11)
        name = interval_name(steps)
        drawn = "diamonds: mean ± sd of the cell; bars: mean difference paired by seed, in points"
        footer(figure, [drawn, f"lines on bars: {name}" if name else "", "hatched: a loss", note])
    return figure


def _by_start(steps: pd.DataFrame) -> dict[tuple[str, frozenset[str]], Mapping[Any, Any]]:
    """Return steps by trick and what it was added to; one that several orders have is listed with the first."""
    found: dict[tuple[str, frozenset[str]], Mapping[Any, Any]] = {}
    for step in steps.to_dict("records"):
        order = _order(step["design"])
        found[step["trick"], frozenset(order[: order.index(step["trick"])])] = step
    return found


def _stack(
    panel: Axes,
    row: str,
    order: list[str],
    effects: Mapping[tuple[str, frozenset[str]], Mapping[Any, Any]],
    means: Mapping[tuple[str, frozenset[str]], Mean],
) -> None:
    nothing = (float("nan"), float("nan"))
    states = [means.get((row, frozenset(order[:k])), nothing) for k in range(len(order) + 1)]
    last = len(order) + 1
    for y, (mean, sd) in ((0, states[0]), (last, states[-1])):
        panel.errorbar(100 * mean, y, xerr=None if np.isnan(sd) else 100 * sd, fmt="D", color="black", ms=5, lw=1)
        beside(panel, y, mean_sd(mean, sd))
    for y, trick in enumerate(order, 1):
        start, step = 100 * states[y - 1][0], effects[trick, frozenset(order[: y - 1])]
        bar(panel, y, step, start)
        beside(panel, y, in_words(step))
        panel.plot([start, start], [y - 1, y], color=GREY, lw=0.7, ls=":", zorder=0)
    panel.plot([100 * states[-1][0]] * 2, [last - 1, last], color=GREY, lw=0.7, ls=":", zorder=0)
    label_rows(panel, range(last + 1), ["baseline", *(f"+ {trick}" for trick in order), "all of them"])


def _by_position(steps: pd.DataFrame, score: Metric) -> Figure:
    places = [
        _order(row["design"]).index(row["trick"]) + 1 if row["trick"] in _order(row["design"]) else 0
        for row in steps.to_dict("records")
    ]
    steps = steps.assign(place=[str(place) for place in places])
    shown, note = first(unique(steps["row"]), "policies and scenarios")
    tricks, columns = unique(steps["trick"]), sorted(set(steps["place"]), key=int)
    mean = steps.groupby(["row", "trick", "place"], sort=False)["estimate"].agg(["mean", "count"]).reset_index()
    table = mean.rename(columns={"mean": "estimate"}).assign(low=np.nan, high=np.nan)
    with mpl.rc_context(STYLE):
        figure, panels = grid(len(shown), 2, 1.5 + 0.62 * len(columns), 0.42 * len(tricks) + 0.6)
        for panel, row in zip(panels, shown, strict=True):
            found = by_place(table[table["row"] == row], "trick", "place")
            texts = {place: f"{points(effect['estimate'])}\n({effect['count']})" for place, effect in found.items()}
            image = matrix(panel, tricks, columns, found, texts, largest(table))
            panel.set_xticks(range(len(columns)), columns)
            panel.set_yticks(range(len(tricks)), tricks)
            panel.set_title(row.replace("\n", ", "), fontsize=10)
        for panel in panels[-2:]:
            panel.set_xlabel("place in the order")
        scale(figure, image, panels, score)
        figure.suptitle("What each trick adds, by its place in the order", x=0.01, ha="left", fontsize=11)
        footer(figure, ["mean step in points, and in brackets of how many distinct steps", note])
    return figure
