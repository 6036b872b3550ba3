"""Frames to figures. No file is read or written here; a figure whose frame has nothing to show is None."""

from harness.plots.curves import learning_curves
from harness.plots.forest import forest
from harness.plots.heatmap import heatmap
from harness.plots.interactions import interactions, policy_interactions, scenario_interactions
from harness.plots.predictions import predictions
from harness.plots.scenarios import scenarios
from harness.plots.shapley import shapley
from harness.plots.style import COLOURS, GREY, PANELS, STYLE
from harness.plots.tradeoffs import budget, memory, pareto, pareto_front
from harness.plots.transfer import transfer
from harness.plots.waterfall import waterfall

__all__ = [
    "COLOURS",
    "GREY",
    "PANELS",
    "STYLE",
    "budget",
    "forest",
    "heatmap",
    "interactions",
    "learning_curves",
    "memory",
    "pareto",
    "pareto_front",
    "policy_interactions",
    "predictions",
    "scenario_interactions",
    "scenarios",
    "shapley",
    "transfer",
    "waterfall",
]
