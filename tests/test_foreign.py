"""Somebody else's results: what their columns come to, and what they cannot be."""

import math
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_1samp, ttest_ind

from harness.coverage import coverage
from harness.effects import effects
from harness.errors import HarnessError
from harness.foreign import Columns, foreign_grid
from harness.report import write_report
from harness.sources import read_csv
from tests.samples import grid_table

RECIPE = {
    "lr tuning": 76.494,
    "TrivialAugment": 76.806,
    "long training": 78.606,
    "random erasing": 78.796,
    "label smoothing": 79.114,
    "mixup": 79.232,
    "CutMix": 79.510,
    "weight-decay tuning": 80.036,
    "FixRes": 80.196,
    "EMA": 80.450,
    "inference size": 80.674,
    "repeated augmentation": 80.858,
}
"""Top-1 of torchvision's ResNet-50 with each part of its recipe added to those before; 76.130 without any."""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "table.csv"
    path.write_text(text, encoding="utf-8")
    return path


def grid(tmp_path: Path, text: str, **columns):
    return foreign_grid(read_csv(write(tmp_path, text)), Columns(**{"policy": "policy", "metric": "acc", **columns}))


def frame(tmp_path: Path, rows: pd.DataFrame, **columns):
    return grid(tmp_path, rows.to_csv(index=False), **columns)


def by_kind(found: pd.DataFrame, kind: str) -> pd.DataFrame:
    return found[(found["kind"] == kind) & (found["metric"] == "test_top1")].reset_index(drop=True)


def test_a_stacked_recipe_has_the_published_steps(tmp_path):
    names, tops = [*RECIPE], [76.130, *RECIPE.values()]
    rows = [["scratch", *(int(j < size) for j in range(12)), top] for size, top in enumerate(tops)]
    table = pd.DataFrame(rows, columns=["policy", *names, "acc"])
    found = effects(frame(tmp_path, table, tricks=tuple(names), percent=True))
    steps = by_kind(found, "step")
    assert steps["trick"].tolist() == names
    assert 100 * steps["estimate"].to_numpy() == pytest.approx(np.diff(tops))
    assert set(steps["interval"]) == {"none: n = 1"}
    assert steps["low"].isna().all()
    assert 100 * by_kind(found, "combined")["estimate"].tolist()[0] == pytest.approx(80.858 - 76.130)


def test_runs_of_this_harness_read_as_a_table_have_the_same_effects(tmp_path):
    outcomes: dict[str, list[Any]] = {
        "full | baseline": [0.50, 0.60, 0.70],
        "full | mixup": [0.52, 0.63, "failed"],
        "full | cosine": [0.45, 0.56, 0.62],
        "full | mixup + cosine": [0.60, 0.71, 0.83],
        "head | baseline": [0.30, 0.20, 0.10],
        "head | mixup": [0.31, 0.24, 0.12],
    }
    own = grid_table(outcomes)
    table = own.runs.rename(columns={"test_top1": "acc"}).drop(columns=["status", "reason"])
    found = effects(frame(tmp_path, table, tricks=("mixup", "cosine"), pair_by=("seed",)))
    pd.testing.assert_frame_equal(found, effects(own), check_dtype=False)


def unbalanced() -> pd.DataFrame:
    """Data sets × policies × fractions of the data, of which some are lacking, as arXiv 2102.05543 lays them out."""
    rng = np.random.default_rng(1)
    gains = {"head": 0.0, "bn affine": 0.03, "all": 0.035}
    return pd.DataFrame(
        [
            {"dataset": data, "fraction": share, "policy": policy, "acc": round(0.8 + gain + 0.02 * i + noise, 4)}
            for (i, data), share, (policy, gain) in product(enumerate("uvwxyz"), ("1%", "10%", "100%"), gains.items())
            if (noise := rng.normal(0, 0.01)) < 0.012
        ]
    )


def test_an_unbalanced_table_is_paired_as_far_as_it_goes(tmp_path):
    table = unbalanced()
    made = frame(tmp_path, table, scenario=("fraction",), pair_by=("dataset",), baseline="all")
    found = effects(made)
    sizes = set()
    for row in by_kind(found, "policy").to_dict("records"):
        here = table[table["fraction"] == row["scenario"].removeprefix("fraction ")]
        wide = here.pivot_table(index="dataset", columns="policy", values="acc")
        d = (wide[row["policy"]] - wide["all"]).dropna()
        assert row["against"] == "all"
        assert (row["n"], row["estimate"]) == (len(d), pytest.approx(d.mean()))
        assert (row["low"], row["high"]) == pytest.approx(tuple(ttest_1samp(d, 0).confidence_interval(0.95)))
        assert row["interval"] == "95% paired t over blocks"
        sizes.add(len(d))
    assert len(sizes) > 1, "the table is not unbalanced"
    assert "Cells lack blocks" in coverage(made.plan)
    assert len(by_kind(found, "policy")) == 6


def test_runs_that_nothing_pairs_are_compared_by_welch(tmp_path):
    table = unbalanced().query("fraction == '100%'")
    made = frame(tmp_path, table)
    first = table["policy"].iloc[0]
    (row, other) = by_kind(effects(made), "policy").to_dict("records")
    sides = [table.loc[table["policy"] == policy, "acc"] for policy in (row["policy"], first)]
    asked = ttest_ind(*sides, equal_var=False)
    assert len(sides[0]) != len(sides[1])
    assert row["estimate"] == pytest.approx(sides[0].mean() - sides[1].mean())
    assert (row["low"], row["high"]) == pytest.approx(tuple(asked.confidence_interval(0.95)))
    assert row["p"] == pytest.approx(asked.pvalue)
    assert row["n"] == min(map(len, sides))
    assert row["interval"] == "95% Welch t, unpaired"
    assert row["p_improvement"] == pytest.approx(np.mean([(a > b) + (a == b) / 2 for a, b in product(*sides)]))
    assert math.isnan(row["p_sign_flip"])
    assert {row["against"], other["against"]} == {first}
    assert made.runs["seed"].is_unique, "nothing else can pair them either"


def test_a_cell_without_a_finished_run_is_an_effect_without_a_number(tmp_path):
    made = grid(tmp_path, "policy,acc\na,0.5\na,0.6\nb,\nb,nan\n")
    (row,) = by_kind(effects(made), "policy").to_dict("records")
    assert row["n"] == 0
    assert math.isnan(row["estimate"])
    lost = made.runs[made.runs["policy"] == "b"]
    assert lost["status"].tolist() == ["missing", "missing"]
    assert lost["reason"].tolist() == ["line 4: no value", "line 5: no value"]


def test_several_rows_of_a_pair_count_by_their_mean_and_it_is_said(tmp_path):
    made = grid(tmp_path, "policy,fold,acc\na,1,0.5\na,1,0.7\na,2,0.6\nb,1,0.9\nb,2,\nb,2,0.8\n", pair_by=("fold",))
    assert made.runs["test_top1"].tolist() == pytest.approx([0.6, 0.6, 0.9, 0.8])
    assert made.runs["reason"].tolist() == ["mean of 2 rows", "", "", "line 6: no value"]
    assert made.runs["seed"].tolist() == ["fold 1", "fold 2"] * 2
    assert "1 cells" in made.plan["settings"]["several rows in a cell and pair"]
    assert by_kind(effects(made), "policy")["estimate"].tolist() == pytest.approx([0.25])


def test_pairs_may_be_named_by_several_columns(tmp_path):
    text = "policy,seed,fold,acc\na,0,x,0.1\na,0,y,0.2\nb,0,y,0.4\nb,0,x,0.2\n"
    made = grid(tmp_path, text, pair_by=("seed", "fold"))
    assert made.plan["seeds"] == ["seed 0, fold x", "seed 0, fold y"]
    (row,) = by_kind(effects(made), "policy").to_dict("records")
    assert (row["n"], row["sd"]) == (2, pytest.approx(np.std([0.1, 0.2], ddof=1)))
    assert made.plan["terms"]["paired_by"] == "seed × fold"
    assert "Cells lack" not in coverage(made.plan)


@pytest.mark.parametrize(("on", "off"), [("true", "False"), ("1", "0"), ("1.0", "0.0"), ("Yes", "no"), ("on", "")])
def test_a_trick_is_on_or_off_in_many_spellings(tmp_path, on, off):
    made = grid(tmp_path, f"policy,mixup,acc\na,{off},0.5\na,{on},0.75\n", tricks=("mixup",))
    assert made.runs["mixup"].tolist() == [False, True]
    assert by_kind(effects(made), "one_in")["estimate"].tolist() == [0.25]


@pytest.mark.parametrize(
    ("levels", "tricks"),
    [
        (["sgd", "adam", "lion"], ["opt=adam", "opt=lion"]),
        (["adam", "none", "lion"], ["opt=adam", "opt=lion"]),
        (["adam", "", "0.5"], ["opt=adam", "opt=0.5"]),
    ],
)
def test_every_level_but_the_reference_is_a_trick(tmp_path, levels, tricks):
    rows = "".join(f"a,{level},0.{i}\n" for i, level in enumerate(levels, 4))
    made = grid(tmp_path, f"policy,opt,acc\n{rows}", tricks=("opt",))
    assert [*made.plan["tricks"]] == tricks
    assert by_kind(effects(made), "one_in")["trick"].tolist() == tricks


def test_reference_policy_goes_first_wherever_it_stands(tmp_path):
    made = grid(tmp_path, "policy,acc\na,0.5\nb,0.7\nc,0.8\n", baseline="c")
    found = by_kind(effects(made), "policy")
    assert found[["policy", "against"]].to_numpy().tolist() == [["a", "c"], ["b", "c"]]


def test_less_error_is_better(tmp_path):
    made = grid(tmp_path, "policy,acc\na,30\nb,20\n", percent=True, lower_is_better=True)
    assert made.runs["test_top1"].tolist() == pytest.approx([0.7, 0.8])
    assert made.plan["terms"]["metric"] == "1 − acc"


NINE = ",".join(f"t{i}" for i in range(65))


@pytest.mark.parametrize(
    ("text", "columns", "words"),
    [
        ("policy,acc\na,0.1\nb,0.2\n", {"metric": "auc"}, ["unknown column 'auc'", "policy, acc", "mean 'acc'"]),
        ("policy,acc\na,0.1\nb,high\n", {}, ["line 3", "'high'", "'acc'", "no number"]),
        ("policy,acc\na,71.3\nb,0.2\n", {}, ["line 2", "71.3", "--percent"]),
        ("policy,acc\na,0.3\nb,inf\n", {}, ["line 3", "inf"]),
        ("policy,acc\na,171.3\nb,0.2\n", {"percent": True}, ["line 2", "171.3", "even as per cent"]),
        ("policy,acc\na,-0.1\nb,0.2\n", {}, ["line 2", "-0.1"]),
        ("policy,acc\na,0.1\na,0.2\n", {}, ["'a' in every row", "nothing to compare"]),
        ("policy,acc\na,0.1\n,0.2\n", {}, ["line 3", "no value in column 'policy'"]),
        ("policy,acc\na | b,0.1\nb,0.2\n", {}, ["line 2", "' | '"]),
        ("policy,acc\na,0.1\nb,0.2\n", {"baseline": "c"}, ["unknown baseline 'c'", "a, b"]),
        ("policy,x,acc\na,1,0.1\nb,1,0.2\n", {"tricks": ("x",)}, ["'x'", "in every row", "leave it out"]),
        ("policy,x,acc\na,1,0.1\nb,true,0.2\n", {"tricks": ("x",)}, ["'x'", "in every row"]),
        ("policy,x,acc\na,1,0.1\nb,0,0.2\n", {"tricks": ("x",), "pair_by": ("x",)}, ["'x' is used twice"]),
        ("policy,seed,acc\na,1,0.1\nb,0,0.2\n", {"tricks": ("seed",)}, ["'seed' of its own", "rename"]),
        ("policy,baseline,acc\na,1,0.1\nb,0,0.2\n", {"tricks": ("baseline",)}, ["'baseline'", "rename"]),
        ("policy,a + b,acc\na,1,0.1\nb,0,0.2\n", {"tricks": ("a + b",)}, ["'a + b'", "rename"]),
        ("policy,fold,acc\na,1,0.1\nb,,0.2\n", {"pair_by": ("fold",)}, ["line 3", "'fold'"]),
        (
            "policy,lr,acc\n" + "".join(f"a,0.{i}x,0.1\n" for i in range(13)),
            {"tricks": ("lr",)},
            ["'lr' has 13 levels", "0.0x", "scenario"],
        ),
        (
            f"policy,{NINE},acc\na{',0' * 65},0.1\na{',1' * 65},0.2\n",
            {"tricks": tuple(NINE.split(","))},
            ["65 tricks", "64"],
        ),
    ],
)
def test_what_cannot_be_used_is_said_with_its_place(tmp_path, text, columns, words):
    with pytest.raises(HarnessError) as error:
        grid(tmp_path, text, **columns)
    assert [word for word in [*words, "table.csv"] if word not in str(error.value)] == []


def test_many_sets_without_a_top_are_no_stack_and_take_no_time(tmp_path):
    """11! orders of stacking end before the top."""
    sets = [s for s in product((0, 1), repeat=11) if sum(s) not in (10,)]
    names = tuple(f"t{i}" for i in range(11))
    table = pd.DataFrame([["a", *s, 0.5] for s in sets], columns=["policy", *names, "acc"])
    made = frame(tmp_path, table, tricks=names)
    from harness.designs import recognise

    found = recognise([tuple(cell["tricks"]) for cell in made.plan["cells"]], names)
    assert "cumulative" not in {design.kind for design in found}


def test_report_speaks_of_the_tables_own_metric(tmp_path):
    made = frame(tmp_path, unbalanced().rename(columns={"acc": "AUC"}), metric="AUC", scenario=("fraction",))
    write_report(made, tmp_path / "out", {}, "harness report")
    text = (tmp_path / "out" / "report.md").read_text()
    page = (tmp_path / "out" / "report.html").read_text()
    assert "points of AUC" in text
    assert "unpaired" in text
    assert coverage(made.plan) in text
    for words in ("top-1", "paired by seed", "seeds"):
        assert words not in text
        assert words not in page
    assert set(pd.read_csv(tmp_path / "out" / "effects.csv")["metric"]) == {"AUC"}
    assert {"AUC_mean", "AUC_sd"} <= set(pd.read_csv(tmp_path / "out" / "cells.csv").columns)
    assert "AUC" in pd.read_csv(tmp_path / "out" / "runs.csv").columns
    # What figures say is text in their SVG, drawn as shapes: none is left to search but in the alternative texts.
    assert "on AUC" in page


def test_report_is_the_same_bytes_again(tmp_path):
    made = frame(tmp_path, unbalanced(), scenario=("fraction",), pair_by=("dataset",))
    for name in ("one", "two"):
        write_report(made, tmp_path / name, {}, "harness report")
    for path in (tmp_path / "one").rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()
