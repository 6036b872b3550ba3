"""Accuracy against speed, memory and time: who stands where, and who is on the front."""

import math

import numpy as np
import pandas as pd
import pytest
from matplotlib.lines import Line2D

from harness.effects import cells
from harness.plots import COLOURS, budget, memory, pareto, pareto_front
from tests.plots.seen import GRIDS, bars, drawn, overhang
from tests.samples import runs_table

SPEED = {"images_per_s": 100.0}


@pytest.mark.parametrize("outcomes", [grid for name, grid in GRIDS.items() if name != "nothing run"])
def test_pareto_plot_of_every_grid_draws(outcomes):
    metrics = {cell: {"images_per_s": 50.0 + 7 * number} for number, cell in enumerate(outcomes)}
    drawn(pareto(cells(runs_table(outcomes, metrics))))


def test_without_a_probe_there_is_no_plot():
    table = cells(runs_table(GRIDS["plain"]))
    assert pareto(table) is memory(table) is budget(table) is None


@pytest.mark.parametrize("grid", ["plain", "12 tricks"])
def test_nothing_reaches_beyond_a_pareto_plot(grid):
    metrics = {cell: {"images_per_s": 50.0 + 7 * number} for number, cell in enumerate(GRIDS[grid])}
    assert overhang(pareto(cells(runs_table(GRIDS[grid], metrics)))) < 0.05


def cells_at(points):
    """A frame of cells at (images per second, top-1)."""
    return pd.DataFrame(
        [
            {"cell": f"full | t{i}", "policy": "full", "images_per_s": x, "test_top1_mean": y, "test_top1_sd": 0.01}
            for i, (x, y) in enumerate(points)
        ]
    )


@pytest.mark.parametrize("seed", range(30))
def test_front_is_what_nothing_beats(seed):
    rng = np.random.default_rng(seed)
    n = rng.integers(1, 40)
    # Few distinct values make ties, many make none.
    points = rng.integers(1, rng.choice([5, 1000]), size=(n, 2)) / 1000
    table = cells_at(points)

    def beaten(i):
        return any((points[j] >= points[i]).all() and (points[j] > points[i]).any() for j in range(n))

    wanted = {tuple(points[i]) for i in range(n) if not beaten(i)}
    front = pareto_front(table)
    found = list(zip(front["images_per_s"], front["test_top1_mean"], strict=True))
    assert set(found) == wanted
    assert found == sorted(found)  # the slowest first


def test_front_leaves_out_what_was_not_measured():
    table = cells_at([(1.0, 0.5), (math.nan, 0.9), (5.0, math.nan), (2.0, 0.4)])
    assert pareto_front(table)["images_per_s"].tolist() == [1.0, 2.0]


def test_front_of_nothing_is_empty():
    assert pareto_front(cells_at([(math.nan, math.nan)])).empty


def test_pareto_plot_has_a_point_a_cell_and_says_what_it_shows():
    metrics = {cell: {"images_per_s": 50.0 + 7 * number} for number, cell in enumerate(GRIDS["plain"])}
    table = cells(runs_table(GRIDS["plain"], metrics))
    (axes,) = pareto(table).axes
    points = {(bar.get_xdata()[0], round(bar.get_ydata()[0], 6)) for bar in bars(axes)}
    wanted = zip(table["images_per_s"], (100 * table["test_top1_mean"]).round(6), strict=True)
    assert points == set(wanted)
    assert "images per second" in axes.get_xlabel()
    assert "top-1" in axes.get_ylabel()
    assert axes.get_title(loc="left") + axes.get_title()


def test_pareto_plot_tells_policies_and_sets_apart():
    metrics = dict.fromkeys(GRIDS["plain"], SPEED)
    figure = pareto(cells(runs_table(GRIDS["plain"], metrics)))
    (axes,) = figure.axes
    marks = {(bar.get_color(), bar.get_marker()) for bar in bars(axes)}
    assert len(marks) == 6
    assert len({colour for colour, _ in marks}) == 2
    assert len({shape for _, shape in marks}) == 3
    labels = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    assert {"full", "head", "baseline", "mixup", "mixup + cosine"} <= set(labels)


def test_pareto_plot_tells_14_sets_apart():
    metrics = dict.fromkeys(GRIDS["12 tricks"], SPEED)
    (axes,) = pareto(cells(runs_table(GRIDS["12 tricks"], metrics))).axes
    assert len({(bar.get_color(), bar.get_marker()) for bar in bars(axes)}) == 28


MANY = {f"full | {name}": [0.5, 0.6] for name in ("baseline", *(f"trick{number}" for number in range(26)))}


def test_every_point_of_a_large_pareto_plot_can_be_seen():
    (axes,) = pareto(cells(runs_table(MANY, dict.fromkeys(MANY, SPEED)))).axes
    assert len(bars(axes)) == 27
    for bar in bars(axes):
        assert bar.get_marker() in Line2D.filled_markers or bar.get_markeredgecolor() != "white"


def test_legend_of_a_large_pareto_plot_fits():
    assert overhang(pareto(cells(runs_table(MANY, dict.fromkeys(MANY, SPEED))))) < 0.05


def test_pareto_plot_leaves_out_cells_that_did_not_finish():
    metrics = dict.fromkeys(GRIDS["lost replicates"], SPEED)
    (axes,) = pareto(cells(runs_table(GRIDS["lost replicates"], metrics))).axes
    assert len(bars(axes)) == 3


def test_pareto_plot_of_more_policies_than_colours_names_the_front():
    names = [f"policy{number} | baseline" for number in range(len(COLOURS) + 1)]
    figures = {name: {"images_per_s": 100.0 + number} for number, name in enumerate(names)}
    table = cells(runs_table({name: [0.9 - 0.05 * number] for number, name in enumerate(names)}, figures))
    table.loc[3, "test_top1_mean"] = 0.2
    figure = pareto(table)
    said = {text.get_text() for text in figure.axes[0].texts}
    assert said == set(pareto_front(table)["cell"])
    assert names[3] not in said
    labels = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    assert labels == ["none faster and better"]
