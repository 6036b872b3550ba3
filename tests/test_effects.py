"""Effects: known differences come back, paired by seed and by round, and what is missing is counted."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_1samp

from harness.effects import COLUMNS, cells
from harness.effects import effects as effects_of
from harness.foreign import grid_of
from harness.results import tricks_of
from tests.samples import runs_table, throughput_table

NO_PROBE = throughput_table({})


def effects(runs, throughput):
    return effects_of(grid_of(runs, throughput))


def rows(frame, metric="test_top1"):
    return frame[frame["metric"] == metric].to_dict("records")


def row(frame, policy, trick, metric="test_top1"):
    (found,) = [r for r in rows(frame, metric) if (r["policy"], r["trick"]) == (policy, trick)]
    return found


def interval_of(differences):
    return tuple(ttest_1samp(differences, 0).confidence_interval(0.95))


# Top-1.


def test_known_effects_come_back():
    table = effects(
        runs_table(
            {
                "full | baseline": [0.50, 0.60, 0.70],
                "full | mixup": [0.52, 0.63, 0.69],
                "full | cosine": [0.45, 0.56, 0.62],
                "full | mixup + cosine": [0.60, 0.71, 0.83],
                "head | baseline": [0.30, 0.20, 0.10],
                "head | mixup": [0.31, 0.24, 0.12],
            }
        ),
        NO_PROBE,
    )
    wanted = {
        ("one_in", "full", "mixup"): [0.02, 0.03, -0.01],
        ("one_in", "full", "cosine"): [-0.05, -0.04, -0.08],
        ("combined", "full", "mixup + cosine"): [0.10, 0.11, 0.13],
        ("policy", "head", ""): [-0.20, -0.40, -0.60],
        ("one_in", "head", "mixup"): [0.01, 0.04, 0.02],
    }
    assert [(r["kind"], r["policy"], r["trick"]) for r in rows(table)] == list(wanted)
    for found, differences in zip(rows(table), wanted.values(), strict=True):
        assert found["n"] == 3
        assert found["estimate"] == pytest.approx(np.mean(differences))
        assert (found["low"], found["high"]) == pytest.approx(interval_of(differences))
        assert "95%" in found["interval"]
        assert "seeds" in found["interval"]


def test_pairs_are_seeds_and_not_whatever_finished():
    """Each seed has its own level; means over different seeds would make an effect of 0.3 of the same 0.01."""
    table = effects(
        runs_table(
            {
                "full | baseline": [0.1, 0.4, "failed", 0.7],
                "full | mixup": ["diverged", 0.41, 0.9, 0.72],
            }
        ),
        NO_PROBE,
    )
    found = row(table, "full", "mixup")
    assert found["n"] == 2
    assert found["estimate"] == pytest.approx(0.015)
    assert (found["low"], found["high"]) == pytest.approx(interval_of([0.01, 0.02]))


def test_order_of_the_runs_is_no_pairing():
    runs = runs_table({"full | baseline": [0.1, 0.4, 0.7], "full | mixup": [0.12, 0.41, 0.7]})
    shuffled = runs.sample(frac=1, random_state=3).reset_index(drop=True)
    assert shuffled["cell"].tolist() != runs["cell"].tolist()
    assert row(effects(shuffled, NO_PROBE), "full", "mixup") == row(effects(runs, NO_PROBE), "full", "mixup")


def test_every_policy_is_held_against_its_own_baseline():
    runs = runs_table(
        {
            "full | baseline": [0.8, 0.9],
            "full | mixup": [0.81, 0.93],
            "head | baseline": [0.1, 0.2],
            "head | mixup": [0.11, 0.23],
        }
    )
    full, head = (row(effects(runs, NO_PROBE), policy, "mixup") for policy in ("full", "head"))
    assert full["estimate"] == pytest.approx(head["estimate"]) == pytest.approx(0.02)


def test_policies_are_held_against_the_first():
    runs = runs_table(
        {
            "head | baseline": [0.1, 0.2, "failed"],
            "head | mixup": [0.9, 0.9, 0.9],
            "full | baseline": [0.3, 0.5, 0.9],
            "head_bn | baseline": [0.1, 0.4, 0.5],
        }
    )
    table = effects(runs, throughput_table({"head | baseline": [200.0], "full | baseline": [100.0]}))
    found = [r for r in rows(table) if r["kind"] == "policy"]
    assert [(r["policy"], r["n"]) for r in found] == [("full", 2), ("head_bn", 2)]
    assert [r["estimate"] for r in found] == pytest.approx([0.25, 0.1])
    assert row(table, "full", "", "images_per_s")["estimate"] == pytest.approx(-math.log(2))


def test_all_tricks_together_keep_the_name_of_their_cell():
    labels = ["a", "b", "c", "d"]
    names = ["full | baseline", *(f"full | {label}" for label in labels), "full | all 4 together"]
    table = effects(runs_table({name: [0.5, 0.6] for name in names}), NO_PROBE)
    assert [(r["kind"], r["trick"]) for r in rows(table)] == [
        *(("one_in", label) for label in labels),
        ("combined", "all 4 together"),
    ]


def test_reversed_table_turns_every_sign():
    outcomes = {
        "full | baseline": [0.50, 0.60, 0.70],
        "full | mixup": [0.52, 0.63, 0.69],
        "full | cosine": [0.45, 0.56, 0.62],
        "full | mixup + cosine": [0.60, 0.71, 0.83],
    }
    rates = {"full | baseline": [100.0, 120.0], "full | mixup": [90.0, 100.0], "full | cosine": [110.0, 125.0]}
    table = effects(runs_table(outcomes), throughput_table(rates))
    reversed_table = effects(
        runs_table({cell: [1 - value for value in values] for cell, values in outcomes.items()}),
        throughput_table({cell: [1 / rate for rate in values] for cell, values in rates.items()}),
    )
    measured = table["metric"].isin(["test_top1", "images_per_s"])
    there, back = table[measured], reversed_table[measured]
    assert len(there) == 3 + 3
    assert back["estimate"].to_numpy() == pytest.approx(-there["estimate"].to_numpy(), nan_ok=True)
    assert back["low"].to_numpy() == pytest.approx(-there["high"].to_numpy(), nan_ok=True)
    assert back["high"].to_numpy() == pytest.approx(-there["low"].to_numpy(), nan_ok=True)


def test_one_pair_has_an_estimate_and_says_why_no_interval():
    found = row(effects(runs_table({"full | baseline": [0.5], "full | mixup": [0.6]}), NO_PROBE), "full", "mixup")
    assert (found["n"], found["estimate"]) == (1, pytest.approx(0.1))
    assert math.isnan(found["low"])
    assert math.isnan(found["high"])
    assert "n = 1" in found["interval"]


def test_pairs_that_differ_alike_say_why_no_interval():
    runs = runs_table({"full | baseline": [0.5, 0.25, 0.75], "full | mixup": [0.625, 0.375, 0.875]})
    found = row(effects(runs, NO_PROBE), "full", "mixup")
    assert (found["n"], found["estimate"]) == (3, 0.125)
    assert math.isnan(found["low"])
    assert "alike" in found["interval"]


@pytest.mark.parametrize("status", ["failed", "diverged", "missing", "killed", "running"])
def test_no_pair_is_an_effect_without_a_number(status):
    runs = runs_table({"full | baseline": [0.5, 0.6], "full | mixup": [status, status], "full | cosine": [0.6, 0.8]})
    table = effects(runs, NO_PROBE)
    found = row(table, "full", "mixup")
    assert found["n"] == 0
    assert math.isnan(found["estimate"])
    assert "no pair" in found["interval"]
    assert row(table, "full", "cosine")["estimate"] == pytest.approx(0.15)


def test_figures_of_a_replicate_that_did_not_finish_do_not_count():
    runs = runs_table({"full | baseline": [0.5, 0.6, 0.7], "full | mixup": [0.6, 0.8, 0.0]})
    runs.loc[(runs["cell"] == "full | mixup") & (runs["seed"] == 2), "status"] = "failed"
    found = row(effects(runs, NO_PROBE), "full", "mixup")
    assert (found["n"], found["estimate"]) == (2, pytest.approx(0.15))
    assert cells(runs)["test_top1_mean"].tolist() == pytest.approx([0.6, 0.7])


def test_seeds_that_never_met_are_no_pair():
    runs = runs_table({"full | baseline": [0.5, "failed"], "full | mixup": ["failed", 0.6]})
    assert row(effects(runs, NO_PROBE), "full", "mixup")["n"] == 0


# What it costs.


def test_throughput_is_a_log_ratio_paired_by_round():
    """The machine drifts by a factor of ten, in every round for all cells alike."""
    base = np.array([1000.0, 400.0, 100.0])
    ratios = np.array([0.8, 0.9, 0.85])
    runs = runs_table({"full | baseline": [0.5, 0.6], "full | mixup": [0.5, 0.7]})
    table = effects(runs, throughput_table({"full | baseline": base, "full | mixup": base * ratios}))
    found = row(table, "full", "mixup", "images_per_s")
    assert found["n"] == 3
    assert found["estimate"] == pytest.approx(np.log(ratios).mean())
    assert (found["low"], found["high"]) == pytest.approx(interval_of(np.log(ratios)))
    assert "rounds" in found["interval"]
    assert "log" in found["interval"]


def test_faster_is_positive():
    runs = runs_table({"full | baseline": [0.5], "full | mixup": [0.5]})
    table = effects(runs, throughput_table({"full | baseline": [100.0], "full | mixup": [200.0]}))
    assert row(table, "full", "mixup", "images_per_s")["estimate"] == pytest.approx(math.log(2))


def test_round_that_one_side_lacks_is_no_pair():
    runs = runs_table({"full | baseline": [0.5], "full | mixup": [0.5]})
    rates = throughput_table({"full | baseline": [100.0, 110.0, 120.0], "full | mixup": [50.0, 55.0]})
    assert row(effects(runs, rates), "full", "mixup", "images_per_s")["n"] == 2


def test_without_a_probe_there_is_no_speed():
    table = effects(runs_table({"full | baseline": [0.5], "full | mixup": [0.5]}), NO_PROBE)
    assert rows(table, "images_per_s") == []


def test_memory_and_parameters_are_exact_differences():
    runs = runs_table(
        {"full | baseline": [0.5, 0.6], "full | mixup": ["failed", 0.6]},
        {
            "full | baseline": {"peak_memory_bytes": 1000.0, "trainable_params": 50.0},
            "full | mixup": {"peak_memory_bytes": 1500.0, "trainable_params": 40.0},
        },
    )
    table = effects(runs, NO_PROBE)
    for metric, difference in (("peak_memory_bytes", 500.0), ("trainable_params", -10.0)):
        found = row(table, "full", "mixup", metric)
        assert (found["estimate"], found["n"]) == (difference, 1)
        assert math.isnan(found["low"])
        assert "exact" in found["interval"]


def test_costs_that_were_not_measured_are_no_number():
    table = effects(runs_table({"full | baseline": [0.5], "full | mixup": [0.5]}), NO_PROBE)
    found = row(table, "full", "mixup", "peak_memory_bytes")
    assert math.isnan(found["estimate"])
    assert found["n"] == 0


# Odd grids.


def test_no_tricks_at_all_is_no_effect_and_no_error():
    runs = runs_table({"full | baseline": [0.5, 0.6, "failed"]})
    table = effects(runs, NO_PROBE)
    assert table.empty
    assert tuple(table.columns) == COLUMNS
    assert cells(runs)["n"].tolist() == [2]


def test_no_tricks_leave_the_effects_of_policies():
    table = effects(runs_table({"full | baseline": [0.5, 0.6], "head | baseline": [0.4, "failed"]}), NO_PROBE)
    assert [(r["kind"], r["n"]) for r in rows(table)] == [("policy", 1)]


def test_policy_without_a_baseline_has_no_effects():
    table = effects(runs_table({"full | mixup": [0.5, 0.6], "full | cosine": [0.7, 0.8]}), NO_PROBE)
    assert table.empty


def test_nothing_run_yet_is_no_error():
    runs = runs_table({"full | baseline": ["missing"] * 2, "full | mixup": ["missing"] * 2})
    assert effects(runs, NO_PROBE)["estimate"].isna().all()
    assert cells(runs)["missing"].tolist() == [2, 2]


def test_effects_survive_a_table_on_disk(tmp_path):
    """The tables that a report writes are enough to compute its effects again."""
    runs = runs_table({"full | baseline": [0.5, 0.6, "failed"], "full | mixup": [0.52, 0.63, 0.8]})
    runs.to_csv(tmp_path / "runs.csv", index=False)
    again = pd.read_csv(tmp_path / "runs.csv")
    pd.testing.assert_frame_equal(effects(again, NO_PROBE), effects(runs, NO_PROBE), check_dtype=False)


# Cells.


def test_cells_count_what_became_of_each_replicate():
    outcomes = [0.5, 0.7, "failed", "killed", "diverged", "missing", "running", "scheduled"]
    (cell,) = cells(runs_table({"full | baseline": outcomes})).to_dict("records")
    assert {key: cell[key] for key in ("n", "failed", "diverged", "missing")} == {
        "n": 2,
        "failed": 2,
        "diverged": 1,
        "missing": 3,
    }


def test_cells_have_mean_and_sd_of_what_finished():
    runs = runs_table(
        {"full | baseline": [0.5, 0.7, "failed"], "full | mixup + cosine": [0.9, "missing", "missing"]},
        {"full | baseline": {"images_per_s": 100.0, "train_s": 3.0, "trainable_params": 7.0}},
    )
    baseline, both = cells(runs).to_dict("records")
    assert baseline["test_top1_mean"] == pytest.approx(0.6)
    assert baseline["test_top1_sd"] == pytest.approx(np.std([0.5, 0.7], ddof=1))
    assert baseline["val_top1_mean"] == pytest.approx(0.6)
    assert (baseline["images_per_s"], baseline["train_s"], baseline["trainable_params"]) == (100.0, 3.0, 7.0)
    assert (both["n"], both["test_top1_mean"]) == (1, 0.9)
    assert math.isnan(both["test_top1_sd"])
    assert math.isnan(both["images_per_s"])


def test_cells_say_policy_and_tricks_in_the_order_of_the_grid():
    runs = runs_table({"head | baseline": [0.5], "full | mixup + cosine": [0.5], "full | cosine": [0.5]})
    assert tricks_of(runs) == ["mixup", "cosine"]
    table = cells(runs)
    assert table["cell"].tolist() == ["head | baseline", "full | mixup + cosine", "full | cosine"]
    assert table["policy"].tolist() == ["head", "full", "full"]
    assert table["mixup"].tolist() == [False, True, False]
    assert table["cosine"].tolist() == [False, True, True]
