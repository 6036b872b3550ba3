"""The heatmap: the numbers of the frame, its claims, and what was lost."""

import numpy as np
import pandas as pd
import pytest

from harness.plots import heatmap
from tests.frames import large, study, with_losses
from tests.plots.seen import GRIDS, drawn, frames, of_tricks, overhang, shown, texts


@pytest.mark.parametrize("outcomes", [grid for name, grid in GRIDS.items() if name != "no tricks"])
def test_heatmap_of_every_grid_draws(outcomes):
    drawn(heatmap(*frames(outcomes)))


def test_without_tricks_there_is_no_heatmap():
    assert heatmap(*frames(GRIDS["no tricks"])) is None


@pytest.mark.parametrize("grid", ["12 tricks", "plain", "one policy"])
def test_nothing_reaches_beyond_a_heatmap(grid):
    assert overhang(heatmap(*frames(GRIDS[grid]))) < 0.05


def test_a_heatmap_of_many_tricks_is_no_wider_than_a_page_can_show():
    tricks = ("baseline", *(f"t{number}" for number in range(40)))
    outcomes = {f"full | {trick}": [0.5, 0.61, 0.55] for trick in tricks}
    assert shown(heatmap(*frames(outcomes))).get_size_inches()[0] < 30


def test_heatmap_has_the_numbers_of_the_frame():
    table, found = frames(GRIDS["plain"])
    axes = shown(heatmap(table, found)).axes[0]
    said = {(round(text.get_position()[1]), round(text.get_position()[0])): text.get_text() for text in axes.texts}
    assert len(said) == len(of_tricks(found)) == 4
    for effect in of_tricks(found).to_dict("records"):
        place = (["full", "head"].index(effect["policy"]), ["mixup", "mixup + cosine"].index(effect["trick"]))
        for value in (effect["estimate"], effect["low"], effect["high"]):
            assert f"{100 * value:+.1f}".replace("-", "−") in said[place]


def test_heatmap_says_what_it_shows():
    axes, bar = shown(heatmap(*frames(GRIDS["plain"]))).axes
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
    (image,) = shown(heatmap(table, found)).axes[0].images
    top = of_tricks(found)
    wanted = 100 * top.pivot_table(index="policy", columns="trick", values="estimate").loc[["full", "head"]].to_numpy()
    assert np.asarray(image.get_array()) == pytest.approx(wanted)
    low, high = image.get_clim()
    assert low == -high  # no effect is the middle of the scale
    assert high >= np.abs(wanted).max()


def test_heatmap_says_which_cells_lost_replicates():
    axes = shown(heatmap(*frames(GRIDS["lost replicates"]))).axes[0]
    assert sum("2 of 4" in text for text in texts(axes)) == 1
    assert sum("no pair" in text for text in texts(axes)) == 3
    assert "no baseline" in axes.get_yticklabels()[1].get_text()


def test_heatmap_does_not_speak_of_lost_replicates_where_there_are_none():
    assert not any(" of " in text for text in texts(shown(heatmap(*frames(GRIDS["plain"]))).axes[0]))


def test_heatmap_says_what_was_not_run():
    assert [text for text in texts(shown(heatmap(*frames(GRIDS["a set of one policy"]))).axes[0]) if "not run" in text]


def test_heatmap_of_one_seed_has_estimates_and_no_interval():
    said = texts(shown(heatmap(*frames(GRIDS["one seed"]))).axes[0])
    assert any("+10.0" in text for text in said)
    assert any("−20.0" in text for text in said)
    assert not any("[" in text or "nan" in text for text in said)


def test_heatmap_of_12_tricks_has_a_column_for_each():
    axes = shown(heatmap(*frames(GRIDS["12 tricks"]))).axes[0]
    assert len({label.get_text() for label in axes.get_xticklabels()}) == 13
    assert len(texts(axes)) == 2 * 13


def test_sets_that_differ_have_names_that_differ():
    outcomes = {f"full | {tricks}": [0.5, 0.6] for tricks in ("baseline", "a + b + c + d", "a + b + c + e")}
    axes = shown(heatmap(*frames(outcomes))).axes[0]
    assert len({label.get_text() for label in axes.get_xticklabels()}) == 2


# Claims, and large grids.


def test_claims_have_marks_and_a_legend():
    table, found = study()
    axes = shown(heatmap(table, found)).axes[0]
    claims = found[(found["kind"] == "one_in") & (found["policy"] == "full")].set_index("trick")["claim"]
    marks = {"helps": "▲", "hurts": "▼", "makes no difference": "=", "no evidence": "○"}
    assert set(claims) == set(marks)
    for column, label in enumerate(axes.get_xticklabels()):
        by_row = {
            text.get_position()[1]: text.get_text().split("\n")[0]
            for text in axes.texts
            if text.get_position()[0] == column
        }
        claim = claims.get(label.get_text().replace("\n", "_"))
        assert by_row[0].split(" ")[1:] == ([marks[claim]] if claim else [])
        assert " " not in by_row[1]  # exploratory
    for claim, mark in marks.items():
        assert f"{mark} {claim}" in axes.get_xlabel()
    assert "exploratory" in axes.get_xlabel()


def test_without_claims_there_is_no_legend_of_claims():
    table, found = study(primary=())
    axes = shown(heatmap(table, found)).axes[0]
    assert "primary" not in axes.get_xlabel()
    assert not any(mark in text for text in texts(axes) for mark in "▲▼=○")


def test_bold_leaves_out_zero():
    table, found = study()
    axes = shown(heatmap(table, found)).axes[0]
    bold = {text.get_position() for text in axes.texts if text.get_fontweight() == "bold"}
    columns = list(dict.fromkeys(found[found["kind"].isin(["one_in", "combined"])]["trick"]))
    sure = found[found["kind"].isin(["one_in", "combined"]) & ((found["low"] > 0) | (found["high"] < 0))]
    places = zip(sure["trick"].map(columns.index), sure["policy"].map(["full", "head"].index), strict=True)
    assert bold == set(places)
    assert 0 < len(bold) < 12


def test_only_effects_of_trick_sets_against_the_baseline_are_shown():
    table, found = study()
    labels = [label.get_text().replace("\n", " ") for label in shown(heatmap(table, found)).axes[0].get_xticklabels()]
    assert labels == ["warmup", "cosine", "label smoothing", "mixup", "ema", "all 5 together"]


def test_a_large_grid_has_estimates_and_marks_alone():
    table, found = large()
    half = found.assign(policy=found["policy"] + "_again", role="exploratory", claim="")
    table = pd.concat([table, table.assign(policy=table["policy"] + "_again")])
    figure = shown(heatmap(table, pd.concat([found, half])))
    axes = figure.axes[0]
    assert len(axes.texts) == 24 * 9
    assert not any("[" in text or "\n" in text for text in texts(axes))
    assert min(float(text.get_fontsize()) for text in axes.texts) >= 8
    first = found[(found["kind"] == "one_in") & (found["policy"] == "full")].iloc[0]
    (shown_first,) = [text.get_text() for text in axes.texts if text.get_position() == (0, 0)]
    assert shown_first == f"{100 * first['estimate']:+.1f} ○"
    figure.draw_without_rendering()
    width = axes.get_window_extent().width / 9
    assert max(text.get_window_extent().width for text in axes.texts) < width
    assert overhang(figure) < 0.05


def test_what_lost_every_pair_says_so():
    axes = shown(heatmap(*with_losses())).axes[0]
    assert {text.get_position() for text in axes.texts if text.get_text() == "no pair\nfinished"} == {(3, 0), (5, 1)}


def test_text_can_be_read_on_its_colour():
    axes = shown(heatmap(*study())).axes[0]
    (image,) = axes.images
    for text in axes.texts:
        column, row = (round(value) for value in text.get_position())
        values = np.asarray(image.get_array())
        linear = np.asarray(image.to_rgba(values))[row, column, :3] ** 2.2
        light = linear @ [0.2126, 0.7152, 0.0722]
        contrast = (light + 0.05) / 0.05 if text.get_color() == "black" else 1.05 / (light + 0.05)
        assert contrast > 4.4  # WCAG asks for 4.5
