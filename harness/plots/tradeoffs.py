"""Accuracy against what it costs."""

from __future__ import annotations

from itertools import cycle
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from harness.plots.style import COLOURS, GREY, HOLLOW, SHAPES, STYLE
from harness.wording import trick_set


def pareto(cells: pd.DataFrame) -> Figure:
    """Draw mean test top-1 with its sd against images per second, one point a cell, and the front none beats.

    Colour says the policy, shape the trick set; where there are more policies than colours, the cells on the front say
    their names instead.
    """
    known = cells.dropna(subset=["test_top1_mean", "images_per_s"]).to_dict("records")
    colours = dict(zip(dict.fromkeys(row["policy"] for row in known), cycle(COLOURS), strict=False))
    shapes = dict(zip(dict.fromkeys(trick_set(row["cell"]) for row in known), cycle(SHAPES), strict=False))
    many = len(colours) > len(COLOURS)
    if many:
        colours, shapes = dict.fromkeys(colours, "#b8b8b8"), dict.fromkeys(shapes, "o")
    with mpl.rc_context(STYLE):
        height = max(4.4, 1.4 + (0 if many else 0.21 * (len(colours) + len(shapes))))  # legends above each other
        figure = Figure(figsize=(8.4, height), layout="constrained")
        axes = figure.add_subplot()
        axes.set_xscale("log")
        if known:  # set before anything is drawn: matplotlib finds no limits where all cells are equally fast
            speeds = [row["images_per_s"] for row in known]
            axes.set_xlim(min(speeds) / 1.1, max(speeds) * 1.1)
        for row in known:
            axes.errorbar(
                row["images_per_s"],
                100 * row["test_top1_mean"],
                yerr=100 * row["test_top1_sd"] if pd.notna(row["test_top1_sd"]) else None,
                fmt=shapes[trick_set(row["cell"])],
                ms=6,
                lw=0.8,
                color=colours[row["policy"]],
                mec=colours[row["policy"]] if shapes[trick_set(row["cell"])] in HOLLOW else "white",
                mew=0.5,
            )
        front = pareto_front(cells)
        axes.step(
            front["images_per_s"], 100 * front["test_top1_mean"], where="pre", color=GREY, lw=1, ls="--", zorder=0
        )
        lines = [Line2D([], [], color=colour, lw=4, label=name) for name, colour in colours.items()]
        marks = [Line2D([], [], color=GREY, ls="", marker=shape, label=name) for name, shape in shapes.items()]
        edge = Line2D([], [], color=GREY, ls="--", label="none faster and better")
        style: Any = {"frameon": False, "fontsize": 8.5, "alignment": "left"}
        if many:
            for row in front.to_dict("records"):
                place = (row["images_per_s"], 100 * row["test_top1_mean"])
                axes.plot(*place, "o", color=COLOURS[1], ms=7)
                axes.annotate(row["cell"], place, (-7, 4), textcoords="offset points", ha="right", fontsize=8)
            figure.legend(handles=[edge], loc="outside lower right", **style)
        else:
            figure.legend(handles=lines, title="policy", loc="outside right upper", **style)
            figure.legend(handles=[*marks, edge], title="trick set", loc="outside right lower", **style)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 4, 6)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("training speed, images per second (exclusive probe; log scale)")
        axes.set_ylabel("test top-1, % (mean ± sd over seeds)")
        axes.set_title("Accuracy against training speed, one point a cell")
    return figure


def pareto_front(cells: pd.DataFrame) -> pd.DataFrame:
    """Return the cells that no other beats in both test top-1 and images per second, the slowest first."""
    known = cells.dropna(subset=["test_top1_mean", "images_per_s"])
    ranked = known.sort_values(["images_per_s", "test_top1_mean"], ascending=False)
    best = ranked["test_top1_mean"].cummax()
    return ranked[(ranked["test_top1_mean"] == best) & ~best.duplicated()].iloc[::-1]
