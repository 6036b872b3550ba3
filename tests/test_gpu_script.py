"""The benchmark of a GPU runs from end to end without one, on next to nothing."""

import csv
import subprocess
import sys
from pathlib import Path
from random import random
from typing import Any

import pytest

from harness.freezing.policies import POLICIES
from tests.benchmarks import gpu, gpu_checks
from tests.watching import CPU


def table(folder: Path, name: str) -> list[dict[str, Any]]:
    with (folder / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_table_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = ("full", "head", "last_stage", "lp_ft")
    monkeypatch.setattr(gpu_checks, "POLICIES", {name: POLICIES[name] for name in few})
    gpu.main([str(tmp_path), "--device", "cpu", "--tiny", "--only", "checks,limits,speed,streaming"])
    assert not (tmp_path / "skipped.csv").exists()
    outcomes = {row["check"]: row["outcome"] for row in table(tmp_path, "checks")}
    assert outcomes["two steps of lp_ft, fp16"] == "finite, frozen bits unchanged"
    exact = [name for name in outcomes if name.startswith(("reuse", "same bits", "resumed"))]
    assert len(exact) == 3 * (4 + 3 + 3)
    assert {outcomes[name] for name in exact} == {"equal bits"}
    speeds = table(tmp_path, "speed")
    assert {row["policy"] for row in speeds} == {"full", "last_stage", "head"}
    assert all(float(row["images_per_s"]) > 0 and float(row["of_limit"]) > 0 for row in speeds)
    assert [row["workers"] for row in table(tmp_path, "streaming")][:2] == ["0", "1"]


def test_jobs_run_side_by_side(tmp_path: Path) -> None:
    gpu.main([str(tmp_path), "--device", "cpu", "--tiny", "--only", "packing"])
    assert [row["processes"] for row in table(tmp_path, "packing")] == ["2"]
    assert all(float(row["trainings_per_hour"]) > 0 for row in table(tmp_path, "packing"))


def test_it_ends_within_its_budget_and_says_what_it_skipped(tmp_path: Path) -> None:
    tables = gpu.Tables(tmp_path, budget=5)
    tables.attempt("speed", {"policy": "full"}, lambda: {"images_per_s": 1}, 10)
    tables.attempt("speed", {"policy": "head"}, lambda: {"images_per_s": 1 / 0}, 1)
    assert not (tmp_path / "speed.csv").exists()
    late, broken = table(tmp_path, "skipped")
    assert (late["table"], late["row"]) == ("speed", "full")
    assert late["why"].endswith("s are left, and it may take 10")
    assert broken["why"] == "ZeroDivisionError: division by zero"


def test_what_takes_too_long_is_broken_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(*_: object) -> None:
        while True:
            pass

    monkeypatch.setattr(gpu, "measure_limits", endless)
    gpu.main([str(tmp_path), "--device", "cpu", "--tiny", "--budget", "0.5"])
    assert "budget of 0.5 s was spent" in table(tmp_path, "skipped")[-1]["why"]


def test_a_check_that_fails_is_no_outcome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_checks, "bits_after", lambda *_: str(random()))
    tables, training = gpu.Tables(tmp_path, 100), gpu_checks.case("cifar_resnet8", 8)
    tables.attempt("checks", {"check": "twice"}, lambda: {"outcome": gpu_checks.twice(training, CPU)}, 1)
    assert table(tmp_path, "skipped")[0]["why"] == "AssertionError: other bits the second time"


def test_it_needs_no_tracker() -> None:
    code = "import sys, tests.benchmarks.gpu; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "mlflow" not in {name.partition(".")[0] for name in ran.stdout.split()}


def test_operations_are_those_of_a_paper() -> None:
    """4.1 G multiply-adds forward (He et al. 2018, table 5, ResNet-50-B: 4.1), twice as many operations, three times
    as many in training but for the first convolution's images.
    """
    flops = gpu.flops_per_image(gpu_checks.case("resnet50", 224, classes=1000))
    assert flops == pytest.approx(3 * 2 * 4.1e9, rel=0.02)
