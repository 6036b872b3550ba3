"""Numbers in a coloured matrix, which several figures are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from harness.plots.style import MARKS, SMALL
from harness.tasks.metrics import Metric
from harness.wording import points

Place = tuple[str, str]
"""Row and column of a matrix, by name."""
ROOMY = 120
"""Cells up to which each has room for its interval."""


def by_place(effects: pd.DataFrame, down: str, across: str) -> dict[Place, dict[str, Any]]:
    """Return the first effect of every place, by the columns that name row and column."""
    places = effects.drop_duplicates([down, across]).to_dict("records")
    return {(row[down], row[across]): {str(name): value for name, value in row.items()} for row in places}


def matrix(
    panel: Axes,
    rows: Sequence[str],
    columns: Sequence[str],
    effects: Mapping[Place, Mapping[str, Any]],
    texts: Mapping[Place, str],
    limit: float,
    absent: str = "#eeeeee",
) -> AxesImage:
    """Draw effects in points, from −limit to limit, with a text in each place; bold where the interval is off zero."""
    values = np.full((len(rows), len(columns)), np.nan)
    for (row, column), effect in effects.items():
        values[rows.index(row), columns.index(column)] = 100 * effect["estimate"]
    cmap = mpl.colormaps["PuOr_r"].with_extremes(bad=absent)
    image = coloured(panel, values, cmap, -limit, limit)
    for (row, column), text in texts.items():
        i, j = rows.index(row), columns.index(column)
        effect = effects.get((row, column), {})
        bold = bool(effect) and (effect["low"] > 0 or effect["high"] < 0)
        number(panel, image, i, j, text, bold)
    return image


def coloured(panel: Axes, values: np.ndarray, cmap: Any, low: float | None, high: float | None) -> AxesImage:
    """Colour a matrix [rows, columns] whose NaN have no colour; axes without lines."""
    image = panel.imshow(np.ma.masked_invalid(values), cmap=cmap, vmin=low, vmax=high, aspect="auto")
    panel.tick_params(length=0)
    panel.spines[:].set_visible(False)
    return image


def number(panel: Axes, image: AxesImage, i: int, j: int, text: str, bold: bool = False) -> None:
    """Write into a place of a matrix, white where its colour is dark."""
    values = image.get_array()
    assert values is not None  # what `coloured` drew
    red, green, blue = np.asarray(image.to_rgba(values[i : i + 1, j : j + 1]))[0, 0, :3] ** 2.2
    dark = 0.2126 * red + 0.7152 * green + 0.0722 * blue < 0.18  # where white contrasts more than black
    weight = "bold" if bold else "normal"
    panel.text(j, i, text, ha="center", va="center", fontsize=SMALL, weight=weight, color="white" if dark else "black")


def scale(figure: Figure, image: AxesImage, panels: Sequence[Axes], score: Metric) -> None:
    """Draw what the colours of effects mean, no longer than a reader needs."""
    shrink = min(0.9, 4 / figure.get_figheight())
    label = f"points of test {score.label}"
    figure.colorbar(image, ax=list(panels), shrink=shrink, pad=0.02, aspect=22, label=label)


def largest(effects: pd.DataFrame) -> float:
    """Return the end of a scale of points, symmetric around no effect."""
    return max(1.0, float(100 * effects["estimate"].abs().max(skipna=True) if effects["estimate"].notna().any() else 0))


def effect_text(effect: Mapping[str, Any], roomy: bool) -> str:
    """Return an estimate in points with the mark of its claim, and its interval where there is room."""
    text = " ".join(filter(None, (points(effect["estimate"]), MARKS[effect.get("claim") or ""])))
    if roomy and pd.notna(effect["low"]):
        text += f"\n[{points(effect['low'])}, {points(effect['high'])}]"
    return text


def wrap(name: str) -> str:
    """Break a trick set's name into lines that fit a column."""
    return name.replace(" + ", "\n+ ").replace("_", "\n").replace(" together", "\ntogether")


def claims_legend(effects: pd.DataFrame) -> str:
    """Return what the marks mean; empty where no effect has a claim."""
    claims = [claim for claim in MARKS if claim and claim in set(effects.get("claim", ()))]
    if not claims:
        return ""
    return (
        "primary contrasts: " + ", ".join(f"{MARKS[claim]} {claim}" for claim in claims) + "; all else is exploratory"
    )
