"""What becomes of a grid whose trainings run out of memory, are killed, take too long or meet a mistake in the code."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from mlflow.entities import Run
from torch import Tensor
from torch.nn.functional import cross_entropy

from harness import cli, session, specfile
from harness.exits import DONE, INTERRUPTED, SOME_FAILED
from harness.grid import GridRun
from harness.learner import Learner
from harness.means import Means
from harness.prefix.batch import Batch
from harness.session import Session
from harness.track import Store
from harness.workspace import Workspace

MEASURED = ["images_per_s", "train_s", "wall_s", "peak_memory_bytes"]
Run_ = Callable[..., int]


@pytest.fixture
def run(stored: Workspace, write_spec: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Run_:
    """A function that runs the tiny study in this process, with overrides; `rerun` tries again what failed."""
    monkeypatch.chdir(stored.root)
    path = write_spec()

    def go(*overrides: str, rerun: bool = False, inline: bool = True) -> int:
        command = ["rerun", "--failed"] if rerun else ["run"]
        return cli.main([*command, str(path), *(["--inline"] if inline else []), *(f"--set={o}" for o in overrides)])

    return go


def children(place: Workspace) -> list[Run]:
    store = Store(place)
    experiment = store.experiment("tiny")
    assert experiment is not None
    kinds = ("replicate", "shared")
    return [run for run in store.search([experiment], "") if run.data.tags.get("harness.kind") in kinds]


def runs_csv(place: Workspace) -> pd.DataFrame:
    return pd.read_csv(place.results / "tiny" / "runs.csv", keep_default_na=False, na_values=[""])


@pytest.fixture
def small_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that carries the gradients of the whole network for four images at most."""
    loss = Learner._loss

    def limited(self: Learner, batch: Batch) -> Tensor:
        if len(batch.targets) > 4 and "conv1.weight" in self.phase.trainable and self._training.origin:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3.00 GiB.")
        return loss(self, batch)

    monkeypatch.setattr(Learner, "_loss", limited)


@pytest.mark.usefixtures("small_memory")
def test_what_does_not_fit_fails_once_it_was_tried_alone(run: Run_, stored: Workspace) -> None:
    assert run("policies=[full, head]") == SOME_FAILED
    full, head = ([r for r in children(stored) if r.data.params["policy"] == name] for name in ("full", "head"))
    assert {r.info.status for r in head} == {"FINISHED"}
    assert [r.info.status for r in full] == ["FAILED"] * 6
    for failed in full:
        tags = failed.data.tags
        assert (tags["harness.failure"], tags["harness.retries"]) == ("out_of_memory", "1")
        assert "Tried to allocate" in tags["harness.retried_for"]
    assert {r.data.tags.get("harness.retries") for r in head} == {None}


@pytest.mark.usefixtures("small_memory")
def test_what_does_not_fit_is_trained_in_parts_where_the_spec_allows_and_paired_with_its_like(
    run: Run_, stored: Workspace, write_spec: Callable[..., Path]
) -> None:
    allowed = "execution.on_out_of_memory=accumulate"
    assert run(allowed) == DONE
    runs = runs_csv(stored)
    assert runs.groupby("policy")["parts"].unique().map(list).to_dict() == {"full": [2], "head": [1]}
    assert (runs["status"] == "finished").all()
    assert runs.loc[runs["policy"] == "full", "reason"].str.contains("in 2 parts").all()

    effects = pd.read_csv(stored.results / "tiny" / "effects.csv").query("metric == 'test_top1'")
    pairs = {(row["kind"], row["policy"], row["trick"]): row["n"] for row in effects.to_dict("records")}
    assert pairs["one_in", "full", "mixup"] == pairs["one_in", "head", "mixup"] == 2
    across = {n for (kind, policy, _), n in pairs.items() if kind == "policy" and policy == "head"}
    assert across == {0}, "batch norm saw other batches"

    own = [r for r in children(stored) if "harness.planned" in r.data.tags]
    assert {r.data.tags["harness.accumulate"] for r in own} == {"2"}
    assert all(r.data.tags["harness.planned"] != r.data.tags["harness.digest"] for r in own)
    replaced = [r for r in children(stored) if r.info.status == "FAILED"]
    assert len(own) == len(replaced) == 6
    assert {r.data.tags["harness.current"] for r in replaced} == {"false"}

    before = len(children(stored))
    assert run(allowed) == DONE
    assert len(children(stored)) == before, "the second run has nothing to train"
    alike = write_spec(("name: tiny", "name: again"), name="again")
    assert cli.main(["run", str(alike), "--inline", f"--set={allowed}"]) == DONE
    grid = session.read(alike, [allowed])
    assert (grid.runs["trained_by"] != "").sum() == 6 + 6, "another grid shares what stands in for what did not fit"


def test_in_parts_of_one_image_nothing_is_tried(run: Run_, stored: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(self: Learner, batch: Batch) -> Tensor:
        if self._training.origin:
            raise torch.OutOfMemoryError
        return cross_entropy(self.module(batch.inputs), batch.targets)

    monkeypatch.setattr(Learner, "_loss", never)
    accumulate = "execution.on_out_of_memory=accumulate"
    assert run(accumulate, "policies=[full]", "tricks=[]", "designs=[one_in]", "seeds=1") == SOME_FAILED
    tried = {r.data.tags.get("harness.accumulate", "1") for r in children(stored)}
    assert tried == {"1", "2", "4"}, "of batches of eight"
    (current,) = (r for r in children(stored) if r.data.tags["harness.current"] == "true")
    assert current.data.tags["harness.accumulate"] == "4"


def test_one_mistake_in_the_code_ends_the_grid_early_and_rerun_finishes_it(
    run: Run_, stored: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.MonkeyPatch.context() as patched:

        def mistaken(self: Learner, batch: Batch) -> Tensor:
            if not self._training.origin:
                return cross_entropy(self.module(batch.inputs), batch.targets)
            raise ValueError(f"no such layer in {self._training.seed}")

        patched.setattr(Learner, "_loss", mistaken)
        assert run() == SOME_FAILED
    out = capsys.readouterr().out
    assert "Ended early: one error ended 3 trainings" in out
    assert "no such layer" in out
    assert "harness rerun --failed" in out
    runs = runs_csv(stored)
    assert runs["status"].value_counts().to_dict() == {"missing": 9, "failed": 3}
    parent = Store(stored).find_grid("tiny", specfile.read(stored.root / "experiments" / "tiny.yaml").grid)
    assert parent is not None
    assert parent.info.status == "FAILED"

    assert run(rerun=True) == DONE
    assert (runs_csv(stored)["status"] == "finished").all()


def _kill_until_one_is_tried_again(updates: Iterator[object], place: Workspace) -> None:
    """Follow a run, and kill a worker as soon as they train; once more if that hit it between two trainings."""
    last = -2
    for update in updates:
        workers = multiprocessing.active_children()
        done = getattr(update, "done", 0)
        if workers and getattr(update, "stage", "") == "training" and done >= last + 3 and not _tried_again(place):
            with suppress(ProcessLookupError):  # it ended by itself just now
                os.kill(workers[0].pid or 0, signal.SIGKILL)
                last = done


def _tried_again(place: Workspace) -> list[Run]:
    return [r for r in children(place) if "harness.retries" in r.data.tags]


def test_a_killed_worker_is_tried_again_in_the_same_run_of_the_grid(
    stored: Workspace, write_spec: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    long = ["execution.checkpoint_s=0", "train.epochs=60"]  # whoever is killed has not ended yet
    study = specfile.read(write_spec(), long)
    with Session.open(study, Means(jobs=2)) as going:
        _kill_until_one_is_tried_again(going.run(), stored)
        assert not going.outcome.failures
        going.report()
    again = _tried_again(stored)
    assert again
    assert again[0].data.tags["harness.retries"] == "1"
    assert "killed: the worker process ended with signal SIGKILL" in again[0].data.tags["harness.retried_for"]
    assert len(children(stored)) == 12, "it goes on in the run that it had"
    assert {r.info.status for r in children(stored)} == {"FINISHED"}
    points = Store(stored).client.get_metric_history(again[0].info.run_id, "val_top1")
    assert sorted(point.step for point in points) == [*range(1, 61)], "no point is logged twice"

    undisturbed = Workspace(tmp_path_factory.mktemp("undisturbed"))
    (undisturbed.root / "experiments").mkdir()
    copy = undisturbed.root / "experiments" / "tiny.yaml"
    copy.write_text(study.text)
    with Session.open(specfile.read(copy, long), Means(inline=True)) as going:
        for _ in going.run():
            pass
        going.report()
    ours, theirs = (
        runs_csv(place).drop(columns=["run_id", "trained_by", *MEASURED], errors="ignore")
        for place in (stored, undisturbed)
    )
    pd.testing.assert_frame_equal(ours, theirs)


def test_what_takes_too_long_is_a_failure_with_its_reason(run: Run_, stored: Workspace) -> None:
    one_cell = ("policies=[head]", "tricks=[]", "designs=[one_in]", "seeds=1", "train.epochs=10000000")
    assert run(*one_cell, "execution.time_limit_s=4", "throughput.rounds=1", inline=False) == SOME_FAILED
    (late,) = children(stored)
    assert late.info.status == "FAILED"
    assert late.data.tags["harness.failure"] == "timeout"
    assert late.data.tags["harness.reason"] == "it took longer than the 4 s of time_limit_s"


@pytest.mark.usefixtures("small_memory")
def test_what_was_stopped_before_its_parts_were_trained_is_trained_by_the_next_run(
    run: Run_, stored: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed = ("execution.on_out_of_memory=accumulate", "policies=[full]", "tricks=[]", "designs=[one_in]")
    with monkeypatch.context() as patched:
        patched.setattr(GridRun, "_divide", _stopped_at_second(GridRun._divide))
        assert run(*allowed) == INTERRUPTED
    replaced = [r for r in children(stored) if r.data.tags["harness.current"] == "false"]
    assert [r.info.status for r in replaced] == ["FAILED", "FAILED"]
    assert run(*allowed) == DONE
    runs = runs_csv(stored)
    assert runs["parts"].tolist() == [2, 2]
    assert (runs["status"] == "finished").all()


def _stopped_at_second(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function, interrupted at its second call: the first divides the whole grid."""
    calls: list[None] = []

    def stopped(*arguments: Any) -> Any:
        calls.append(None)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return function(*arguments)

    return stopped


@pytest.mark.usefixtures("stored")
def test_a_probe_that_was_killed_is_repeated(write_spec: Callable[..., Path]) -> None:
    study = specfile.read(write_spec(("[full, head]", "[head]")), ["throughput={rounds: 3, steps: 3}", "seeds=1"])
    killed: list[int] = []
    with Session.open(study, Means(jobs=1)) as going:
        for update in going.run():
            workers = multiprocessing.active_children()
            if update.stage == "probing" and update.done == 2 and not killed:
                killed.append(workers[0].pid or 0)
                os.kill(killed[0], signal.SIGKILL)
        going.report()
    assert killed
    rounds = session.read(study.path, study.overrides).throughput.groupby("cell")["round"].apply(list)
    assert len(rounds) == 3
    assert all(each == [0, 1, 2] for each in rounds)
