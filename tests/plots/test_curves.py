"""Learning curves: means and ranges over seeds."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from harness.plots import learning_curves
from tests.plots.seen import GRIDS, curves_table, drawn, overhang, shown


@pytest.mark.parametrize("outcomes", [grid for name, grid in GRIDS.items() if name != "nothing run"])
def test_curves_of_every_grid_draw(outcomes):
    drawn(learning_curves(curves_table(outcomes)))


@pytest.mark.parametrize("grid", ["plain", "12 tricks"])
def test_nothing_reaches_beyond_curves(grid):
    assert overhang(learning_curves(curves_table(GRIDS[grid]))) < 0.05


def test_without_trainings_there_are_no_curves():
    assert learning_curves(curves_table(GRIDS["nothing run"])) is None


def test_a_training_of_one_epoch_is_a_dot():
    figure = shown(learning_curves(curves_table({"full | baseline": [0.5, 0.6]}, epochs=1)))
    (line,) = figure.axes[0].lines
    assert (line.get_marker(), list(np.asarray(line.get_ydata()))) == ("o", [pytest.approx(55)])
    assert list(figure.axes[0].get_xticks()) == [1]
    figure = shown(learning_curves(curves_table({"full | baseline": [0.5, 0.6]}, epochs=2)))
    assert figure.axes[0].lines[0].get_marker() == ""


def test_curves_are_means_over_seeds_in_a_panel_a_policy():
    panels = shown(learning_curves(curves_table(GRIDS["plain"]))).axes
    assert [panel.get_title() + panel.get_title(loc="left") for panel in panels] == ["full", "head"]
    for panel, (cell, mean) in zip(panels, (("full", 60.0), ("head", 20.0)), strict=True):
        assert len(panel.lines) == 3, cell
        assert list(np.asarray(panel.lines[0].get_xdata())) == [1, 2, 3]
        assert list(np.asarray(panel.lines[0].get_ydata())) == pytest.approx([mean, mean + 10, mean + 20])


def test_curves_have_the_range_over_seeds():
    panel = shown(learning_curves(curves_table({"full | baseline": [0.5, 0.6, 0.9]}))).axes[0]
    (band,) = panel.collections
    corners = np.asarray(band.get_paths()[0].vertices)
    at_first = corners[corners[:, 0] == 1][:, 1]
    assert (at_first.min(), at_first.max()) == (pytest.approx(50), pytest.approx(90))


def test_curves_say_what_they_show():
    figure = shown(learning_curves(curves_table(GRIDS["plain"])))
    assert {panel.get_xlabel() for panel in figure.axes} == {"epoch"}
    assert "validation top-1" in figure.get_supylabel()
    assert figure.get_suptitle()
    labels = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    assert sorted(labels) == ["baseline", "mixup", "mixup + cosine"]


def test_curves_of_a_factorial_are_those_of_one_trick_of_none_and_of_all():
    tricks = "abcde"
    sets = [s for size in range(4) for s in combinations(tricks, size)]
    names = [" + ".join(s) or "baseline" for s in sets] + ["all but a", "all 5 together"]
    figure = shown(learning_curves(curves_table({f"full | {name}": [0.5, 0.6] for name in names})))
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["baseline", *tricks, "all 5 together"]
    assert legend.get_title().get_text() == "7 of 28 lines"
    assert len(figure.axes[0].lines) == 7
    assert overhang(figure) < 0.05


def test_curves_of_12_tricks_are_told_apart():
    (panel, _) = shown(learning_curves(curves_table(GRIDS["12 tricks"]))).axes
    assert len({(line.get_color(), line.get_linestyle()) for line in panel.lines}) == 14


def in_scenarios(policies, many=2):
    """The curves of baselines in two scenarios, of four epochs and of `many`."""
    frames = []
    for images, epochs in (("few", 4), ("many", many)):
        table = curves_table({f"{policy} | baseline | images {images}": [0.2, 0.4] for policy in policies}, epochs)
        table.insert(0, "images", images)
        frames.append(table)
    return pd.concat(frames, ignore_index=True)


def test_policies_without_tricks_are_compared_within_their_scenario():
    figure = shown(learning_curves(in_scenarios(["full", "head", "scratch"])))
    assert [panel.get_title(loc="left") for panel in figure.axes] == ["images few", "images many"]
    assert [[line.get_label() for line in panel.lines] for panel in figure.axes] == [["full", "head", "scratch"]] * 2
    assert figure.axes[1].get_xlim()[1] < 7  # steps of 12: a short training is not drawn small beside a long one
    assert overhang(figure) < 0.05


def test_scenarios_of_many_policies_are_compared_within_each():
    figure = shown(learning_curves(in_scenarios([f"p{number}" for number in range(9)])))
    panels = [panel for panel in figure.axes if panel.get_visible()]
    assert [panel.get_title(loc="left") for panel in panels] == [f"p{number}" for number in range(9)]
    assert {tuple(line.get_label() for line in panel.lines) for panel in panels} == {("images few", "images many")}


@pytest.mark.parametrize(("many", "time", "last"), [(2, "step", [12, 6]), (4, "epoch", [4, 4])])
def test_trainings_of_unlike_numbers_of_epochs_are_compared_by_step(many, time, last):
    panels = shown(learning_curves(in_scenarios(["full"], many))).axes
    assert [panel.get_xlabel() for panel in panels] == [time, time]
    assert [np.max(np.asarray(panel.lines[0].get_xdata())) for panel in panels] == last


def test_the_legend_has_lines_where_only_a_later_panel_has_dots():
    trained = curves_table({"full | baseline": [0.5, 0.6]}, epochs=3)
    solved = curves_table({"svm_codes | baseline": [0.5, 0.6]}, epochs=1)
    (legend,) = shown(learning_curves(pd.concat([trained, solved]))).legends
    assert [handle.get_marker() for handle in legend.get_lines()] == [""]
