"""Frames to figures. No file is read or written here."""

from harness.plots.curves import learning_curves
from harness.plots.heatmap import heatmap
from harness.plots.scenarios import scenarios
from harness.plots.style import COLOURS, GREY, PANELS, STYLE
from harness.plots.tradeoffs import pareto, pareto_front

__all__ = ["COLOURS", "GREY", "PANELS", "STYLE", "heatmap", "learning_curves", "pareto", "pareto_front", "scenarios"]
