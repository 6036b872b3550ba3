"""Effects: known differences come back, paired by seed and by round, and what is missing is counted."""

import math
import os
import subprocess
import sys
from dataclasses import replace
from itertools import permutations, product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t as student
from scipy.stats import ttest_1samp

from harness.contrasts import KEYS, of_plan
from harness.effects import COLUMNS, cells
from harness.effects import effects as effects_of
from harness.foreign import grid_of
from harness.results import tricks_of
from harness.spec import DesignOf, RandomOrders
from harness.stats import two_way_t
from tests.grids import grid_from, plan_of
from tests.samples import grid_table, plan_json, runs_table, throughput_table

NO_PROBE = throughput_table({})


def effects(runs, throughput):
    return effects_of(grid_of(runs, throughput))


def rows(frame, metric="test_top1"):
    return frame[frame["metric"] == metric].to_dict("records")


def row(frame, policy, trick, metric="test_top1", kind=None):
    """The one row of an effect of a trick alone, or of another kind."""
    kind = kind or ("one_in" if trick else "policy")
    (found,) = [r for r in rows(frame, metric) if (r["policy"], r["trick"], r["kind"]) == (policy, trick, kind)]
    return found


def same(one, other):
    """Whether two rows are the same, NaN where NaN."""
    pd.testing.assert_series_equal(pd.Series(one), pd.Series(other))
    return True


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
        ("synergy", "full", "mixup + cosine"): [0.13, 0.12, 0.22],
        ("leave_one_out", "full", "mixup"): [0.15, 0.15, 0.21],
        ("leave_one_out", "full", "cosine"): [0.08, 0.08, 0.14],
        ("main", "full", "mixup"): [0.085, 0.09, 0.1],
        ("main", "full", "cosine"): [0.015, 0.02, 0.03],
        ("interaction", "full", "mixup × cosine"): [0.13, 0.12, 0.22],
        ("shapley", "full", "mixup"): [0.085, 0.09, 0.1],
        ("shapley", "full", "cosine"): [0.015, 0.02, 0.03],
        ("policy", "head", ""): [-0.20, -0.40, -0.60],
        ("one_in", "head", "mixup"): [0.01, 0.04, 0.02],
        ("interaction", "head", "mixup"): [-0.01, 0.01, 0.03],
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
    assert same(row(effects(shuffled, NO_PROBE), "full", "mixup"), row(effects(runs, NO_PROBE), "full", "mixup"))


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
        ("synergy", "all 4 together"),
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
    assert there["metric"].value_counts().to_dict() == {"test_top1": 11, "images_per_s": 11}
    assert there["low"].notna().sum() == 11 + 2
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


def test_costs_that_were_not_measured_have_no_rows():
    table = effects(runs_table({"full | baseline": [0.5], "full | mixup": [0.5]}), NO_PROBE)
    assert table["metric"].unique().tolist() == ["test_top1"]


def test_costs_that_one_side_lacks_are_no_number():
    outcomes = {"full | baseline": [0.5, 0.6], "full | mixup": [0.5, 0.6], "full | cosine": [0.5, 0.6]}
    figures = {
        cell: {"train_s": 2.0, "images_per_s": 9.0, "peak_memory_bytes": 7.0}
        for cell in ("full | baseline", "full | cosine")
    }
    rates = {cell: [100.0, 110.0] for cell in figures}
    table = effects(runs_table(outcomes, figures), throughput_table(rates))
    for metric in ("images_per_s", "train_s", "peak_memory_bytes"):
        lacking, there = (row(table, "full", trick, metric) for trick in ("mixup", "cosine"))
        assert math.isnan(lacking["estimate"])
        assert lacking["n"] == 0
        assert "not measured" in lacking["interval"]
        assert there["estimate"] == 0
    assert "trainable_params" not in table["metric"].tolist()


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


# Noise shared by seed, interactions of every order, over policies and scenarios.

LABELS = "abc"
SIZES = ({"size": "8"}, {"size": "16"})


def synthetic(noise=0.01, seeds=5, designs=("one_in", "all", "leave_one_out", "pairs", "factorial"), **plan):
    """A grid whose test top-1 is known but for noise, and its plan; of noise 3/4 is shared by the cells of a seed."""
    rng = np.random.default_rng(1)
    truth, drawn = {}, {}
    shared = rng.normal(size=seeds)
    made = plan_of(list(designs), LABELS, ("full", "head"), SIZES, seeds=seeds, **plan)
    for cell in made["cells"]:
        key = cell["policy"], cell["levels"]["size"], frozenset(cell["tricks"])
        truth[key] = rng.normal(0.5, 0.1)
        drawn[key] = truth[key] + noise * (0.75 * shared + 0.25 * rng.normal(size=seeds))
    return grid_from(made, lambda p, at, s, seed: float(drawn[p, at["size"], s][seed])), truth, drawn


def test_every_effect_is_its_contrast_of_every_seed():
    """Estimate, interval and the tests beside it, from the differences by seed written out."""
    grid, _, drawn = synthetic()
    found = effects_of(grid)
    weights = {tuple(getattr(c, key) for key in KEYS): c.weights for c in of_plan(grid.plan)}
    at = {
        cell["cell"]: (cell["policy"], cell["levels"]["size"], frozenset(cell["tricks"])) for cell in grid.plan["cells"]
    }
    assert len(found) == len(weights)
    for effect in found.to_dict("records"):
        d = sum(w * drawn[at[cell]] for cell, w in weights[tuple(effect[key] for key in KEYS)].items())
        assert effect["n"] == 5
        assert effect["estimate"] == pytest.approx(d.mean())
        assert effect["sd"] == pytest.approx(d.std(ddof=1))
        assert (effect["low"], effect["high"]) == pytest.approx(interval_of(d))
        assert effect["p"] == pytest.approx(ttest_1samp(d, 0).pvalue)
        assert effect["p_improvement"] == (d > 0).mean()
        signs = np.array(list(product([-1, 1], repeat=5)))
        flipped = abs((signs * d).sum(axis=1)) >= abs(d.sum()) - 1e-12
        assert effect["p_sign_flip"] == pytest.approx(flipped.mean())
        assert (effect["role"], effect["claim"], effect["level"]) == ("exploratory", "", 0.95)


def test_without_noise_every_effect_is_the_truth():
    grid, truth, _ = synthetic(noise=0.0)
    found = effects_of(grid)
    by_kind = {
        (r["kind"], r["policy"], r["trick"], r["against"], r["scenario"]): r["estimate"]
        for r in found.to_dict("records")
    }
    for policy, size in product(("full", "head"), ("8", "16")):
        v = {s: truth[policy, size, s] for p, at, s in truth if (p, at) == (policy, size)}
        here = (policy, f"size {size}")
        for trick in LABELS:
            one, other = (t for t in LABELS if t != trick)
            alone = v[frozenset(trick)] - v[frozenset()]
            assert by_kind["one_in", policy, trick, "baseline", here[1]] == pytest.approx(alone)
            orders = [
                v[frozenset(o[: o.index(trick) + 1])] - v[frozenset(o[: o.index(trick)])] for o in permutations(LABELS)
            ]
            assert by_kind["shapley", policy, trick, "", here[1]] == pytest.approx(np.mean(orders))
            on = [v[s | {trick}] - v[s] for s in map(frozenset, ((), (one,), (other,), (one, other)))]
            assert by_kind["main", policy, trick, "", here[1]] == pytest.approx(np.mean(on))
        combined = by_kind["combined", policy, "a + b + c", "baseline", here[1]]
        assert combined == pytest.approx(sum(by_kind["shapley", policy, t, "", here[1]] for t in LABELS))
    assert found["interval"].eq("none: every pair differs alike").all()


def test_same_grid_gives_the_same_bytes():
    """Within a process, and whatever the order in which sets of strings are gone through elsewhere."""
    grid, *_ = synthetic()
    assert effects_of(grid).to_csv() == effects_of(grid).to_csv()
    code = (
        "from tests.test_effects import effects_of, synthetic; import hashlib;"
        "print(hashlib.sha256(effects_of(synthetic()[0]).to_csv().encode()).hexdigest())"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=Path(__file__).parents[1],
            stdout=subprocess.PIPE,
        )
        for seed in ("1", "2")
    ]
    digests = {process.communicate()[0] for process in processes}
    assert all(digests)
    assert len(digests) == 1


def test_order_of_the_rows_changes_nothing():
    grid, *_ = synthetic()
    shuffled = grid.runs.sample(frac=1, random_state=1).reset_index(drop=True)
    pd.testing.assert_frame_equal(effects_of(replace(grid, runs=shuffled)), effects_of(grid))


def test_frame_has_its_columns():
    assert tuple(effects_of(synthetic()[0]).columns) == COLUMNS


# What an average over many cells costs.


def test_costs_of_every_kind_are_contrasts_of_logarithms_or_figures():
    """Each trick of three takes a factor of the time, and a and b together another."""
    factor = {"a": 1.5, "b": 0.8, "c": 1.0}

    def slow(tricks):
        return math.prod(factor[t] for t in tricks) * (2.0 if {"a", "b"} <= set(tricks) else 1.0)

    plan = plan_of(["factorial"], LABELS)
    drift = np.array([1.0, 0.3, 2.0, 1.1, 0.7])
    rates = {cell["cell"]: 100 * drift / slow(cell["tricks"]) for cell in plan["cells"]}

    def figures(_, tricks):
        return {
            "train_s": 4 * slow(tricks),
            "images_per_s": 90 / slow(tricks),
            "peak_memory_bytes": 1e9 + 3e6 * len(tricks),
            "trainable_params": 7.0,
        }

    found = effects_of(grid_from(plan, lambda *_: 0.5, figures, rates))
    both = math.log(2)
    wanted = {
        ("one_in", "a"): math.log(1.5),
        ("one_in", "b"): math.log(0.8),
        ("one_in", "c"): 0,
        ("main", "a"): math.log(1.5) + both / 2,
        ("shapley", "b"): math.log(0.8) + both / 2,
        ("interaction", "a × b"): both,
        ("interaction", "a × c"): 0,
        ("combined", "a + b + c"): math.log(1.5 * 0.8 * 2),
        ("synergy", "a + b + c"): both,
    }
    for (kind, trick), value in wanted.items():
        seconds, rate = (row(found, "full", trick, metric, kind) for metric in ("train_s", "images_per_s"))
        assert seconds["estimate"] == pytest.approx(value, abs=1e-12)
        assert rate["estimate"] == pytest.approx(-value, abs=1e-12)
        assert seconds["n"] == rate["n"] == 5
    assert row(found, "full", "a", "peak_memory_bytes", "shapley")["estimate"] == 3e6
    assert row(found, "full", "a × b", "peak_memory_bytes", "interaction")["estimate"] == 0
    exact = found[found["metric"].isin(["peak_memory_bytes", "trainable_params"])]
    assert exact["interval"].eq("exact difference").all()
    assert exact[["low", "high", "p"]].isna().all(axis=None)


def test_training_time_has_the_interval_of_the_rounds():
    runs = runs_table(
        {"full | baseline": [0.5, 0.6], "full | mixup": [0.5, 0.7]},
        {
            "full | baseline": {"train_s": 10.0, "images_per_s": 100.0},
            "full | mixup": {"train_s": 30.0, "images_per_s": 50.0},
        },
    )
    base, slow = np.array([100.0, 120.0, 90.0]), np.array([50.0, 55.0, 51.0])
    table = effects(runs, throughput_table({"full | baseline": base, "full | mixup": slow}))
    found = row(table, "full", "mixup", "train_s")
    d = np.log(30 * 50 / slow) - np.log(10 * 100 / base)
    assert found["estimate"] == pytest.approx(d.mean())
    assert (found["low"], found["high"]) == pytest.approx(interval_of(d))


def test_runs_of_another_host_take_the_time_they_would_take_here():
    """The baseline ran on a host of a quarter of the speed: the same work, so no difference but that of the probe."""
    outcomes = {"full | baseline": [0.5, 0.6], "full | mixup": [0.5, 0.7]}
    there, here = {"train_s": 40.0, "images_per_s": 100.0}, {"train_s": 10.0, "images_per_s": 400.0}
    runs = runs_table(outcomes, dict(zip(outcomes, (there, here), strict=True)))
    probe = throughput_table({cell: [400.0, 300.0] for cell in outcomes})
    found = row(effects(runs, probe), "full", "mixup", "train_s")
    assert found["estimate"] == pytest.approx(0)
    table = cells(runs, probe)
    rate = math.sqrt(400 * 300)
    assert table["images_per_s"].tolist() == pytest.approx([rate, rate])
    assert table["train_s"].tolist() == pytest.approx([4000 / rate] * 2)


# Other test images.


def test_interval_over_seeds_and_examples_by_hand():
    """2 seeds × 4 test images; differences 1 0 0 1 and 1 1 0 1."""
    correct = {
        ("full | baseline", 0): np.array([0, 1, 0, 0], dtype=bool),
        ("full | a", 0): np.array([1, 1, 0, 1], dtype=bool),
        ("full | baseline", 1): np.array([0, 0, 1, 0], dtype=bool),
        ("full | a", 1): np.array([1, 1, 1, 1], dtype=bool),
    }
    grid = grid_table({"full | baseline": [0.25, 0.25], "full | a": [0.75, 1.0]}, correct=correct)
    (found,) = rows(effects_of(grid))
    # Mean squares: rows 4 · 2 · (1/8)², columns 2 · (2 · (3/8)² + (1/8)² + (5/8)²) / 3, residual 3/24.
    by_row, by_column, left = 1 / 8, 11 / 24, 1 / 8
    assert by_row <= left
    widest = max(
        student.ppf(0.975, df) * math.sqrt(square / 8) for square, df in ((by_row, 1), (by_column, 3), (left, 3))
    )
    assert found["estimate"] == pytest.approx(5 / 8)
    assert (found["examples_low"], found["examples_high"]) == pytest.approx((5 / 8 - widest, 5 / 8 + widest))


def test_interval_over_examples_of_an_interaction():
    rng = np.random.default_rng(2)
    names = ["full | baseline", "full | a", "head | baseline", "head | a"]
    correct = {(name, seed): rng.random(40) < 0.6 for name in names for seed in range(3)}
    grid = grid_table({name: [float(correct[name, s].mean()) for s in range(3)] for name in names}, correct=correct)
    found = row(effects_of(grid), "head", "a", kind="interaction")
    d = [sum(w * correct[name, s] for name, w in zip(names, (1.0, -1.0, -1.0, 1.0), strict=True)) for s in range(3)]
    expected = two_way_t(np.array(d))
    assert found["estimate"] == pytest.approx(expected.estimate)
    assert (found["examples_low"], found["examples_high"]) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize("lengths", [(40, 30), (40, None)], ids=["other test sets", "not kept"])
def test_without_the_same_images_there_is_no_interval_over_them(lengths):
    correct = {
        (name, seed): np.arange(size) % 2 == seed
        for name, size in zip(("full | baseline", "full | a"), lengths, strict=True)
        for seed in (0, 1)
        if size
    }
    (found,) = rows(effects_of(grid_table({"full | baseline": [0.5, 0.4], "full | a": [0.6, 0.7]}, correct=correct)))
    assert math.isnan(found["examples_low"])


# Sampled orders.


def test_orders_have_a_standard_error_over_the_seeds_of_the_estimate():
    """Seed 2 lacks a cell, so it is in neither the estimate nor its error."""
    plan = plan_of([DesignOf(cumulative=RandomOrders(orders=4, seed=2))], "abcd")
    rng = np.random.default_rng(0)
    value = {cell["cell"]: rng.normal(0.5, 0.1, 3) for cell in plan["cells"]}
    lost = plan["cells"][-1]["tricks"]
    names = {frozenset(cell["tricks"]): cell["cell"] for cell in plan["cells"]}

    def response(_, __, tricks, seed):
        return "failed" if (seed, tricks) == (2, frozenset(lost)) else float(value[names[tricks]][seed])

    found = row(effects_of(grid_from(plan, response)), "full", "a", kind="shapley")
    orders = [tuple(order) for order in plan["designs"][0]["orders"]]

    def added(order):
        before = frozenset(order[: order.index("a")])
        return (value[names[before | {"a"}]] - value[names[before]])[:2].mean()

    pairs = [(added(order) + added(order[::-1])) / 2 for order in orders if order < order[::-1]]
    assert len(pairs) == 2
    assert found["n"] == 2
    assert found["estimate"] == pytest.approx(np.mean(pairs))
    assert found["order_se"] == pytest.approx(math.sqrt((1 - 4 / 24) * np.var(pairs, ddof=1) / 2))


def test_all_orders_leave_nothing_to_sampling():
    table = effects_of(synthetic(designs=[DesignOf(cumulative=RandomOrders(orders=6))])[0])
    assert (table[table["kind"] == "shapley"]["order_se"] == 0).all()
    assert table[table["kind"] != "shapley"]["order_se"].isna().all()


# Divergence.


def test_diverged_replicates_are_counted_over_all_sides():
    outcomes = {"full | baseline": [0.9, 0.8, 0.7, "diverged"], "full | mixup": [0.8, "diverged", "diverged", 0.9]}
    plan = plan_json(list(outcomes), 4)
    for cell in plan["cells"]:
        cell["classes"] = 4
    found = row(effects_of(grid_table(outcomes, cells=plan["cells"])), "full", "mixup")
    assert (found["n"], found["diverged"]) == (1, 3 / 8)
    assert found["estimate"] == pytest.approx(-0.1)
    assert found["with_chance"] == pytest.approx(np.mean([0.8 - 0.9, 0.25 - 0.8, 0.25 - 0.7, 0.9 - 0.25]))


def test_failed_replicates_are_not_taken_for_guesses():
    outcomes: dict[str, list[Any]] = {"full | baseline": [0.9, 0.8, 0.7], "full | mixup": [0.8, "failed", "diverged"]}
    plan = plan_json(list(outcomes), 3)
    for cell in plan["cells"]:
        cell["classes"] = 2
    found = row(effects_of(grid_table(outcomes, cells=plan["cells"])), "full", "mixup")
    assert found["diverged"] == pytest.approx(
        1 / 5
    )  # of those that ended; one that failed says nothing of the training
    assert found["with_chance"] == pytest.approx(np.mean([0.8 - 0.9, 0.5 - 0.7]))


def test_guesses_of_unknown_accuracy_are_no_number():
    found = row(
        effects(runs_table({"full | baseline": [0.9, 0.8], "full | a": [0.8, "diverged"]}), NO_PROBE), "full", "a"
    )
    assert found["diverged"] == 0.25
    assert math.isnan(found["with_chance"])


def test_without_divergence_there_is_no_sensitivity_to_it():
    found = row(
        effects(runs_table({"full | baseline": [0.9, 0.8], "full | a": [0.8, "failed"]}), NO_PROBE), "full", "a"
    )
    assert found["diverged"] == 0
    assert math.isnan(found["with_chance"])
