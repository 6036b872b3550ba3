"""The score against what it costs: speed, memory, time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, product
from textwrap import fill
from typing import Any, Literal

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from harness.budget import frontier
from harness.plots.style import COLOURS, GREY, HOLLOW, LOSS, PALE, SHAPES, SMALL, STYLE, TEXT, first, unique
from harness.results import axes_of, scenario_of
from harness.tasks.metrics import TOP1, Metric
from harness.wording import number, trick_set

MOST_SCENARIOS = 6


@dataclass(frozen=True)
class Cost:
    """What lies along the x axis."""

    column: str
    sign: Literal[-1, 1]
    """1 where more is better, −1 where less is."""
    label: str
    title: str
    """Of the figure; {} is the score."""
    edge: str
    """What is said of the front."""
    unit: float = 1.0
    say: str = "{}"
    """A value in words, beside the name of a cell on the front."""


SPEED = Cost(
    column="images_per_s",
    sign=1,
    label="training speed, images per second (exclusive probe; log scale)",
    title="{} against training speed, one point a cell",
    edge="none faster and better",
    say="{} images/s",
)
MEMORY = Cost(
    column="peak_memory_bytes",
    sign=-1,
    label="peak memory of training, MiB (log scale)",
    title="{} against peak memory, one point a cell",
    edge="none leaner and better",
    unit=2**20,
    say="{} MiB",
)
TIME = Cost(
    column="train_s",
    sign=-1,
    label="training time, seconds (log scale)",
    title="What to train within a time: the best cell by then",
    edge="best on validation within the time",
    say="from {} s",
)


def pareto(cells: pd.DataFrame, score: Metric = TOP1) -> Figure | None:
    """Draw the mean score on test with its sd against images per second, one point a cell, and the front none beats.

    One panel a scenario: scenarios may differ in their data, so no front spans two. Colour says the policy, shape the
    trick set; where there are more policies than colours, the front is numbered and named instead. None where no cell
    has both figures.
    """
    return _tradeoff(cells, SPEED, score, named=False)


def memory(cells: pd.DataFrame, score: Metric = TOP1) -> Figure | None:
    """Draw the mean score on test with its sd against peak memory as `pareto` does against speed."""
    return _tradeoff(cells, MEMORY, score, named=False)


def budget(cells: pd.DataFrame, score: Metric = TOP1) -> Figure | None:
    """Draw the mean score on test against training time and, as steps, the best cell within each time, by name."""
    return _tradeoff(cells, TIME, score, named=True)


def pareto_front(cells: pd.DataFrame, cost: Cost = SPEED, score: Metric = TOP1) -> pd.DataFrame:
    """Return the cells that no other beats in both score and cost, the lowest images per second, bytes or s first.

    `cells` are of one scenario.
    """
    known, mean = _known(cells, cost, score), score.mean
    ranked = known.sort_values([cost.column, mean], ascending=[cost.sign == -1, False])
    best = ranked[mean].cummax()
    front = ranked[(ranked[mean] == best) & ~best.duplicated()]
    return front.iloc[::-1] if cost.sign == 1 else front


def _known(cells: pd.DataFrame, cost: Cost, score: Metric) -> pd.DataFrame:
    return cells.dropna(subset=[score.mean, cost.column])


def _tradeoff(cells: pd.DataFrame, cost: Cost, score: Metric, *, named: bool) -> Figure | None:
    axes = axes_of(cells)
    cells = cells.assign(scenario=[scenario_of(row, axes) for row in cells.to_dict("records")])
    known = _known(cells, cost, score)
    if known.empty:
        return None
    scenarios, note = first(unique(known["scenario"]), "scenarios", MOST_SCENARIOS)
    colours = dict(zip(unique(known["policy"]), cycle(COLOURS), strict=False))
    shapes = dict(zip(unique(known["cell"].map(trick_set)), cycle(SHAPES), strict=False))
    if len(colours) > len(COLOURS):
        colours = dict.fromkeys(colours, PALE)
    named = named or len(shapes) > len(SHAPES) or PALE in colours.values()
    if named:
        shapes = dict.fromkeys(shapes, "o")
    by_scenario = [known[known["scenario"] == scenario] for scenario in scenarios]
    # A cell is chosen on validation; a front of scores on test only describes.
    fronts = [frontier(rows, score) if cost is TIME else pareto_front(rows, cost, score) for rows in by_scenario]
    wide = 1 if named else min(2, len(scenarios))
    deep = -(-len(scenarios) // wide)
    each = 3.6 if len(scenarios) == 1 else 2.9
    if named:  # the list of the front stands beside its panel
        listed = max(sum(1.4 + said.count("\n") for said in _names(front, cost, score)) for front in fronts)
        each = max(each, 0.7 + 0.155 * listed + 0.2 * len(colours) * (PALE not in colours.values()))
    height = max(
        each * deep + 0.8, 0 if named else 1.4 + 0.21 * (len(colours) + sum(1 + len(name) // 36 for name in shapes))
    )
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.4, height), layout="constrained")
        panels = list(figure.subplots(deep, wide, squeeze=False).flat)
        for panel in panels[len(scenarios) :]:
            panel.set_visible(False)
        for panel, scenario, front in zip(panels, scenarios, fronts, strict=False):
            _draw(panel, known[known["scenario"] == scenario], front, cost, score, colours, shapes)
            if named:
                _name(panel, front, cost, score, colours, (8.4 * 0.6, each - 0.9))
            if scenario:
                panel.set_title(scenario, fontsize=10)
        if not named:
            _legends(figure, cost, colours, shapes)
        for panel in panels[max(0, len(scenarios) - wide) : len(scenarios)]:
            panel.set_xlabel(fill(cost.label, 84 // wide))
        figure.supylabel(f"test {score.label}, % (mean ± sd over seeds)", fontsize=9.5)
        figure.suptitle(cost.title.format(score.headline), x=0.01, ha="left", fontsize=11)
        unmeasured = int(cells[score.mean].notna().sum() - len(known))
        verb = "cell without this figure is" if unmeasured == 1 else "cells without this figure are"
        notes = [f"{unmeasured} {verb} left out" if unmeasured else "", note]
        if any(notes):
            figure.supxlabel("; ".join(filter(None, notes)), x=0.01, ha="left", fontsize=SMALL, color=GREY)
    return figure


def _draw(
    panel: Axes,
    cells: pd.DataFrame,
    front: pd.DataFrame,
    cost: Cost,
    score: Metric,
    colours: Mapping[str, str],
    shapes: Mapping[str, str],
) -> None:
    panel.set_xscale("log")
    # Set before anything is drawn: matplotlib finds no limits where all cells are alike.
    low, high = cells[cost.column].min() / cost.unit, cells[cost.column].max() / cost.unit
    panel.set_xlim(low / 1.1, high * 1.1)
    for row in cells.to_dict("records"):
        shape = shapes[trick_set(row["cell"])]
        panel.errorbar(
            row[cost.column] / cost.unit,
            100 * row[score.mean],
            yerr=100 * row[score.sd] if pd.notna(row[score.sd]) else None,
            fmt=shape,
            ms=6,
            lw=0.8,
            color=colours[row["policy"]],
            mec=colours[row["policy"]] if shape in HOLLOW else "white",
            mew=0.5,
        )
    x, y = (front[cost.column] / cost.unit).tolist(), (100 * front[score.mean]).tolist()
    if cost.sign == -1:  # what is best within the least stays so within more
        x, y = [*x, high * 1.1], [*y, y[-1]]
    panel.step(x, y, where="pre" if cost.sign == 1 else "post", color=GREY, lw=1, ls="--", zorder=0)
    decades = math.log10(high / low)
    panel.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 4, 6) if decades < 1 else (1, 2, 5)))
    panel.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}" if low > 10 else "{x:,g}"))
    panel.xaxis.set_minor_formatter(NullFormatter())


def _legends(figure: Figure, cost: Cost, colours: Mapping[str, str], shapes: Mapping[str, str]) -> None:
    lines = [Line2D([], [], color=colour, lw=4, label=name) for name, colour in colours.items()]
    marks = [Line2D([], [], color=GREY, ls="", marker=shape, label=fill(name, 36)) for name, shape in shapes.items()]
    edge = Line2D([], [], color=GREY, ls="--", label=cost.edge)
    style: Any = {"frameon": False, "fontsize": TEXT, "alignment": "left"}
    figure.legend(handles=lines, title="policy", loc="outside right upper", **style)
    figure.legend(handles=[*marks, edge], title="trick set", loc="outside right lower", **style)


def _name(
    panel: Axes,
    front: pd.DataFrame,
    cost: Cost,
    score: Metric,
    colours: Mapping[str, str],
    inches: tuple[float, float],
) -> None:
    """Number the front, and say beside the panel of about so many inches what the numbers are."""
    many = PALE in colours.values()
    rows = front.to_dict("records")
    places = [(row[cost.column] / cost.unit, 100 * row[score.mean]) for row in rows]
    handles = [Line2D([], [], color=colour, lw=4, label=name) for name, colour in colours.items() if not many]
    handles.append(Line2D([], [], color=GREY, ls="--", label=cost.edge))
    listed = zip(rows, places, _offsets(panel, places, inches), _names(front, cost, score), strict=True)
    for count, (row, place, offset, said) in enumerate(listed, 1):
        dot: Any = {"marker": "o", "ms": 7, "color": LOSS if many else colours[row["policy"]], "mec": "black"}
        panel.plot(*place, **dot, zorder=4)
        text: Any = {"textcoords": "offset points", "ha": "center", "va": "center", "fontsize": SMALL, "zorder": 5}
        panel.annotate(str(count), place, offset, **text)
        handles.append(Line2D([], [], ls="", label=said, **dot))
    panel.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(1.0, 1.02), frameon=False, fontsize=SMALL, alignment="left"
    )


def _names(front: pd.DataFrame, cost: Cost, score: Metric) -> list[str]:
    """Return number, policy and trick set, cost and score of each cell on a front, in two lines or more."""
    said = []
    for count, row in enumerate(front.to_dict("records"), 1):
        value = row[cost.column] / cost.unit
        name = fill(f"{count}  {' | '.join(row['cell'].split(' | ')[:2])}", 36, subsequent_indent="    ")
        shown = cost.say.format(number(value, ",.0f" if value >= 100 else ".3g"))
        said.append(f"{name}\n{shown}: {100 * row[score.mean]:.1f} %")
    return said


def _offsets(
    panel: Axes, places: Sequence[tuple[float, float]], inches: tuple[float, float]
) -> list[tuple[float, float]]:
    """Return for each point where its number goes, in points from it, clear of all points and of the numbers before."""
    (left, right), (low, high) = (map(math.log, panel.get_xlim())), panel.get_ylim()
    dots = [
        (72 * inches[0] * (math.log(x) - left) / (right - left), 72 * inches[1] * (y - low) / (high - low))
        for x, y in places
    ]
    taken = list(dots)
    offsets: list[tuple[float, float]] = []
    for dot in dots:
        # A ring of places around the point, then a wider one; above first.
        ring = [(dx * r, dy * r) for r in (10, 16, 22, 28) for dy, dx in product((1, 0, -1), (-1, 1, 0)) if dx or dy]
        clear = (
            (dx, dy) for dx, dy in ring if all(math.hypot(dot[0] + dx - x, dot[1] + dy - y) > 9.5 for x, y in taken)
        )
        offsets.append(next(clear, ring[-1]))
        taken.append((dot[0] + offsets[-1][0], dot[1] + offsets[-1][1]))
    return offsets
