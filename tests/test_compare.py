"""Two studies side by side: differences that were put in come back, paired where a seed means the same."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_1samp, ttest_ind

from harness.compare import Side, compare, table, words
from harness.report import write_comparison
from tests.samples import VERSIONS, grid_table

A = {
    "full | baseline": [0.50, 0.61, 0.70],
    "full | mixup": [0.52, 0.63, "failed"],
    "head | baseline": [0.30, 0.20, 0.10],
}
B = {
    "full | baseline": [0.53, 0.62, 0.75],
    "full | mixup": [0.60, "diverged", 0.83],
    "full | cosine": [0.50, 0.50, 0.50],
}
FIGURES = {"peak_memory_bytes": 2.0**21, "trainable_params": 10.0, "images_per_s": 100.0}
SETTINGS = {"data": "digits", "model": "resnet", "weights": "random", "lr": 0.1}
RATES = {"full | baseline": [100.0, 120.0, 110.0]}


def side(name, outcomes, figures=None, rates=None, software=None, **plan):
    planned = {"settings": SETTINGS, "policies": {"full": "", "head": ""}, "versions": VERSIONS, **plan}
    grid = grid_table(outcomes, dict.fromkeys(outcomes, figures or FIGURES), rates, **planned)
    runs = grid.runs.assign(run_id=[f"{name}/{i}" for i in range(len(grid.runs))])
    return Side(name, replace(grid, runs=runs, software=software or {}))


def row(comparison, cell, metric="test_top1"):
    found = comparison.differences
    (only,) = found[(found["cell"] == cell) & (found["metric"] == metric)].to_dict("records")
    return only


def test_differences_are_b_minus_a_paired_by_seed():
    found = compare(side("a", A), side("b", B))
    d = np.array([0.03, 0.01, 0.05])
    top = row(found, "full | baseline")
    assert (top["n"], top["estimate"]) == (3, pytest.approx(d.mean()))
    assert (top["low"], top["high"]) == pytest.approx(tuple(ttest_1samp(d, 0).confidence_interval(0.95)))
    assert "paired" in top["interval"]
    assert (top["a"], top["b"]) == (pytest.approx(1.81 / 3), pytest.approx(1.90 / 3))
    assert row(found, "full | mixup")["n"] == 1
    assert row(found, "full | mixup")["interval"] == "none: n = 1"


def test_means_are_over_the_seeds_that_both_have():
    """A with three seeds, B with four: what stands beside each other differs by what is said."""
    b = {"full | baseline": [0.53, 0.62, 0.75, 0.10]}
    top = row(compare(side("a", A), side("b", b)), "full | baseline")
    assert (top["a"], top["b"]) == (pytest.approx(1.81 / 3), pytest.approx(1.90 / 3))
    assert top["b"] - top["a"] == pytest.approx(top["estimate"])


def test_all_cells_in_common_are_paired_by_seed_as_one():
    found = row(compare(side("a", A), side("b", {**B, "full | mixup": [0.60, 0.61, 0.83]})), "all 2 in common")
    d = [(0.03 + 0.08) / 2, (0.01 - 0.02) / 2]
    assert (found["n"], found["estimate"]) == (2, pytest.approx(np.mean(d)))
    assert (found["low"], found["high"]) == pytest.approx(tuple(ttest_1samp(d, 0).confidence_interval(0.95)))


def test_the_other_way_round_turns_every_sign():
    there, back = compare(side("a", A), side("b", B)), compare(side("b", B), side("a", A))
    wanted = there.differences.set_index(["cell", "metric"])
    turned = back.differences.set_index(["cell", "metric"]).loc[wanted.index]
    assert turned["estimate"].to_numpy() == pytest.approx(-wanted["estimate"].to_numpy(), nan_ok=True)
    assert turned["low"].to_numpy() == pytest.approx(-wanted["high"].to_numpy(), nan_ok=True)
    assert (back.only_a, back.only_b) == (there.only_b, there.only_a)


def test_cells_of_one_side_are_listed():
    found = compare(side("a", A), side("b", B))
    assert (found.only_a, found.only_b) == (("head | baseline",), ("full | cosine",))
    assert "Only in A: head | baseline." in words(found)


@pytest.mark.parametrize("key", ["data", "model", "weights"])
def test_seeds_that_mean_something_else_are_not_paired(key):
    found = compare(side("a", A), side("b", B, settings={**SETTINGS, key: "other"}))
    top = row(found, "full | baseline")
    low, high = ttest_ind([0.53, 0.62, 0.75], [0.50, 0.61, 0.70], equal_var=False).confidence_interval(0.95)
    assert top["estimate"] == pytest.approx(0.03)
    assert (top["low"], top["high"]) == pytest.approx((low, high))
    assert "unpaired" in top["interval"]
    text = " ".join(found.notes)
    assert f"differ in {key}," in text
    assert f"Setting {key}: {SETTINGS[key]} in A, other in B." in text


def test_another_setting_is_told_and_leaves_the_pairs():
    found = compare(
        side("a", A),
        side("b", B, settings={**SETTINGS, "lr": 0.2}, tricks={"mixup": {"trick": "mixup", "alpha": 0.4}}),
    )
    assert "paired t over seeds" in row(found, "full | baseline")["interval"]
    assert "Setting lr: 0.1 in A, 0.2 in B." in found.notes
    assert any(note.startswith("Trick mixup:") and "0.4" in note for note in found.notes)


def test_a_table_without_settings_is_taken_on_trust_and_that_is_said():
    found = compare(side("a", A, settings={}), side("b", B))
    assert "paired t over seeds" in row(found, "full | baseline")["interval"]
    assert any("a, " in note and "on trust" in note for note in found.notes)


def test_speed_is_a_log_ratio_that_sessions_do_not_pair():
    rates = {"full | baseline": [50.0, 60.0, 66.0, 70.0]}
    found = compare(
        side("a", A, rates=RATES, software={"host": ["one"]}), side("b", B, rates=rates, software={"host": ["two"]})
    )
    speed = row(found, "full | baseline", "images_per_s")
    logs = [np.log(values["full | baseline"]) for values in (rates, RATES)]
    assert speed["estimate"] == pytest.approx(logs[0].mean() - logs[1].mean())
    interval = ttest_ind(*logs, equal_var=False).confidence_interval(0.95)
    assert (speed["low"], speed["high"]) == pytest.approx(tuple(interval))
    assert speed["n"] == 3
    assert any("host one in A, host two in B" in note for note in found.notes)
    alone = row(found, "full | mixup", "images_per_s")
    assert (alone["estimate"], alone["interval"]) == (0.0, "none: no rounds kept")


def test_memory_and_parameters_are_exact_differences():
    figures = {**FIGURES, "peak_memory_bytes": 2.0**20, "trainable_params": 17.0}
    found = compare(side("a", A), side("b", B, figures))
    for metric, difference in (("peak_memory_bytes", -(2.0**20)), ("trainable_params", 7.0)):
        exact = row(found, "full | baseline", metric)
        assert (exact["estimate"], exact["interval"]) == (difference, "exact difference")
        assert math.isnan(exact["low"])
    shown = table(found).set_index("cell").loc["full | baseline"]
    assert (shown["peak memory, MiB"], shown["trainable parameters"]) == ("−1.0", "+7")
    assert shown["B − A, points"] == "+3.0"


def test_the_same_training_on_both_sides_is_no_evidence():
    one = side("a", A)
    found = compare(one, Side("b", one.grid))
    top = row(found, "full | baseline")
    assert (top["estimate"], top["shared"]) == (0.0, 3)
    assert top["interval"] == "none: the same trainings on both sides"
    assert any(note.startswith("8 replicates are the same training") for note in found.notes)


def test_nothing_in_common_is_no_error():
    found = compare(side("a", {"full | baseline": [0.5]}), side("b", {"head | baseline": [0.5]}))
    assert found.differences.empty
    assert table(found).empty
    assert words(found)[:2] == ["Only in A: full | baseline.", "Only in B: head | baseline."]


def test_what_is_not_finished_on_both_sides_is_no_number():
    found = compare(side("a", {"full | baseline": ["failed", 0.5]}), side("b", {"full | baseline": [0.5, "failed"]}))
    top = row(found, "full | baseline")
    assert top["n"] == 0
    assert math.isnan(top["estimate"])
    assert "not finished" in top["interval"]


def test_comparison_is_written_as_csv_and_markdown(tmp_path):
    found = compare(side("a", A), side("b", B))
    write_comparison(found, tmp_path / "out")
    kept = pd.read_csv(tmp_path / "out" / "compare.csv")
    pd.testing.assert_frame_equal(kept, found.differences, check_dtype=False)
    text = (tmp_path / "out" / "compare.md").read_text()
    assert "| full \\| baseline | 60.3 | 63.3 | +3.0 |" in text
    assert all(sentence in text for sentence in words(found))
