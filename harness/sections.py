"""What a report shows and in which order: one list of sections, which the HTML page and the Markdown both follow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from harness import norms, plots, tables, transfer
from harness.coverage import coverage
from harness.results import Grid, axes_of
from harness.tasks.metrics import Metric


@dataclass(frozen=True)
class Section:
    """A headline with what stands under it; a section with nothing to show is left out."""

    title: str
    figures: tuple[str, ...] = ()
    """Names of figures."""
    tables: tuple[str, ...] = ()
    """Names of tables."""
    note: str = ""
    words: tuple[str, ...] = ()
    """Sentences under the rest."""
    empty: str = ""
    """What is said where there is nothing to show; empty leaves the section out."""


ALT = {
    "heatmap": "Heatmap of the effect of each trick on test {score}, by freeze policy",
    "forest": "Effects on test {score} with their intervals, by freeze policy",
    "scenarios": "Test {score} without tricks, by policy and scenario",
    "waterfall": "What each trick adds when tricks are stacked",
    "shapley": "Shapley value of each trick, by freeze policy",
    "interactions": "Interactions of two tricks, by freeze policy",
    "policy_interactions": "How much more a trick is worth under each policy than under the first",
    "scenario_interactions": "How much more a trick is worth in each scenario than in the first",
    "pareto": "Test {score} against training speed, one point a cell",
    "memory": "Test {score} against peak memory, one point a cell",
    "budget": "The cell to choose for every training time",
    "transfer": "Test {score} against the top-1 of the source network, by policy",
    "curves": "Learning curves",
    "predictions": "What a few networks predict of a few test images",
    "batch_norm": "Divergence of the training images from the running statistics of each batch norm, by policy",
}
"""Every figure a report may have, with what it shows of the score."""


Drawing = Callable[[], Figure | None]
"""Draws a figure, or finds that it has nothing to show."""


def of_tables(cells: pd.DataFrame, effects: pd.DataFrame, score: Metric) -> dict[str, Drawing]:
    """Return the figures that need no more than a report's tables, in their order."""
    return {
        "heatmap": lambda: plots.heatmap(cells, effects, score),
        "forest": lambda: plots.forest(effects, score),
        "scenarios": lambda: plots.scenarios(cells, score) if axes_of(cells) else None,
        "waterfall": lambda: plots.waterfall(effects, cells, score),
        "shapley": lambda: plots.shapley(effects, score),
        "interactions": lambda: plots.interactions(effects, score),
        "policy_interactions": lambda: plots.policy_interactions(effects, score),
        "scenario_interactions": lambda: plots.scenario_interactions(effects, score),
        "pareto": lambda: plots.pareto(cells, score),
        "memory": lambda: plots.memory(cells, score),
        "budget": lambda: plots.budget(cells, score),
    }


def figures(grid: Grid, cells: pd.DataFrame, effects: pd.DataFrame) -> dict[str, Figure]:
    """Return the figures of a grid that have something to show."""
    diagnosed, score = grid.batch_norm, grid.score
    made: dict[str, Drawing] = {
        **of_tables(cells, effects, score),
        "transfer": lambda: plots.transfer(transfer.frame(grid, cells), score),
        "curves": lambda: plots.learning_curves(grid.curves, score) if len(grid.curves) else None,
        "predictions": lambda: plots.predictions(grid.pictures),
        "batch_norm": lambda: norms.figure(diagnosed) if (diagnosed["layer"] != "").any() else None,
    }
    drawn = {name: make() for name, make in made.items()}
    return {name: figure for name, figure in drawn.items() if figure is not None}


def of_grid(grid: Grid) -> tuple[Section, ...]:
    """Return the sections of a grid's report, those with nothing to show among them."""
    return (
        Section(
            "Primary contrasts",
            tables=("primary",),
            note="The effects named before the data, judged together: an effect is claimed where the interval that "
            "covers all of them at once, at 95 %, leaves out 0 (it agrees with Holm's procedure), and makes no "
            "difference where it lies within the stated bound.",
        ),
        Section("Policies and scenarios", figures=("scenarios",)),
        Section(
            f"Effects on test {grid.score.label}",
            figures=("heatmap", "forest"),
            tables=("effects",),
            note=_effects_note(grid),
        ),
        Section(
            "Tricks stacked",
            figures=("waterfall",),
            note="What a trick adds depends on what is there already, so on the order of stacking.",
        ),
        Section(
            "Shapley values",
            figures=("shapley",),
            tables=("shapley",),
            note="What a trick adds, averaged over every order of stacking; the values sum to what all tricks give "
            "together. From a fraction of resolution V they are those of the fitted second-order model, and sum to "
            "what that gives; from sampled orders the standard error of the sampling stands beside the interval over "
            "seeds.",
        ),
        Section(
            "What depends on what",
            figures=("interactions", "policy_interactions", "scenario_interactions"),
            tables=("interactions",),
            note="The effect of one trick where the other is on minus where it is off; the effect under one policy, or "
            "in one scenario, minus that in the first. The clearest first; effects.csv has all.",
        ),
        Section(
            f"{grid.score.headline} against cost",
            figures=("pareto", "memory", "budget"),
            note="Speed and memory come from an exclusive probe of the training step; training time is the steps of a "
            "training, and of its teacher where it has one, at that rate. The choice for a training time is made on "
            "validation.",
        ),
        Section("Over data sets", tables=("data_sets",), note=tables.DATA_SETS_NOTE.format(score=grid.score.label)),
        Section("Source networks", figures=("transfer",), tables=("transfer",), note=transfer.NOTE),
        Section("Learning curves", figures=("curves",)),
        Section(
            "Predictions",
            figures=("predictions",),
            note="Test images with what single networks make of them: one of the first cell, and one of the cells that "
            "do best and worst on validation.",
        ),
        Section("Cells", tables=("cells",)),
        Section("Trained first", tables=("first",)),
        Section(
            "Learning rates",
            tables=("rates",),
            note="Every rate was tried for each cell on seeds outside the study, and the one with the highest mean "
            f"validation {grid.score.label} (%, last epoch) serves all its seeds. These trainings enter no effect.",
        ),
        Section(
            "Batch norm",
            figures=("batch_norm",),
            tables=("norms",),
            note=norms.NOTE,
            words=tuple(norms.missing(grid.batch_norm)),
        ),
        Section("Designs", tables=("designs",)),
        Section(
            "Not run, failed and shared",
            tables=("problems", "judged", "shared"),
            empty="Every cell ran and every replicate finished.",
        ),
        Section("Settings", tables=("settings",)),
    )


def _effects_note(grid: Grid) -> str:
    """Return what the table of effects shows, as far as it was measured."""
    parts = [f"Points of test {grid.score.label}, paired by seed: mean and 95 % t interval.", coverage(grid.plan)]
    if grid.correct:
        parts.append("Under “with other test images” the interval covers those too, and is never narrower.")
    if len(grid.throughput):
        parts.append(
            "What a trick costs stands beside what it gives: speed and training time as factors, from an exclusive "
            "probe of the training step on one machine; a factor in parentheses cannot be told from 1 by its rounds."
        )
    return " ".join(parts)
