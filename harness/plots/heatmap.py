"""The effect of every trick set under every policy."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import fill
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from harness.plots.matrix import ROOMY, by_place, claims_legend, effect_text, largest, matrix, scale, wrap
from harness.plots.style import GREY, STYLE, interval_name, on, rows_of, unique
from harness.tasks.metrics import TOP1, Metric
from harness.wording import NOTHING, trick_set

WIDEST = 16
"""Trick sets up to which a cell is wide enough for its interval."""


def heatmap(cells: pd.DataFrame, effects: pd.DataFrame, score: Metric = TOP1) -> Figure | None:
    """Draw the effect of every trick set on the score, policies down and trick sets across, with its interval.

    `cells` and `effects` are the frames of `effects.py`. A cell without an effect says why; one that lost replicates,
    how many. A large grid has room for estimates and the marks of claims alone. None where there are no tricks.
    """
    top = on(score, effects, "one_in", "combined")
    if top.empty:
        return None
    cells = cells.assign(row=rows_of(cells))
    rows, columns = unique(cells["row"]), unique(top["trick"])
    roomy = len(rows) * len(columns) <= ROOMY and len(columns) <= WIDEST
    planned = int(cells[["n", "failed", "diverged", "missing"]].sum(axis=1).max())
    found = by_place(top, "row", "trick")
    texts = {(row, trick): _text(found.get((row, trick)), planned, roomy=roomy) for row in rows for trick in columns}
    size = (
        (2.1 + 1.18 * len(columns), 1.65 + 0.72 * len(rows))
        if roomy
        else (3 + 0.55 * len(columns), 2.6 + 0.27 * len(rows))
    )
    with mpl.rc_context(STYLE):
        wide = max(7.6, size[0])  # enough for the title
        figure = Figure(figsize=(wide, size[1]), layout="constrained")
        axes = figure.add_subplot()
        image = matrix(axes, rows, columns, found, texts, largest(top))
        axes.set_xticks(range(len(columns)), [wrap(name) if roomy else name.replace(" + ", "\n+ ") for name in columns])
        axes.set_yticks(range(len(rows)), [_row_label(cells, name, score, roomy) for name in rows])
        if not roomy:
            axes.tick_params(labelsize=8.5)
            axes.tick_params(axis="x", rotation=90)
        scale(figure, image, [axes], score)
        title = f"Effect of each trick on test {score.label}, against the same policy without tricks"
        axes.set_title(fill(title, max(52, 26 * len(columns))))
        lines = _legend(top, roomy).splitlines()
        axes.set_xlabel("\n".join(fill(line, int(11 * (wide - 1))) for line in lines), color=GREY)
    return figure


def _legend(top: pd.DataFrame, roomy: bool) -> str:
    name = interval_name(top)
    shown = f", and its interval ({name})" if name and roomy else ""
    lines = [f"trick set; in each cell the mean difference paired by seed, in points{shown}"]
    if name:
        lines.append("bold: the interval leaves out zero" + ("" if roomy else f" ({name})"))
    if not roomy:
        lines.append(f"°: fewer pairs than planned; {NOTHING}: no pair finished; empty: not run")
    return "\n".join(filter(None, (*lines, claims_legend(top))))


def _row_label(cells: pd.DataFrame, name: str, score: Metric, roomy: bool) -> str:
    here = cells[(cells["row"] == name) & (cells["cell"].map(trick_set) == "baseline")].to_dict("records")
    mean = here[0][score.mean] if here else float("nan")
    if roomy:
        return f"{name}\nbaseline {100 * mean:.1f} %" if pd.notna(mean) else f"{name}\nno baseline"
    name = name.replace("\n", ", ")
    return f"{name}  {100 * mean:.1f} %" if pd.notna(mean) else f"{name}  {NOTHING}"


def _text(effect: Mapping[str, Any] | None, planned: int, *, roomy: bool) -> str:
    if effect is None:
        return "not run" if roomy else ""
    if pd.isna(effect["estimate"]):
        return "no pair\nfinished" if roomy else NOTHING
    text, n = effect_text(effect, roomy), int(effect["n"])
    if not roomy:
        return text if n == planned else f"{text}°"
    if pd.isna(effect["low"]) and n > 1:
        text += "\nin every seed"
    return text if n == planned else f"{text}\n{n} of {planned} pairs"
