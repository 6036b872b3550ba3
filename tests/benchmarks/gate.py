"""The gate of correctness: whether a row trained what the plain path trains, and logged what it logs.

The plain path is the harness that shares nothing. Rows of the harness must have its bits. A peer's weights are compared
with those of the plain path relative to how far these moved from the start: other kernels and another order of
additions round otherwise, which grows with the steps, but another rate, target or frozen layer is another training.
What learns and the statistics of batch norm are compared apart, since statistics move far whatever is learned.
"""

from __future__ import annotations

from pathlib import Path

import torch
from mlflow import MlflowClient
from mlflow.entities import Run
from torch import Tensor

from harness.versions import version_mark
from harness.workspace import Workspace
from tests.benchmarks.peers import common
from tests.benchmarks.peers.common import Cell, Work

METRICS = ("train_loss", "val_top1", "test_top1")
State = dict[str, Tensor]


def runs(out: Path) -> dict[str, Run]:
    """Return the finished runs of the cells in an MLflow store, by name, spaces left out as in a cell's trick set."""
    client = MlflowClient(common.store(out))
    places = [experiment.experiment_id for experiment in client.search_experiments()]
    found = client.search_runs(places, "attributes.status = 'FINISHED'", max_results=10_000)
    return {_squeezed(run.info.run_name): run for run in found}


def _squeezed(name: str | None) -> str:
    return (name or "").replace(" ", "")


def judge(work: Work, reference: Path, out: Path, ours: bool, tolerance: float) -> str:
    """Return what the gate says of the row in `out`: `ok: …`, or `void: …` and why."""
    found, plain = runs(out), runs(reference)
    missing = [cell.name for cell in work.cells if _squeezed(cell.name) not in found]
    if missing:
        return f"void: {len(missing)} of {len(work.cells)} cells have no finished run, such as {missing[0]}"
    for cell in work.cells:
        absent = [key for key in METRICS if key not in found[_squeezed(cell.name)].data.metrics]
        if absent:
            return f"void: {cell.name} has no {', '.join(absent)}"
    if ours:
        return _bits(work, plain, found)
    return _distances(work, reference, plain, out, tolerance)


def _bits(work: Work, plain: dict[str, Run], found: dict[str, Run]) -> str:
    tag = "harness.weights_sha256"
    names = [_squeezed(cell.name) for cell in work.cells]
    others = [name for name in names if plain[name].data.tags[tag] != found[name].data.tags[tag]]
    return f"void: {len(others)} cells have other bits, such as {others[0]}" if others else "ok: bits equal"


def _distances(work: Work, reference: Path, plain: dict[str, Run], out: Path, tolerance: float) -> str:
    worst = 0.0
    for cell in work.cells:
        name = _squeezed(cell.name)
        begin = common.sample(torch.load(work.initial[str(cell.seed)], weights_only=True))
        path = Workspace(reference).weights(plain[name].data.tags["harness.digest"], version_mark())
        wanted = common.sample(torch.load(path, weights_only=True))
        made = torch.load(common.kept(out, cell), weights_only=True)
        stray = strays(begin, made, cell)
        if stray:
            return f"void: {cell.name} moved what is frozen, such as {stray[0]}"
        apart = distance(begin, wanted, made, cell)
        if not apart <= tolerance:
            return f"void: the weights of {cell.name} differ by {apart:.1e} of how far they moved"
        worst = max(worst, apart)
    return f"ok: weights within {worst:.0e}"


def strays(begin: State, made: State, cell: Cell) -> list[str]:
    """Return the names of the tensors that a cell freezes and that moved."""
    moving = frozenset().union(*_moving(cell))
    return [name for name in begin if name not in moving and not torch.equal(begin[name], made[name])]


def distance(begin: State, wanted: State, made: State, cell: Cell) -> float:
    """Return ‖made − wanted‖ / ‖wanted − begin‖ of what learns in a cell, or of its statistics where that is more."""
    return max(_apart(begin, wanted, made, names) for names in _moving(cell) if names)


def _apart(begin: State, wanted: State, made: State, names: frozenset[str]) -> float:
    apart, moved = (
        sum((left[name].double() - right[name].double()).square().sum().item() for name in names)
        for left, right in ((made, wanted), (wanted, begin))
    )
    return float((apart / moved) ** 0.5)


def _moving(cell: Cell) -> tuple[frozenset[str], frozenset[str]]:
    """Return the names of what learns, and of the statistics that follow the batches."""
    learning = frozenset(name for names, _ in cell.groups for name in names)
    counted = ("running_mean", "running_var", "num_batches_tracked")
    return learning, frozenset(f"{norm}.{name}" for norm in cell.bn_stats for name in counted)
