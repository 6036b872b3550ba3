"""Test images with what networks predicted of them."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from textwrap import fill

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.image import imread

from harness.plots.style import STYLE

_WIDTH = 7.6
"""Inches of the figure, if pictures are few."""
_SIDE = 1.9
"""Inches that each has at least."""


def predictions(pictures: Mapping[tuple[str, int], Sequence[bytes]]) -> Figure | None:
    """Draw pictures, PNGs by cell and seed: a network a row, the same images below each other.

    None where there are no pictures.
    """
    if not pictures:
        return None
    drawn = {row: [imread(io.BytesIO(png), format="png") for png in pngs] for row, pngs in pictures.items()}
    wide = max(map(len, drawn.values()))
    width = max(_WIDTH, _SIDE * wide)
    heights = [width / wide * max(image.shape[0] / image.shape[1] for image in images) for images in drawn.values()]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, sum(heights) + 0.35 * len(drawn) + 0.4), layout="constrained")
        rows = figure.subplots(len(drawn), wide, squeeze=False, height_ratios=heights)
        for panels, ((cell, seed), images) in zip(rows, drawn.items(), strict=True):
            for panel, image in zip(panels, images, strict=False):
                panel.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            for panel in panels:
                panel.set_axis_off()
            panels[0].set_title(fill(f"{cell} | seed {seed}", 90), fontsize=10)
        figure.suptitle("What is predicted of a few test images", x=0.01, ha="left", fontsize=11)
    return figure
