"""Policies by scenario: the numbers, and the best of each."""

import io

import pandas as pd
from matplotlib.patches import Rectangle

from harness.effects import cells
from harness.plots import scenarios
from tests.plots.seen import GRIDS, shown
from tests.samples import runs_table


def test_one_scenario_has_no_figure():
    assert scenarios(cells(runs_table(GRIDS["plain"]))) is None


def in_scenarios(tops: dict[tuple[str, str], float]) -> pd.DataFrame:
    """The frame of cells of a grid with the axis `lr`, one baseline a policy and level."""
    frames = []
    for (policy, level), top1 in tops.items():
        name = f"{policy} | baseline"
        runs = runs_table({name: [top1, top1 + 0.02]}).assign(cell=f"{name} | lr {level}")
        runs.insert(0, "lr", level)
        frames.append(runs)
    return cells(pd.concat(frames, ignore_index=True))


def test_names_break_after_a_comma_or_a_plus():
    levels = ("[]", "images many, shift invert+rotate180")
    figure = shown(scenarios(in_scenarios({("full", level): 0.5 for level in levels})))
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()][1].endswith(
        "many,\nshift invert+\nrotate180"
    )


def test_scenarios_show_every_policy_and_frame_the_best_of_each():
    tops = {("full", "0.1"): 0.5, ("head", "0.1"): 0.6, ("full", "1"): 0.9, ("head", "1"): 0.3}
    figure = shown(scenarios(in_scenarios(tops)))
    panel = figure.axes[0]
    assert [tick.get_text() for tick in panel.get_xticklabels()] == ["lr 0.1", "lr 1"]
    assert [tick.get_text() for tick in panel.get_yticklabels()] == ["full", "head"]
    said = {text.get_position(): text.get_text() for text in panel.texts}
    assert said == {(0, 0): "51.0 ± 1.4", (0, 1): "61.0 ± 1.4", (1, 0): "91.0 ± 1.4", (1, 1): "31.0 ± 1.4"}
    frames = [patch for patch in panel.patches if isinstance(patch, Rectangle)]
    framed = {(round(frame.get_x() + 0.48), round(frame.get_y() + 0.46)) for frame in frames}
    assert framed == {(0, 1), (1, 0)}


def test_scenarios_tell_what_was_not_run():
    figure = shown(scenarios(in_scenarios({("full", "0.1"): 0.5, ("head", "1"): 0.3})))
    assert sorted(text.get_text() for text in figure.axes[0].texts) == [
        "31.0 ± 1.4",
        "51.0 ± 1.4",
        "not run",
        "not run",
    ]
    figure.savefig(io.BytesIO())
