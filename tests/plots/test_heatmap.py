"""The heatmap: the numbers of the frame, its claims, and what was lost."""

import numpy as np
import pytest

from harness.plots import heatmap
from tests.plots.seen import GRIDS, drawn, frames, of_tricks, overhang, texts


@pytest.mark.parametrize("outcomes", [grid for name, grid in GRIDS.items() if name != "no tricks"])
def test_heatmap_of_every_grid_draws(outcomes):
    drawn(heatmap(*frames(outcomes)))


def test_without_tricks_there_is_no_heatmap():
    assert heatmap(*frames(GRIDS["no tricks"])) is None


@pytest.mark.parametrize("grid", ["12 tricks", "plain", "one policy"])
def test_nothing_reaches_beyond_a_heatmap(grid):
    assert overhang(heatmap(*frames(GRIDS[grid]))) < 0.05


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
