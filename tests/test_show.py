"""What is printed."""

import pandas as pd
import pytest

from harness import show
from harness.effects import cells
from harness.estimate import Estimate
from harness.grid import Outcome
from harness.plan import Plan
from harness.progress import Update
from harness.session import Reported
from harness.tasks.metrics import TOP1
from harness.workspace import Workspace
from tests.samples import runs_table


def test_plan_says_what_runs_and_for_how_long(plan: Plan) -> None:
    text = show.plan_text(plan, Estimate(trainings_s=7200, tuning_s=0, prerequisites_s=5, probe_s=100))
    assert "6 cells × 2 seeds (0, 1) = 12 replicates, 12 trainings" in text
    assert "24 training images a seed, 3 steps an epoch, 3 classes" in text
    assert "Policies   full, head" in text
    assert "Nothing is skipped" in text
    assert "About 2.0 h on this machine (pretraining 5 s, speed probe 2 min, trainings 2.0 h)" in text


def test_lines_are_few_and_end_complete(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr("harness.show.time.monotonic", lambda: float(next(clock)))
    with show.progress() as progress:
        for done in range(31):
            progress(Update("training", done, 30, failed=done // 10, text="best so far x"))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) < 10
    assert lines[0] == "training 0/30, best so far x"
    assert lines[-1] == "training 30/30, 3 failed, best so far x"
    assert any("left" in line for line in lines)


def test_time_left_counts_only_what_this_run_has_done(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 1000, 60))
    monkeypatch.setattr("harness.show.time.monotonic", lambda: float(next(clock)))
    with show.progress() as progress:
        for done in (100, 101, 102):
            progress(Update("training", done, 110))
    assert capsys.readouterr().err.splitlines()[-1] == "training 102/110, about 8 min left"


def test_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with show.progress() as progress:
        progress(Update("probing", 1, 2))
        progress(Update("training", 3, 30, text="best so far x"))
    assert "3/30" in capsys.readouterr().err


@pytest.fixture
def reported(workspace: Workspace) -> Reported:
    cells = pd.DataFrame(
        [
            ("full | baseline", "full", 2, 0, 0, 0, 0.9, 0.01),
            ("full | warmup", "full", 1, 1, 0, 0, 0.8, float("nan")),
            ("head | baseline", "head", 0, 0, 2, 0, float("nan"), float("nan")),
        ],
        columns=["cell", "policy", "n", "failed", "diverged", "missing", "test_top1_mean", "test_top1_sd"],
    )
    return Reported(workspace.results / "x", cells, {"Leaderboard": "http://x"}, workspace, TOP1, "test top-1")


def test_table_shows_means_losses_and_gaps(reported: Reported) -> None:
    lines = show.report_text(reported).splitlines()
    assert lines[1].split() == ["test", "top-1,", "%", "full", "head"]
    assert lines[2].split() == ["baseline", "90.0", "±", "1.0", "diverged"]
    assert lines[3].split() == ["warmup", "80.0", "(−1)", "–"]
    assert any("http://x" in line for line in lines)


def test_run_says_what_it_did(reported: Reported) -> None:
    did = show.run_text(Outcome(settled=3, trained=2, shared=1, failures=["a: b"]), reported, again=False)
    assert "2 trained, 1 shared, 1 failed, 3 already done." in did
    assert "  a: b" in did
    nothing = show.run_text(Outcome(settled=6), reported, again=False)
    assert "Nothing to train: all 6 replicates are settled." in nothing
    assert "3 of them failed" in nothing


def test_many_policies_are_told_by_their_baseline_and_their_best() -> None:
    policies = [f"policy{number}" for number in range(9)]
    outcomes: dict[str, list[float | str]] = {}
    for policy in policies:
        outcomes |= {f"{policy} | baseline": [0.5], f"{policy} | mixup": [0.75]}
    outcomes["policy8 | mixup"] = ["failed"]
    lines = show._table(cells(runs_table(outcomes))).splitlines()
    assert lines[0].split() == ["test", "top-1,", "%", "baseline", "best"]
    assert lines[1].split() == ["policy0", "50.0", "75.0", "mixup"]
    assert lines[9].split() == ["policy8", "50.0", "50.0", "baseline"]
