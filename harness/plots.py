"""Frames to figures. No file is read or written here."""

from __future__ import annotations

from itertools import cycle
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

from harness.results import axes_of, scenario_of
from harness.wording import mean_sd, points, trick_set

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


def heatmap(cells: pd.DataFrame, effects: pd.DataFrame) -> Figure:
    """Draw the effect of every trick set on test top-1, policies down and trick sets across, with its interval.

    `cells` and `effects` are the frames of `effects.py`. A cell without an effect says why; one that lost replicates,
    how many.
    """
    top = effects[(effects["metric"] == "test_top1") & (effects["kind"] != "policy")].copy()
    top["row"] = rows_of(top)
    cells = cells.assign(row=rows_of(cells))
    rows = list(dict.fromkeys(cells["row"]))
    columns = list(dict.fromkeys(top["trick"])) or ["no trick"]
    values = top.pivot_table(index="row", columns="trick", values="estimate", dropna=False, observed=False)
    shown = 100 * values.reindex(index=rows, columns=columns).to_numpy(dtype=float)
    with mpl.rc_context(STYLE):
        width = max(7.6, 2.1 + 1.18 * len(columns))  # wide enough for the title
        figure = Figure(figsize=(width, 1.65 + 0.72 * len(rows)), layout="constrained")
        axes = figure.add_subplot()
        limit = max(1.0, float(np.nanmax(np.abs(shown), initial=0.0)))
        cmap = mpl.colormaps["PuOr_r"].with_extremes(bad="#eeeeee")
        image = axes.imshow(np.ma.masked_invalid(shown), cmap=cmap, vmin=-limit, vmax=limit, aspect="auto")
        axes.set_xticks(range(len(columns)), [_wrap(name) for name in columns])
        axes.set_yticks(range(len(rows)), [_row_label(cells, name) for name in rows])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        for i, name in enumerate(rows):
            for j, trick in enumerate(columns):
                row = top[(top["row"] == name) & (top["trick"] == trick)]
                dark = abs(shown[i, j]) > 0.6 * limit
                axes.text(
                    j,
                    i,
                    _effect_text(row, cells),
                    ha="center",
                    va="center",
                    fontsize=8.5,
                    color="white" if dark else "black",
                )
        figure.colorbar(image, ax=axes, shrink=0.9, pad=0.02, label="points of test top-1")
        axes.set_title("Effect of each trick on test top-1, against the same policy without tricks")
        axes.set_xlabel(
            "trick set; in each cell the mean difference paired by seed, in points,\n"
            "and its 95 % t interval where there are two seeds or more",
            color=GREY,
        )
    return figure


def _wrap(name: str) -> str:
    return name.replace(" + ", "\n+ ").replace("_", "\n").replace(" together", "\ntogether")


def rows_of(frame: pd.DataFrame) -> list[str]:
    """Return what a row of a figure is called: policy, and scenario where there are axes."""
    axes = axes_of(frame)
    return ["\n".join(filter(None, (row["policy"], scenario_of(row, axes)))) for row in frame.to_dict("records")]


def _row_label(cells: pd.DataFrame, name: str) -> str:
    mean = cells[cells["row"] == name].iloc[0].to_dict()["test_top1_mean"]
    return f"{name}\nbaseline {100 * mean:.1f} %" if pd.notna(mean) else f"{name}\nno baseline"


def _effect_text(row: pd.DataFrame, cells: pd.DataFrame) -> str:
    if row.empty:
        return "not run"
    effect = row.iloc[0].to_dict()
    if pd.isna(effect["estimate"]):
        return "no pair\nfinished"
    text = points(effect["estimate"])
    if pd.notna(effect["low"]):
        text += f"\n[{points(effect['low'])}, {points(effect['high'])}]"
    elif effect["n"] > 1:
        text += "\nin every seed"
    planned = cells[["n", "failed", "diverged", "missing"]].sum(axis=1).max()
    return text if effect["n"] == planned else f"{text}\n{effect['n']} of {planned} pairs"


def scenarios(cells: pd.DataFrame) -> Figure:
    """Draw mean test top-1 ± sd without tricks, policies down and scenarios across; the best of each is framed."""
    axes = axes_of(cells)
    known = [row for row in cells.to_dict("records") if trick_set(row["cell"]) == "baseline"]
    policies = list(dict.fromkeys(row["policy"] for row in known))
    columns = list(dict.fromkeys(scenario_of(row, axes) for row in known))
    by_place = {(row["policy"], scenario_of(row, axes)): row for row in known}
    shown = np.full((len(policies), len(columns)), np.nan)
    for (policy, scenario), row in by_place.items():
        shown[policies.index(policy), columns.index(scenario)] = 100 * row["test_top1_mean"]
    with mpl.rc_context(STYLE):
        size = (max(7.6, 2.1 + 1.25 * len(columns)), 1.9 + 0.48 * len(policies))
        figure = Figure(figsize=size, layout="constrained")
        panel = figure.add_subplot()
        cmap = mpl.colormaps["YlGnBu"].with_extremes(bad="#eeeeee")
        image = panel.imshow(np.ma.masked_invalid(shown), cmap=cmap, aspect="auto")
        panel.set_xticks(range(len(columns)), [name.replace(", ", ",\n") for name in columns])
        panel.set_yticks(range(len(policies)), policies)
        panel.tick_params(length=0)
        panel.spines[:].set_visible(False)
        middle = np.nanmean([np.nanmin(shown), np.nanmax(shown)]) if np.isfinite(shown).any() else 0
        for j, scenario in enumerate(columns):
            best = np.nanmax(shown[:, j], initial=-np.inf)
            for i, policy in enumerate(policies):
                row = by_place.get((policy, scenario), {})
                text = mean_sd(row["test_top1_mean"], row["test_top1_sd"]) if row else "not run"
                dark = bool(shown[i, j] > middle)
                panel.text(j, i, text, ha="center", va="center", fontsize=8.5, color="white" if dark else "black")
                if shown[i, j] == best:
                    panel.add_patch(Rectangle((j - 0.48, i - 0.46), 0.96, 0.92, fill=False, ec="#D55E00", lw=2))
        figure.colorbar(image, ax=panel, shrink=0.9, pad=0.02, label="test top-1, %")
        panel.set_title("Test top-1 without tricks, by policy and scenario")
        panel.set_xlabel("mean ± sd over seeds, %; the highest mean of each scenario is framed", color=GREY)
    return figure


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


def learning_curves(curves: pd.DataFrame) -> Figure:
    """Draw validation top-1 by epoch, one panel a policy, one line a trick set: the mean and the range over seeds."""
    curves = curves.assign(row=rows_of(curves))
    rows = list(dict.fromkeys(curves["row"]))
    names = list(dict.fromkeys(trick_set(cell) for cell in curves["cell"]))
    with mpl.rc_context(STYLE):
        wide = min(max(len(rows), 1), PANELS)
        deep = -(-max(len(rows), 1) // PANELS)
        figure = Figure(figsize=(2.75 * wide + 0.6, 2.3 * deep + 1.4), layout="constrained")
        panels = list(figure.subplots(deep, wide, sharey=True, sharex=True, squeeze=False).flat)
        for panel, row in zip(panels, rows, strict=False):
            for cell, group in curves[curves["row"] == row].groupby("cell", sort=False):
                name = trick_set(str(cell))
                index = names.index(name)
                line = {"color": COLOURS[index % len(COLOURS)], "ls": DASHES[index // len(COLOURS) % len(DASHES)]}
                by_epoch = 100 * group.groupby("epoch")["val_top1"].agg(["mean", "min", "max"])
                panel.plot(by_epoch.index, by_epoch["mean"], lw=1.4, label=name, **line)
                panel.fill_between(
                    by_epoch.index, by_epoch["min"], by_epoch["max"], color=line["color"], alpha=0.10, lw=0
                )
            panel.set_title(row, fontsize=10)
            panel.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        for panel in panels[max(len(rows), 1) :]:
            panel.set_visible(False)
        handles = {label: h for panel in panels for h, label in zip(*panel.get_legend_handles_labels(), strict=True)}
        if handles:
            figure.legend(
                handles.values(),
                handles,
                loc="outside lower center",
                ncols=min(4, len(handles)),
                frameon=False,
                fontsize=8.5,
            )
        for panel in panels[max(0, len(rows) - wide) : len(rows)]:
            panel.set_xlabel("epoch")
            panel.tick_params(labelbottom=True)
        figure.supylabel("validation top-1, %", fontsize=9.5)
        figure.suptitle("Learning curves by policy: mean and range over seeds", x=0.01, ha="left", fontsize=11)
    return figure
