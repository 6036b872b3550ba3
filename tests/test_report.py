"""The report's files: complete, self-contained, the same bytes from the same runs."""

import re
from pathlib import Path

import pandas as pd
import pytest

from harness import tables
from harness.artifacts import finals
from harness.effects import COLUMNS, effects
from harness.effects import cells as cells_of
from harness.errors import HarnessError
from harness.report import check_writable, write_report
from harness.results import Grid
from harness.tasks.metrics import TOP1

PLAN = {
    "name": "study",
    "about": "Is <b>this</b> escaped?",
    "policies": {"full": "Everything learns.", "head": "Only the classifier learns."},
    "tricks": {"warmup": {"trick": "warmup", "epochs": 1.0}},
    "seeds": [0, 1],
    "cells": [
        {"cell": f"{policy} | {name}", "policy": policy, "tricks": tricks, "levels": {}, "classes": 2}
        for policy in ("full", "head")
        for name, tricks in (("baseline", []), ("warmup", ["warmup"]))
    ],
    "judgements": [
        {
            "cell": "full | mixup",
            "policy": "full",
            "tricks": ["mixup"],
            "verdict": "invalid",
            "reason": "no room for it",
        }
    ],
    "settings": {"model": "m", "decay": {"factor": 0.1}, "shift": ["invert"]},
}


def grid(**changes: object) -> Grid:
    """Two policies × (baseline, warmup) × two seeds; the last replicate diverged."""
    rows: list[dict] = []
    for policy, level in (("full", 0.9), ("head", 0.5)):
        for warmup in (False, True):
            for seed in (0, 1):
                top1 = level + 0.02 * warmup + 0.01 * seed * (1 + warmup)
                rows.append(
                    {
                        "policy": policy,
                        "warmup": warmup,
                        "seed": seed,
                        "cell": f"{policy} | {'warmup' if warmup else 'baseline'}",
                        "status": "finished",
                        "reason": "",
                        **dict.fromkeys(finals("classification"), 1.0),
                        "test_top1": top1,
                        "images_per_s": 100.0,
                        "run_id": f"r{len(rows)}",
                        "trained_by": "",
                    }
                )
    rows[-1] |= {"status": "diverged", "reason": "training loss is nan in epoch 1 of 2", "test_top1": float("nan")}
    runs = pd.DataFrame(rows)
    curves = pd.concat(
        pd.DataFrame(
            {"policy": r["policy"], "cell": r["cell"], "seed": r["seed"], "epoch": [1, 2], "val_top1": [0.1, 0.2]}
        )
        for r in rows
    )
    rounds = [(cell, number, 100.0 + number) for cell in runs["cell"].unique() for number in range(3)]
    given = {
        "plan": PLAN,
        "runs": runs,
        "curves": curves,
        "throughput": pd.DataFrame(rounds, columns=["cell", "round", "images_per_s"]),
        "prerequisites": pd.DataFrame(columns=["digest", "what", "epochs", "test_top1"]),
        "software": {"torch": ["1"], "device": ["a <CPU>"]},
        "experiment_id": "1",
        "run_id": "r",
    }
    return Grid(**(given | changes))  # type: ignore[arg-type]


def test_every_file_is_there_and_the_same_twice(tmp_path: Path) -> None:
    write_report(grid(), tmp_path / "a", {}, "harness run x.yaml")
    write_report(grid(), tmp_path / "b", {}, "harness run x.yaml")
    first, second = (
        {p.relative_to(tmp_path / name).as_posix(): p.read_bytes() for p in (tmp_path / name).rglob("*") if p.is_file()}
        for name in "ab"
    )
    assert first == second
    drawn = ("heatmap", "forest", "policy_interactions", "pareto", "memory", "budget", "curves")
    figures = {f"figures/{name}.{form}" for name in drawn for form in ("png", "svg", "pdf")}
    for_latex = {f"tables/{name}.tex" for name in ("effects", "interactions", "cells")}
    assert set(first) == {"runs.csv", "cells.csv", "effects.csv", "report.md", "report.html", *figures, *for_latex}


def test_files_of_an_earlier_report_that_this_one_lacks_are_removed_and_others_stay(tmp_path: Path) -> None:
    write_report(grid(batch_norm=diagnosed("bn1", "bn2")), tmp_path, {}, "")
    (tmp_path / "figures" / "mine.png").write_bytes(b"")
    assert (tmp_path / "figures" / "batch_norm.png").exists()
    write_report(grid(), tmp_path, {}, "")
    assert not (tmp_path / "figures" / "batch_norm.png").exists()
    assert not (tmp_path / "batch_norm.csv").exists()
    assert (tmp_path / "figures" / "mine.png").exists()


def test_tables_for_latex_are_booktabs_without_signs_it_lacks(tmp_path: Path) -> None:
    write_report(grid(), tmp_path, {}, "")
    text = (tmp_path / "tables" / "cells.tex").read_text()
    assert text.index("\\toprule") < text.index("\\midrule") < text.index("\\bottomrule")
    assert "90.5 $\\pm$ 0.7" in text
    assert "test top-1, \\%" in text
    for name in (tmp_path / "tables").iterdir():
        assert not set(name.read_text()) & set("−±×≥–γ")


def test_tables_are_what_a_reader_can_count_on(tmp_path: Path) -> None:
    write_report(grid(), tmp_path, {}, "")
    runs, cells, effects = (pd.read_csv(tmp_path / f"{name}.csv") for name in ("runs", "cells", "effects"))
    assert list(runs.columns) == ["policy", "warmup", "seed", "cell", "status", "reason", *finals("classification")]
    assert runs["warmup"].dtype == bool
    assert {"cell", "n", "failed", "diverged", "missing", "test_top1_mean", "test_top1_sd"} <= set(cells.columns)
    assert tuple(effects.columns) == COLUMNS
    full = effects.query("policy == 'full' and metric == 'test_top1'").iloc[0]
    assert full["estimate"] == pytest.approx(0.025)
    assert full["n"] == 2


def test_failed_and_skipped_are_shown_with_their_reasons(tmp_path: Path) -> None:
    write_report(grid(), tmp_path, {}, "")
    for name in ("report.md", "report.html"):
        text = (tmp_path / name).read_text()
        assert "training loss is nan in epoch 1 of 2" in text
        assert "no room for it" in text
        assert "1 diverged" in text
        assert "1 of 2" in text
        assert "significant" not in text


def test_what_one_training_serves_is_listed(tmp_path: Path) -> None:
    runs = grid().runs
    runs.loc[runs["cell"] == "head | baseline", "trained_by"] = ["r0", "elsewhere"]
    write_report(grid(runs=runs), tmp_path, {}, "")
    text = (tmp_path / "report.md").read_text()
    assert r"| head \| baseline | full \| baseline | 1 |" in text
    assert r"| head \| baseline | another study | 1 |" in text


def test_a_study_without_tricks_has_no_column_of_them() -> None:
    whole = grid()
    table, found = cells_of(whole.runs[~whole.runs["warmup"]]), effects(whole)
    shown = tables.effects_table(found[found["trick"] == ""], TOP1)
    assert shown is not None
    assert "trick" not in shown
    assert list(shown["policy"]) == ["head"]
    assert "tricks" not in tables.cells_table(table, "classification")
    assert "tricks" in tables.cells_table(cells_of(whole.runs), "classification")


def test_a_factor_that_the_rounds_cannot_tell_from_one_is_in_parentheses() -> None:
    speeds = {"full | baseline": 100.0, "full | warmup": 101.0, "head | baseline": 300.0, "head | warmup": 301.0}
    rounds = [
        (cell, number, speed * (1 + 0.1 * (number == place)))
        for place, (cell, speed) in enumerate(speeds.items())
        for number in range(3)
    ]
    throughput = pd.DataFrame(rounds, columns=["cell", "round", "images_per_s"])
    shown = tables.effects_table(effects(grid(throughput=throughput)), TOP1)
    assert shown is not None
    speed = shown.set_index(["policy", "trick"])["speed"]
    assert speed["full", "warmup"].startswith("(× ")
    assert speed["head", "none"].startswith("× ")


def test_page_is_self_contained_and_escaped(tmp_path: Path) -> None:
    write_report(grid(), tmp_path, {"Leaderboard": "http://127.0.0.1:5000/#/x?a=1&b=2"}, "harness run 'a b.yaml'")
    page = (tmp_path / "report.html").read_text()
    assert len(re.findall(r'<img src="data:image/svg\+xml;base64,', page)) == 7
    assert not re.findall(r'(?:src|href)="(?!data:|#|http://127\.0\.0\.1:5000/)', page)
    assert "<b>this</b>" not in page
    assert "a <CPU>" not in page
    assert "<script" not in page


def test_a_grid_of_which_nothing_finished_still_reports(tmp_path: Path) -> None:
    runs = grid().runs.assign(
        status="missing", reason="not run yet", **dict.fromkeys(finals("classification"), float("nan"))
    )
    empty = {"curves": grid().curves.iloc[:0], "throughput": grid().throughput.iloc[:0], "runs": runs}
    write_report(grid(**empty), tmp_path, {}, "")
    assert "8 missing" in (tmp_path / "report.md").read_text()
    assert not (tmp_path / "figures" / "pareto.png").exists()


FIGURES = ["test_top1_batch_1", "test_top1_batch_8", "test_top1_batch_64", "test_top1_source_backbone"]


def diagnosed(*layers: str) -> pd.DataFrame:
    """Figures of the two cells without tricks at one seed; those by a batch of one are missing, or all by batches."""
    reason = "" if layers else "the network has no batch norm"
    rows = []
    for policy in ("full", "head"):
        top1 = [(name, "", 0.5, "") if layers else (name, "", float("nan"), reason) for name in FIGURES[1:3]]
        shifts = [(name, layer, 0.1, "") for name in ("shift_start", "shift_end") for layer in layers]
        figures = [(FIGURES[0], "", float("nan"), reason or "bn1 sees one <value>"), *top1, (FIGURES[3], "", 0.4, "")]
        rows += [(policy, f"{policy} | baseline", 0, *figure) for figure in (*figures, *shifts)]
    return pd.DataFrame(rows, columns=["policy", "cell", "seed", "figure", "layer", "value", "reason"])


def test_what_was_found_of_batch_norm_has_a_section(tmp_path: Path) -> None:
    write_report(grid(batch_norm=diagnosed("bn1", "bn2")), tmp_path, {}, "")
    page, text = ((tmp_path / f"report.{form}").read_text() for form in ("html", "md"))
    assert "bn1 sees one <value>." in text
    assert "bn1 sees one &lt;value&gt;." in page
    assert "| full | baseline | 90.5 ± 0.7 | – | 50.0 | 50.0 | 40.0 |" in text
    assert "](figures/batch_norm.png)" in text
    assert len(re.findall(r'<img src="data:image/svg\+xml;base64,', page)) == 8
    assert len(pd.read_csv(tmp_path / "batch_norm.csv")) == 16
    assert {"batch_norm.png", "batch_norm.svg"} <= {path.name for path in (tmp_path / "figures").iterdir()}


def test_a_network_without_batch_norm_has_a_table_and_no_figure(tmp_path: Path) -> None:
    write_report(grid(batch_norm=diagnosed()), tmp_path, {}, "")
    for name in ("report.md", "report.html"):
        text = (tmp_path / name).read_text()
        assert "No figure by a batch of 8: the network has no batch norm." in text
        assert "batch_norm.png" not in text
    assert not (tmp_path / "figures" / "batch_norm.png").exists()


def test_without_a_diagnosis_there_is_no_section(tmp_path: Path) -> None:
    write_report(grid(), tmp_path, {}, "")
    assert not any("atch norm" in (tmp_path / name).read_text() for name in ("report.md", "report.html"))


def test_writable_check_leaves_nothing(tmp_path: Path) -> None:
    check_writable(tmp_path / "results" / "study")
    assert not list(tmp_path.iterdir())


def test_writable_check_names_the_folder(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("")
    with pytest.raises(HarnessError, match="results"):
        check_writable(tmp_path / "results" / "study")
