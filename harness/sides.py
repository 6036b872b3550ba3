"""What `harness compare` is given: a spec, a spec at a commit, a results folder or a table of runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from harness import specfile
from harness.artifacts import finals
from harness.compare import Side
from harness.errors import HarnessError
from harness.foreign import grid_of
from harness.results import Grid, read_grid, runs_frame, software_of
from harness.tasks.metrics import METRICS, task_in
from harness.track import Store
from harness.wording import some
from harness.workspace import find

if TYPE_CHECKING:
    from mlflow.entities import Run

_COMMIT = "mlflow.source.git.commit"


def read_side(text: str) -> Side:
    """Read one side of a comparison; raises HarnessError where there is nothing to read, or no run of that commit."""
    path = Path(text)
    if path.is_dir():
        path = path / "runs.csv"
    if path.suffix == ".csv":
        return Side(text, grid_of(_table(path)))
    spec, _, commit = (text, "", "") if path.exists() else text.rpartition("@")
    study = specfile.read(Path(spec or text))
    store = Store(find(study.path.parent))
    grid = read_grid(store, study.spec.name, study.grid)
    if grid is None:
        raise HarnessError(
            f"study {study.spec.name!r} has no run of this grid in the store; `harness run {study.path}`"
        )
    return Side(text, _at_commit(store, grid, commit, text) if commit and spec else grid)


def _table(path: Path) -> pd.DataFrame:
    numbers = {name: [""] for task in METRICS for name in finals(task)}
    try:
        runs = pd.read_csv(path, keep_default_na=False, na_values=numbers)
        wanted = ("policy", "seed", "cell", "status", *finals(task_in(runs.columns)))
        lacking = [name for name in wanted if name not in runs]
    except OSError as error:
        raise HarnessError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise HarnessError(f"cannot read {path}: {error}") from None
    if lacking or runs.empty:
        raise HarnessError(f"{path} is no runs.csv of a report: it has no {some(lacking) if lacking else 'rows'}")
    return runs


def _at_commit(store: Store, grid: Grid, commit: str, text: str) -> Grid:
    """Return a grid with those of its replicates only that were trained at a commit.

    A replicate that shares a training was trained where that was. Of several trainings of one replicate at that commit
    the latest counts, whatever data or versions the plan has now. Rounds of the probe are not kept by commit.
    """
    children = store.children(store.client.get_run(grid.run_id))
    known = {run.info.run_id: run for run in children}
    cells = {cell["cell"] for cell in grid.plan["cells"]}
    trained = {
        run.info.run_id: _trained_at(store, run, known) for run in children if run.data.params.get("cell") in cells
    }
    kept = [run for run in children if trained.get(run.info.run_id, "").startswith(commit)]
    if not kept:
        counts = pd.Series([name or "no commit" for name in trained.values()], dtype=object).value_counts()
        there = some([f"{name} ({count})" for name, count in counts.items()], 8) or "none"
        raise HarnessError(
            f"{text}: no replicate was trained at {commit}; there are {there}. A finished training is shared and never "
            "trained again, so a later commit has runs of its own only where trainings, or their versions, changed"
        )
    found = sorted({trained[run.info.run_id].removesuffix("-dirty") for run in kept})
    if len(found) > 1:
        raise HarnessError(f"{text}: {len(found)} commits begin so: {some(found, 8)}")
    wanted: dict[tuple[str, str], str] = {}
    for run in kept:  # the latest first
        key, tags = (run.data.params["cell"], run.data.params["seed"]), run.data.tags
        wanted.setdefault(key, tags.get("harness.planned", tags["harness.digest"]))
    planned = [
        {**cell, "digests": {str(seed): wanted.get((cell["cell"], str(seed)), "") for seed in grid.plan["seeds"]}}
        for cell in grid.plan["cells"]
    ]
    runs = runs_frame({**grid.plan, "cells": planned, "versions": {}}, kept)
    return replace(grid, runs=runs, throughput=grid.throughput.iloc[:0], software=software_of(kept))


def _trained_at(store: Store, run: Run, known: dict[str, Run]) -> str:
    origin = run.data.tags.get("trained_by")
    if origin:
        run = known.get(origin) or store.client.get_run(origin)
    return str(run.data.tags.get(_COMMIT, ""))
