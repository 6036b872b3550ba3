"""The budget view: the frontier by hand, chosen on validation, and what fits into a time."""

import math

import pandas as pd
import pytest

from harness.budget import frontier, within

LOST = ("failed", "diverged", "missing")


def table(*rows, **axes):
    """Cells: name, seconds, validation and test top-1, and for each axis a list of levels."""
    frame = pd.DataFrame(rows, columns=["cell", "train_s", "val_top1_mean", "test_top1_mean"])
    frame["policy"] = frame["cell"].str.split(" | ", regex=False).str[0]
    frame["test_top1_sd"] = 0.01
    frame[["failed", "diverged", "missing"]] = 0
    for axis, levels in axes.items():
        frame[axis] = levels
    return frame[["cell", *axes, "policy", "train_s", "val_top1_mean", "test_top1_mean", "test_top1_sd", *LOST]]


CELLS = table(
    ("full | baseline", 30.0, 0.80, 0.81),
    ("head | baseline", 5.0, 0.60, 0.62),
    ("head | a", 8.0, 0.55, 0.90),  # best on test: not what is chosen by
    ("head | b", 12.0, 0.70, 0.69),
    ("full | a", 60.0, 0.79, 0.85),
    ("full | b", 90.0, 0.85, 0.84),
)


def names(cells):
    return frontier(cells)["cell"].tolist()


def test_each_does_better_on_validation_than_all_quicker_ones():
    assert names(CELLS) == ["head | baseline", "head | b", "full | baseline", "full | b"]


def test_a_cell_that_may_diverge_is_none_to_choose():
    """The mean of the replicates that finished is a selection."""
    cells = CELLS.assign(diverged=(CELLS["cell"] == "head | b").astype(int))
    assert names(cells) == ["head | baseline", "full | baseline", "full | b"]


def test_order_of_the_cells_changes_nothing():
    assert names(CELLS.sample(frac=1, random_state=2)) == names(CELLS)


def test_of_two_that_take_as_long_the_better_stays():
    assert names(table(("p | a", 5.0, 0.6, 0.9), ("p | b", 5.0, 0.7, 0.1))) == ["p | b"]


def test_of_two_that_do_as_well_the_quicker_stays():
    assert names(table(("p | a", 6.0, 0.6, 0.9), ("p | b", 5.0, 0.6, 0.1))) == ["p | b"]


def test_of_two_alike_the_first_stays():
    assert names(table(("p | a", 5.0, 0.6, 0.1), ("p | b", 5.0, 0.6, 0.9))) == ["p | a"]


def test_what_falls_back_to_an_earlier_level_is_not_worth_its_time():
    assert names(table(("p | a", 1.0, 0.6, 0.1), ("p | b", 2.0, 0.7, 0.1), ("p | c", 3.0, 0.6, 0.1))) == [
        "p | a",
        "p | b",
    ]


@pytest.mark.parametrize("column", ["train_s", "val_top1_mean"])
def test_what_was_not_measured_is_left_out(column):
    cells = CELLS.copy()
    cells.loc[cells["cell"] == "head | baseline", column] = math.nan
    assert names(cells)[0] in ("head | a", "head | b")
    assert "head | baseline" not in names(cells)


def test_nothing_measured_is_no_frontier():
    cells = CELLS.assign(train_s=math.nan)
    assert names(cells) == []
    (left_out,) = within(cells, 10)
    assert left_out.startswith("Not considered, since their time is not measured or a replicate is missing: full | b")


SCENARIOS = table(
    ("full | baseline | size 16", 40.0, 0.9, 0.9),
    ("head | baseline | size 16", 20.0, 0.5, 0.5),
    ("full | baseline | size 8", 10.0, 0.6, 0.6),
    ("head | baseline | size 8", 5.0, 0.7, 0.7),
    size=["16", "16", "8", "8"],
)


def test_scenarios_have_frontiers_of_their_own_in_their_order():
    found = frontier(SCENARIOS)
    assert found["cell"].tolist() == [
        "head | baseline | size 16",
        "full | baseline | size 16",
        "head | baseline | size 8",
    ]
    assert found["scenario"].tolist() == ["size 16", "size 16", "size 8"]


def test_what_is_as_good_as_in_another_scenario_stays():
    cells = table(("p | a | size 8", 1.0, 0.6, 0.6), ("p | a | size 16", 2.0, 0.6, 0.6), size=["8", "16"])
    assert names(cells) == ["p | a | size 8", "p | a | size 16"]


@pytest.mark.parametrize(
    ("seconds", "chosen", "top1"),
    [
        (5.0, "head | baseline", "62.0"),
        (11.9, "head | baseline", "62.0"),
        (12.0, "head | b", "69.0"),
        (89.0, "full | baseline", "81.0"),
        (1e6, "full | b", "84.0"),
    ],
)
def test_within_a_time_the_best_on_validation_that_fits(seconds, chosen, top1):
    (line,) = within(CELLS, seconds)
    assert f": {chosen} (" in line
    assert f"test top-1 {top1} ± 1.0 %" in line


def test_too_little_time_names_the_quickest():
    (line,) = within(CELLS, 4.9)
    assert "nothing" in line
    assert "head | baseline, takes 5 s" in line


def test_within_a_time_in_each_scenario():
    large, small = within(SCENARIOS, 10)
    assert "at size 16: nothing" in large
    assert "at size 8: head | baseline" in small
