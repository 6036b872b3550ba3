"""Accuracy against speed, memory and time: who stands where, and who is on the front."""

import math

import numpy as np
import pandas as pd
import pytest
from matplotlib.lines import Line2D

from harness.effects import cells
from harness.plots import COLOURS, budget, memory, pareto, pareto_front
from harness.plots.tradeoffs import MEMORY, TIME
from tests.frames import in_scenarios, large, study
from tests.plots.seen import GRIDS, bars, drawn, overhang, shown
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
    figure = shown(pareto(table))
    (axes,) = figure.axes
    points = {(bar.get_xdata()[0], round(bar.get_ydata()[0], 6)) for bar in bars(axes)}
    wanted = zip(table["images_per_s"], (100 * table["test_top1_mean"]).round(6), strict=True)
    assert points == set(wanted)
    assert "images per second" in axes.get_xlabel()
    assert "top-1" in figure.get_supylabel()
    assert "speed" in figure.get_suptitle()


def test_pareto_plot_tells_policies_and_sets_apart():
    metrics = dict.fromkeys(GRIDS["plain"], SPEED)
    figure = shown(pareto(cells(runs_table(GRIDS["plain"], metrics))))
    (axes,) = figure.axes
    marks = {(bar.get_color(), bar.get_marker()) for bar in bars(axes)}
    assert len(marks) == 6
    assert len({colour for colour, _ in marks}) == 2
    assert len({shape for _, shape in marks}) == 3
    labels = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    assert {"full", "head", "baseline", "mixup", "mixup + cosine"} <= set(labels)


def test_pareto_plot_tells_14_sets_apart():
    metrics = dict.fromkeys(GRIDS["12 tricks"], SPEED)
    (axes,) = shown(pareto(cells(runs_table(GRIDS["12 tricks"], metrics)))).axes
    assert len({(bar.get_color(), bar.get_marker()) for bar in bars(axes)}) == 28


MANY = {f"full | {name}": [0.5, 0.6] for name in ("baseline", *(f"trick{number}" for number in range(26)))}


def test_every_point_of_a_large_pareto_plot_can_be_seen():
    (axes,) = shown(pareto(cells(runs_table(MANY, dict.fromkeys(MANY, SPEED))))).axes
    assert len(bars(axes)) == 27
    for bar in bars(axes):
        assert bar.get_marker() in Line2D.filled_markers or bar.get_markeredgecolor() != "white"


def test_legend_of_a_large_pareto_plot_fits():
    assert overhang(pareto(cells(runs_table(MANY, dict.fromkeys(MANY, SPEED))))) < 0.05


def test_pareto_plot_leaves_out_cells_that_did_not_finish():
    metrics = dict.fromkeys(GRIDS["lost replicates"], SPEED)
    (axes,) = shown(pareto(cells(runs_table(GRIDS["lost replicates"], metrics)))).axes
    assert len(bars(axes)) == 3


def test_pareto_plot_of_more_policies_than_colours_names_the_front():
    names = [f"policy{number} | baseline" for number in range(len(COLOURS) + 1)]
    figures = {name: {"images_per_s": 100.0 + number} for number, name in enumerate(names)}
    table = cells(runs_table({name: [0.9 - 0.05 * number] for number, name in enumerate(names)}, figures))
    table.loc[3, "test_top1_mean"] = 0.2
    figure = shown(pareto(table))
    front = pareto_front(table)["cell"].tolist()
    assert names[3] not in front
    assert len(front) == 8
    said = listed(figure.axes[0])
    assert said[0] == "none faster and better"
    assert [text.split("\n")[0].split("  ")[1] for text in said[1:]] == front
    assert [text.get_text() for text in figure.axes[0].texts] == [str(number) for number in range(1, 9)]


def listed(axes):
    """What stands beside a panel."""
    return [text.get_text() for text in axes.get_legend().get_texts()]


def steps(axes):
    """The corners of the front's line."""
    (line,) = [line for line in axes.lines if line.get_linestyle() == "--"]
    return [tuple(point) for point in line.get_xydata()], line.get_drawstyle()


@pytest.mark.parametrize("cost", [MEMORY, TIME])
@pytest.mark.parametrize("seed", range(10))
def test_front_of_what_is_better_where_it_is_less(cost, seed):
    rng = np.random.default_rng(seed)
    points = rng.integers(1, 8 if seed % 2 else 1000, size=(20, 2))
    table = pd.DataFrame({cost.column: points[:, 0], "test_top1_mean": points[:, 1]})
    wanted = {
        (x, y)
        for x, y in points.tolist()
        if not any(u <= x and v >= y and (u, v) != (x, y) for u, v in points.tolist())
    }
    front = pareto_front(table, cost)
    found = list(zip(front[cost.column], front["test_top1_mean"], strict=True))
    assert set(found) == wanted
    assert found == sorted(found)


def three(**column):
    """Cells of one policy: a cheap one, a dear one that is worse, a dearer one that is better."""
    rows = [
        {
            "cell": f"full | t{i}",
            "policy": "full",
            "test_top1_mean": top1,
            "test_top1_sd": 0.01,
            "val_top1_mean": top1,
            "failed": 0,
            "diverged": 0,
            "missing": 0,
        }
        for i, top1 in enumerate((0.5, 0.4, 0.6))
    ]
    return pd.DataFrame(rows).assign(**column)


def test_budget_says_what_is_best_from_when_on():
    figure = shown(budget(three(train_s=[2.0, 4.0, 150.0])))
    (axes,) = figure.axes
    assert listed(axes)[-2:] == ["1  full | t0\nfrom 2 s: 50.0 %", "2  full | t2\nfrom 150 s: 60.0 %"]
    corners, style = steps(axes)
    assert style == "steps-post"
    assert corners == [(2.0, 50.0), (150.0, 60.0), (pytest.approx(165.0), 60.0)]
    assert "seconds" in axes.get_xlabel()
    assert "top-1" in figure.get_supylabel()


def test_budget_chooses_on_validation_and_shows_test():
    """The cell that did best on test images is none to choose where validation says otherwise."""
    table = three(train_s=[2.0, 4.0, 150.0]).assign(val_top1_mean=[0.3, 0.6, 0.5])
    (axes,) = shown(budget(table)).axes
    assert [text.split("\n")[0] for text in listed(axes)[-2:]] == ["1  full | t0", "2  full | t1"]


def test_memory_is_in_mebibytes():
    figure = shown(memory(three(peak_memory_bytes=[2.0**20, 2.0**21, 2.0**22])))
    (axes,) = figure.axes
    assert {bar.get_xdata()[0] for bar in bars(axes)} == {1.0, 2.0, 4.0}
    corners, _ = steps(axes)
    assert corners[:2] == [(1.0, 50.0), (4.0, 60.0)]
    assert "MiB" in axes.get_xlabel()


def test_speed_has_its_best_at_the_right():
    corners, style = steps(shown(pareto(three(images_per_s=[900.0, 100.0, 300.0]))).axes[0])
    assert style == "steps-pre"
    assert corners == [(300.0, 60.0), (900.0, 50.0)]


@pytest.mark.parametrize("draw", [pareto, memory, budget])
def test_every_scenario_has_its_own_front(draw):
    """A scenario that is worse everywhere keeps its front: other data are no competitors."""
    table, _ = in_scenarios()
    table.loc[table["size"] == "1000", ["test_top1_mean", "val_top1_mean"]] -= 0.3
    figure = shown(draw(table))
    assert [axes.get_title(loc="left") for axes in figure.axes if axes.get_visible()] == [
        "size 100",
        "size 1000",
        "size all",
    ]
    middle, _ = steps(figure.axes[1])
    best = 100 * table.loc[table["size"] == "1000", "test_top1_mean"].max()
    assert max(y for _, y in middle) == pytest.approx(best)
    assert overhang(figure) < 0.05


def test_more_scenarios_than_panels_are_counted():
    table, _ = study(tricks=("a", "b"), scenarios=[str(number) for number in range(8)])
    figure = shown(pareto(table))
    assert sum(axes.get_visible() for axes in figure.axes) == 6
    assert "first 6 of 8 scenarios" in figure.get_supxlabel()


def test_cells_without_the_figure_are_counted():
    figure = shown(pareto(three(images_per_s=[900.0, math.nan, 300.0])))
    assert "1 cell without this figure is left out" in figure.get_supxlabel()
    assert shown(pareto(three(images_per_s=[900.0, 100.0, 300.0]))).get_supxlabel() == ""


def test_front_stands_above_all_other_points_and_its_numbers_apart():
    table, _ = large()
    figure = shown(pareto(table))
    figure.draw_without_rendering()
    (axes,) = figure.axes
    ringed = [line for line in axes.lines if line.get_markeredgecolor() == "black"]
    assert len(ringed) == len(pareto_front(table)) == len(axes.texts)
    assert min(line.get_zorder() for line in ringed) > max(bar.get_zorder() for bar in bars(axes))
    boxes = [text.get_window_extent() for text in axes.texts]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert overhang(figure) < 0.05


def test_a_factorial_keeps_its_policies_colours():
    """32 sets are more than there are shapes: all are dots, the front is named."""
    outcomes = {f"{policy} | s{number}": [0.5, 0.6] for policy in ("full", "head") for number in range(32)}
    figures = {cell: {"images_per_s": 100.0 + number} for number, cell in enumerate(outcomes)}
    (axes,) = shown(pareto(cells(runs_table(outcomes, figures)))).axes
    assert {(bar.get_color(), bar.get_marker()) for bar in bars(axes)} == {(COLOURS[0], "o"), (COLOURS[1], "o")}
    assert listed(axes)[:2] == ["full", "head"]
