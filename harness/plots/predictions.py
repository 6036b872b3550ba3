"""Test images with what networks predicted of them."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from textwrap import fill

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.image import imread

from harness.plots.style import STYLE

_SIDE = 1.9
"""Inches of a picture."""


def predictions(pictures: Mapping[tuple[str, int], Sequence[bytes]]) -> Figure | None:
    """Draw pictures, PNGs by cell and seed: a network a row, the same images below each other.

    None where there are no pictures.
    """
    if not pictures:
        return None
    wide = max(map(len, pictures.values()))
    with mpl.rc_context(STYLE):
        size = (max(7.6, _SIDE * wide), (_SIDE + 0.35) * len(pictures) + 0.4)
        figure = Figure(figsize=size, layout="constrained")
        rows = figure.subplots(len(pictures), wide, squeeze=False)
        for panels, ((cell, seed), pngs) in zip(rows, pictures.items(), strict=True):
            for panel, png in zip(panels, pngs, strict=False):
                image = imread(io.BytesIO(png), format="png")
                panel.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            for panel in panels:
                panel.set_axis_off()
            panels[0].set_title(fill(f"{cell} | seed {seed}", 90), fontsize=10)
        figure.suptitle("What is predicted of a few test images", x=0.01, ha="left", fontsize=11)
    return figure
