"""Effects with their intervals, below each other: what a trick does alone, among all others, and on average."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from harness.plots.bars import beside, interval, label_rows
from harness.plots.style import COLOURS, GREY, PALE, STYLE, first, footer, interval_name, on, unique
from harness.tasks.metrics import TOP1, Metric
from harness.wording import points

_KINDS = {
    "one_in": ("alone", "o", COLOURS[0]),
    "leave_one_out": ("in the presence of all others", "s", COLOURS[1]),
    "main": ("mean over the factorial", "D", COLOURS[2]),
    "combined": ("together", "P", "black"),
    "synergy": ("beyond the sum of each alone", "X", COLOURS[3]),
    "policy": ("policy without tricks", "v", COLOURS[5]),
}
"""By kind: what it is in words, its marker, its colour."""
_MOST = 6
"""Panels of policies and scenarios; those with primary contrasts come first and are never left out."""
_LINE = 0.17
"""Inches of an effect."""
_GAP = 0.5
"""Lines between one trick and the next."""
_BEYOND = 6
"""The axis ends at so many times the largest estimate: intervals of two seeds would leave no room for the effects."""
_WIDER = 4
"""Nor does it reach further beyond the outermost estimate than so many times half the middle interval."""


def forest(effects: pd.DataFrame, score: Metric = TOP1) -> Figure | None:
    """Draw effects on the score with intervals: a panel a policy and scenario, and one of policies without tricks.

    The effects of a trick stand below each other: alone, in the presence of all others, as mean over a factorial.
    A primary contrast is thick and filled, has its simultaneous interval and says its claim; its bound is half the
    width of the band in which an effect counts as no difference. None where no effect is known.
    """
    found = on(score, effects, *_KINDS)
    if found["estimate"].isna().all():
        return None
    bounds = found["bound"].dropna()
    bound = float(bounds.iloc[0]) if len(bounds) else None
    panels, note = _panels(found)
    wide = min(2, len(panels))
    heights = [max(_lines(table) for table in list(panels.values())[k : k + wide]) for k in range(0, len(panels), wide)]
    with mpl.rc_context(STYLE):
        size = (9.2 if wide > 1 else 7.6, sum(_LINE * lines + 0.45 for lines in heights) + 1.7)
        figure = Figure(figsize=size, layout="constrained")
        places = list(figure.subplots(len(heights), wide, squeeze=False, height_ratios=heights).flat)
        for number, (title, table) in enumerate(panels.items()):
            alike = pd.concat([other for other in panels.values() if _of_tricks(other) == _of_tricks(table)])
            places[number].set_xlim(*_limits(alike, bound))
            _draw(places[number], table, bound, _repeated(found))
            places[number].set_ylim(heights[number // wide], 0)
            places[number].set_title(title, fontsize=10)
        for panel in places[len(panels) :]:
            panel.set_visible(False)
        for panel in places[max(0, len(panels) - wide) : len(panels)]:
            panel.set_xlabel(f"difference in test {score.label}, points")
        figure.suptitle(f"Effects on test {score.label}", x=0.01, ha="left", fontsize=11)
        footer(figure, [note, *_notes(found)], _handles(found, bound))
    return figure


def _panels(found: pd.DataFrame) -> tuple[dict[str, pd.DataFrame], str]:
    """Return the effects of each panel by its title, in the order they stand, with a column `name` of their labels."""
    orders = {"trick": unique(found["trick"]), "kind": list(_KINDS)}
    tricks = found[found["kind"] != "policy"].sort_values(
        ["trick", "kind"], key=lambda column: column.map(orders[str(column.name)].index), kind="stable"
    )
    rows = unique(found.loc[found["kind"] != "policy", "row"])
    primary = set(found.loc[found["role"] == "primary", "row"])
    if len(rows) > _MOST:
        rows = sorted(rows, key=lambda row: row not in primary)
    rows, note = first(rows, "policies and scenarios", max(_MOST, len(primary)))
    panels = {row.replace("\n", ", "): tricks[tricks["row"] == row].assign(name=tricks["trick"]) for row in rows}
    policies = found[found["kind"] == "policy"].assign(name=found["policy"])
    for against in unique(policies["against"]):
        for scenario in unique(policies["scenario"]):
            table = policies[(policies["against"] == against) & (policies["scenario"] == scenario)]
            if len(table):
                panels["\n".join(filter(None, [f"without tricks, against {against}", scenario]))] = table
    return panels, note


def _of_tricks(table: pd.DataFrame) -> bool:
    return bool((table["kind"] != "policy").all())


def _lines(table: pd.DataFrame) -> float:
    return len(table) + _GAP * table["name"].nunique()


def _ends(effect: Mapping[Any, Any]) -> tuple[float, float]:
    """Return the interval that is drawn: the simultaneous one of a primary contrast."""
    simultaneous = effect["role"] == "primary" and pd.notna(effect["simultaneous_low"])
    prefix = "simultaneous_" if simultaneous else ""
    return float(effect[f"{prefix}low"]), float(effect[f"{prefix}high"])


def _limits(table: pd.DataFrame, bound: float | None) -> tuple[float, float]:
    """Return the ends of an axis in points."""
    ends = np.array([_ends(effect) for effect in table.to_dict("records")])
    estimates = np.append(table["estimate"].dropna(), (-(bound or 0.0), bound or 0.0))
    most = _BEYOND * max(0.001, table["estimate"].abs().max())
    wider = _WIDER * np.nanmedian(ends[:, 1] - ends[:, 0]) / 2 if np.isfinite(ends).any() else 0.0
    least, greatest = max(-most, estimates.min() - wider), min(most, estimates.max() + wider)
    known = np.append(np.clip(ends[~np.isnan(ends)], least, greatest), estimates)
    margin = 0.05 * max(known.max() - known.min(), 0.002)
    return 100 * (known.min() - margin), 100 * (known.max() + margin)


def _repeated(found: pd.DataFrame) -> set[str]:
    """Return the kinds that come from several designs, which then have to be named."""
    designs = found.groupby("kind")["design"].nunique()
    return set(designs[designs > 1].index)


def _draw(panel: Axes, table: pd.DataFrame, bound: float | None, repeated: set[str]) -> None:
    panel.axvline(0, color=GREY, lw=0.8, zorder=0)
    if bound is not None:
        panel.axvspan(-100 * bound, 100 * bound, color="#e8e8e8", lw=0, zorder=-1)
    ticks: dict[str, float] = {}
    y = _GAP / 2
    for name in unique(table["name"]):
        group = table[table["name"] == name].to_dict("records")
        ticks[name] = y + len(group) / 2
        for effect in group:
            y += 0.5
            _line(panel, effect, y)
            beside(panel, y, _said(effect, repeated), bold=bool(effect["claim"]))
            y += 0.5
        y += _GAP
        panel.axhline(y - _GAP / 2, color="#e8e8e8", lw=0.6, zorder=-2)
    label_rows(panel, list(ticks.values()), list(ticks))


def _line(panel: Axes, effect: Mapping[Any, Any], y: float) -> None:
    _, marker, colour = _KINDS[effect["kind"]]
    primary = effect["role"] == "primary"
    low, high = _ends(effect)
    interval(panel, y, 100 * low, 100 * high, color=colour, lw=2.6 if primary else 1.0)
    left, right = panel.get_xlim()
    for end, beyond, arrow in ((left, 100 * low < left, "<"), (right, 100 * high > right, ">")):
        if beyond:
            panel.plot(end, y, arrow, color=colour, ms=5, clip_on=False)
    fill = colour if primary else "white"
    panel.plot(100 * effect["estimate"], y, marker, color=colour, ms=6 if primary else 5, mfc=fill, mew=1.1)


def _said(effect: Mapping[Any, Any], repeated: set[str]) -> str:
    """Return the estimate, the claim, and what else a reader has to know of an effect."""
    parts = [points(effect["estimate"]) if pd.notna(effect["estimate"]) else "no pair finished", effect["claim"]]
    if effect["kind"] in repeated:
        parts.append(f"({effect['design']})")
    if effect["diverged"] > 0:
        parts.append(f"{100 * effect['diverged']:.0f} % diverged")
    return "  ".join(filter(None, parts))


def _notes(found: pd.DataFrame) -> list[str]:
    name = interval_name(found)
    primary = (found["role"] == "primary").any()
    return [
        f"lines: {name}" if name else "",
        "thick: primary contrasts, with simultaneous intervals; thin: exploratory" if primary else "",
    ]


def _handles(found: pd.DataFrame, bound: float | None) -> list[Any]:
    kinds = [kind for kind in _KINDS if kind in set(found["kind"])]
    handles: list[Any] = [
        Line2D([], [], color=_KINDS[kind][2], marker=_KINDS[kind][1], mfc="white", lw=1, label=_KINDS[kind][0])
        for kind in kinds
    ]
    if bound is not None:
        handles.append(
            Patch(color=PALE, alpha=0.4, lw=0, label=f"interval in ±{100 * bound:.1f} points: no difference")
        )
    return handles
