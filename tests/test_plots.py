"""Figures: they draw whatever became of a grid, show its numbers, and say what their axes are."""

import io
import math
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from harness.effects import cells, effects
from harness.foreign import grid_of
from harness.plots import COLOURS, STYLE, heatmap, learning_curves, pareto, pareto_front, scenarios
from tests.samples import runs_table

SPEED = {"images_per_s": 100.0}


def frames(outcomes, metrics=None):
    runs = runs_table(outcomes, metrics)
    return cells(runs), effects(grid_of(runs))


def curves_table(outcomes, epochs=3):
    """Validation curves that rise by 0.1 an epoch from the outcome of a replicate."""
    rows = [
        {
            "policy": cell.split(" | ")[0],
            "cell": cell,
            "seed": seed,
            "epoch": epoch,
            "step": 3 * epoch,
            "train_loss": 1.0,
            "val_top1": value + 0.1 * (epoch - 1),
        }
        for cell, values in outcomes.items()
        for seed, value in enumerate(values)
        if isinstance(value, float)
        for epoch in range(1, epochs + 1)
    ]
    return pd.DataFrame(rows, columns=["policy", "cell", "seed", "epoch", "step", "train_loss", "val_top1"])


def drawn(figure, form="png"):
    """Draw the figure as a report does; any warning, as of a layout that fails, is an error."""
    content = io.BytesIO()
    with mpl.rc_context({**STYLE, "savefig.dpi": 40}):
        figure.savefig(content, format=form, metadata={"Date": None} if form == "svg" else None)
    assert len(content.getvalue()) > 1000
    return content.getvalue()


def of_tricks(found):
    """The effects of tricks on test top-1."""
    return found[(found["metric"] == "test_top1") & (found["kind"] != "policy")]


def bars(axes) -> Any:
    """The points of a plot, each with the bar of its error."""
    return [container.lines[0] for container in axes.containers]


def texts(axes):
    return [text.get_text() for text in axes.texts]


LABELS = [f"trick_number_{number}" for number in range(12)]
GRIDS: dict[str, dict[str, list[Any]]] = {
    "plain": {
        "full | baseline": [0.50, 0.60, 0.70],
        "full | mixup": [0.52, 0.63, 0.69],
        "full | mixup + cosine": [0.45, 0.56, 0.62],
        "head | baseline": [0.30, 0.20, 0.10],
        "head | mixup": [0.31, 0.24, 0.12],
        "head | mixup + cosine": [0.31, 0.20, 0.05],
    },
    "one seed": {"full | baseline": [0.5], "full | mixup": [0.6], "head | baseline": [0.4], "head | mixup": [0.2]},
    "one policy": {"full | baseline": [0.5, 0.6], "full | mixup": [0.6, 0.8]},
    "lost replicates": {
        "full | baseline": [0.50, 0.60, 0.70, "failed"],
        "full | mixup": [0.52, "diverged", 0.69, 0.7],
        "full | cosine": ["failed"] * 4,
        "head | baseline": ["diverged"] * 4,
        "head | mixup": [0.1, 0.2, 0.3, 0.4],
        "head | cosine": ["missing"] * 4,
    },
    "a set of one policy": {
        "full | baseline": [0.5, 0.6],
        "full | mixup": [0.6, 0.8],
        "head | baseline": [0.4, 0.2],
    },
    "pairs alike": {"full | baseline": [0.5, 0.25], "full | mixup": [0.625, 0.375]},
    "no tricks": {"full | baseline": [0.5, 0.6], "head | baseline": [0.4, 0.3]},
    "nothing run": {"full | baseline": ["missing"] * 2, "full | mixup": ["missing"] * 2},
    "12 tricks": {
        f"{p} | {t}": [0.5, 0.61] for p in ("full", "head") for t in ("baseline", *LABELS, "all 12 together")
    },
    "six policies": {f"policy{number} | {t}": [0.5, 0.61] for number in range(6) for t in ("baseline", "mixup")},
}


@pytest.mark.parametrize(
    "outcomes",
    [pytest.param(grid, id=name) for name, grid in GRIDS.items()],
)
def test_heatmap_of_every_grid_draws(outcomes):
    drawn(heatmap(*frames(outcomes)))


@pytest.mark.parametrize("outcomes", GRIDS.values(), ids=GRIDS)
def test_other_figures_of_every_grid_draw(outcomes):
    metrics = {cell: {"images_per_s": 50.0 + 7 * number} for number, cell in enumerate(outcomes)}
    drawn(pareto(cells(runs_table(outcomes, metrics))))
    drawn(learning_curves(curves_table(outcomes)))


def test_pareto_plot_without_a_probe_draws():
    drawn(pareto(cells(runs_table(GRIDS["plain"]))))


def overhang(figure):
    """Inches by which what is drawn reaches beyond the figure's edges."""
    with mpl.rc_context(STYLE):
        figure.draw_without_rendering()
        box = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    return max(-box.x0, -box.y0, box.x1 - width, box.y1 - height)


@pytest.mark.parametrize("grid", ["12 tricks", "plain", "one policy"])
def test_nothing_reaches_beyond_a_heatmap(grid):
    assert overhang(heatmap(*frames(GRIDS[grid]))) < 0.05


@pytest.mark.parametrize("grid", ["plain", "12 tricks"])
def test_nothing_reaches_beyond_other_figures(grid):
    metrics = {cell: {"images_per_s": 50.0 + 7 * number} for number, cell in enumerate(GRIDS[grid])}
    assert overhang(pareto(cells(runs_table(GRIDS[grid], metrics)))) < 0.05
    assert overhang(learning_curves(curves_table(GRIDS[grid]))) < 0.05


@pytest.mark.parametrize("form", ["png", "svg"])
def test_same_frames_give_the_same_picture(form):
    assert drawn(heatmap(*frames(GRIDS["plain"])), form) == drawn(heatmap(*frames(GRIDS["plain"])), form)


# The heatmap.


def test_heatmap_has_the_numbers_of_the_frame():
    table, found = frames(GRIDS["plain"])
    axes = heatmap(table, found).axes[0]
    shown = {(round(text.get_position()[1]), round(text.get_position()[0])): text.get_text() for text in axes.texts}
    assert len(shown) == len(of_tricks(found)) == 4
    for effect in of_tricks(found).to_dict("records"):
        place = (["full", "head"].index(effect["policy"]), ["mixup", "mixup + cosine"].index(effect["trick"]))
        for value in (effect["estimate"], effect["low"], effect["high"]):
            assert f"{100 * value:+.1f}".replace("-", "−") in shown[place]


def test_heatmap_says_what_it_shows():
    axes, bar = heatmap(*frames(GRIDS["plain"])).axes
    assert "top-1" in axes.get_title(loc="left") + axes.get_title()
    assert "interval" in axes.get_xlabel()
    assert "top-1" in bar.get_ylabel() + bar.get_xlabel()
    rows = [label.get_text() for label in axes.get_yticklabels()]
    columns = [label.get_text().replace("\n", " ") for label in axes.get_xticklabels()]
    assert [row.split("\n")[0] for row in rows] == ["full", "head"]
    assert "60.0" in rows[0]  # the baseline that effects are held against
    assert "20.0" in rows[1]
    assert columns == ["mixup", "mixup + cosine"]


def test_heatmap_colours_are_the_effects():
    table, found = frames(GRIDS["plain"])
    (image,) = heatmap(table, found).axes[0].images
    top = of_tricks(found)
    wanted = 100 * top.pivot_table(index="policy", columns="trick", values="estimate").loc[["full", "head"]].to_numpy()
    assert np.asarray(image.get_array()) == pytest.approx(wanted)
    low, high = image.get_clim()
    assert low == -high  # no effect is the middle of the scale
    assert high >= np.abs(wanted).max()


def test_heatmap_says_which_cells_lost_replicates():
    axes = heatmap(*frames(GRIDS["lost replicates"])).axes[0]
    assert sum("2 of 4" in text for text in texts(axes)) == 1
    assert sum("no pair" in text for text in texts(axes)) == 3
    assert "no baseline" in axes.get_yticklabels()[1].get_text()


def test_heatmap_does_not_speak_of_lost_replicates_where_there_are_none():
    assert not any(" of " in text for text in texts(heatmap(*frames(GRIDS["plain"])).axes[0]))


def test_heatmap_says_what_was_not_run():
    assert [text for text in texts(heatmap(*frames(GRIDS["a set of one policy"])).axes[0]) if "not run" in text]


def test_heatmap_of_one_seed_has_estimates_and_no_interval():
    shown = texts(heatmap(*frames(GRIDS["one seed"])).axes[0])
    assert any("+10.0" in text for text in shown)
    assert any("−20.0" in text for text in shown)
    assert not any("[" in text or "nan" in text for text in shown)


def test_heatmap_of_12_tricks_has_a_column_for_each():
    axes = heatmap(*frames(GRIDS["12 tricks"])).axes[0]
    assert len({label.get_text() for label in axes.get_xticklabels()}) == 13
    assert len(texts(axes)) == 2 * 13


def test_sets_that_differ_have_names_that_differ():
    outcomes = {f"full | {tricks}": [0.5, 0.6] for tricks in ("baseline", "a + b + c + d", "a + b + c + e")}
    axes = heatmap(*frames(outcomes)).axes[0]
    assert len({label.get_text() for label in axes.get_xticklabels()}) == 2


# The Pareto plot.


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


# Learning curves.


def test_curves_are_means_over_seeds_in_a_panel_a_policy():
    panels = learning_curves(curves_table(GRIDS["plain"])).axes
    assert [panel.get_title() + panel.get_title(loc="left") for panel in panels] == ["full", "head"]
    for panel, (cell, mean) in zip(panels, (("full", 60.0), ("head", 20.0)), strict=True):
        assert len(panel.lines) == 3, cell
        assert list(np.asarray(panel.lines[0].get_xdata())) == [1, 2, 3]
        assert list(np.asarray(panel.lines[0].get_ydata())) == pytest.approx([mean, mean + 10, mean + 20])


def test_curves_have_the_range_over_seeds():
    panel = learning_curves(curves_table({"full | baseline": [0.5, 0.6, 0.9]})).axes[0]
    (band,) = panel.collections
    corners = np.asarray(band.get_paths()[0].vertices)
    at_first = corners[corners[:, 0] == 1][:, 1]
    assert (at_first.min(), at_first.max()) == (pytest.approx(50), pytest.approx(90))


def test_curves_say_what_they_show():
    figure = learning_curves(curves_table(GRIDS["plain"]))
    assert {panel.get_xlabel() for panel in figure.axes} == {"epoch"}
    assert "validation top-1" in figure.get_supylabel()
    assert figure.get_suptitle()
    labels = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    assert sorted(labels) == ["baseline", "mixup", "mixup + cosine"]


def test_curves_of_12_tricks_are_told_apart():
    (panel, _) = learning_curves(curves_table(GRIDS["12 tricks"])).axes
    assert len({(line.get_color(), line.get_linestyle()) for line in panel.lines}) == 14


def in_scenarios(tops: dict[tuple[str, str], float]) -> pd.DataFrame:
    """The frame of cells of a grid with the axis `lr`, one baseline a policy and level."""
    frames = []
    for (policy, level), top1 in tops.items():
        name = f"{policy} | baseline"
        runs = runs_table({name: [top1, top1 + 0.02]}).assign(cell=f"{name} | lr {level}")
        runs.insert(0, "lr", level)
        frames.append(runs)
    return cells(pd.concat(frames, ignore_index=True))


def test_scenarios_show_every_policy_and_frame_the_best_of_each():
    tops = {("full", "0.1"): 0.5, ("head", "0.1"): 0.6, ("full", "1"): 0.9, ("head", "1"): 0.3}
    figure = scenarios(in_scenarios(tops))
    panel = figure.axes[0]
    assert [tick.get_text() for tick in panel.get_xticklabels()] == ["lr 0.1", "lr 1"]
    assert [tick.get_text() for tick in panel.get_yticklabels()] == ["full", "head"]
    shown = {text.get_position(): text.get_text() for text in panel.texts}
    assert shown == {(0, 0): "51.0 ± 1.4", (0, 1): "61.0 ± 1.4", (1, 0): "91.0 ± 1.4", (1, 1): "31.0 ± 1.4"}
    frames = [patch for patch in panel.patches if isinstance(patch, Rectangle)]
    framed = {(round(frame.get_x() + 0.48), round(frame.get_y() + 0.46)) for frame in frames}
    assert framed == {(0, 1), (1, 0)}


def test_scenarios_tell_what_was_not_run():
    figure = scenarios(in_scenarios({("full", "0.1"): 0.5, ("head", "1"): 0.3}))
    assert sorted(text.get_text() for text in figure.axes[0].texts) == [
        "31.0 ± 1.4",
        "51.0 ± 1.4",
        "not run",
        "not run",
    ]
    figure.savefig(io.BytesIO())


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
