"""Tracked runs to tidy frames: one row a replicate, whatever became of it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from harness.artifacts import BATCH_NORM, CURVES, METRICS, PLAN, PREDICTIONS, PRIMARY, THROUGHPUT
from harness.contrasts import KEYS
from harness.family import Family
from harness.pairing import PARTS
from harness.views import CURRENT
from harness.wording import scenario

if TYPE_CHECKING:
    from mlflow.entities import Run

    from harness.track import Store

_CURVE_TYPES = {"epoch": int, "step": int, "train_loss": float, "val_top1": float}
_FIGURE_COLUMNS = ("figure", "layer", "value", "reason")
_THROUGHPUT_TYPES = {
    "cell": str,
    "program": str,
    "host": str,
    "device": str,
    "round": int,
    "images_per_s": float,
    "peak_memory_bytes": int,
}


@dataclass(frozen=True)
class Grid:
    """Everything the store says about a grid."""

    plan: dict[str, Any]
    """What was planned, as `summary.summarise` wrote it."""
    runs: pd.DataFrame
    """One row a planned replicate: axes, policy, a boolean a trick, seed, cell, status, reason, METRICS, run ids."""
    curves: pd.DataFrame
    """One row an epoch: axes, policy, cell, seed, epoch, step, train_loss, val_top1."""
    throughput: pd.DataFrame
    """One row a probe round: cell, program, host, round, images_per_s, peak_memory_bytes."""
    prerequisites: pd.DataFrame
    """One row a training that others needed: what, epochs, test_top1 on its own test images."""
    software: dict[str, list[str]]
    """What ran it: every value each of a few tags took."""
    experiment_id: str
    run_id: str
    batch_norm: pd.DataFrame = field(
        default_factory=lambda: pd.DataFrame(columns=["policy", "cell", "seed", *_FIGURE_COLUMNS])
    )
    """One row a figure of a diagnosis: policy, cell, seed, figure, layer, value (NaN with a reason), reason."""
    correct: dict[tuple[str, int], np.ndarray] = field(default_factory=dict)
    """Whether each test image [N] was classified rightly, by cell and seed."""
    family: Family | None = None
    """The primary contrasts."""


@dataclass(frozen=True)
class Tables:
    """What a report wrote, for a notebook or another program."""

    runs: pd.DataFrame
    cells: pd.DataFrame
    effects: pd.DataFrame


def read_tables(folder: Path) -> Tables:
    """Read the tables of a report from its folder, so that every figure can be drawn again without the store."""
    runs, cells, effects = (
        # Only an empty field is nothing: a trick or a policy may well be named `None` or `NA`.
        pd.read_csv(folder / f"{name}.csv", keep_default_na=False, na_values=[""])
        for name in ("runs", "cells", "effects")
    )
    words = [name for name in effects.columns if name in (*KEYS, "claim", "role", "interval")]
    effects[words] = effects[words].fillna("")  # empty words are no missing numbers
    return Tables(runs.fillna({"reason": ""}), cells, effects)


def read_grid(store: Store, study: str, grid: str) -> Grid | None:
    """Read a grid back from the store alone; None where it was never run."""
    parent = store.find_grid(study, grid)
    planned = store.read_artifact(parent, PLAN) if parent else None
    if parent is None or planned is None:
        return None
    plan = json.loads(planned)
    children = store.children(parent)
    runs = runs_frame(plan, children)
    known = {run.info.run_id: run for run in children}
    asked = plan.get("diagnostics", {}).get("batch_norm", False)  # plans kept by earlier versions say nothing
    table, current = store.read_artifact(parent, THROUGHPUT), set(runs["run_id"])
    return Grid(
        plan=plan,
        runs=runs,
        curves=_trained_frame(store, runs, known, CURVES, _curve, tuple(_CURVE_TYPES)),
        throughput=pd.DataFrame(_table(table or b"", _THROUGHPUT_TYPES), columns=[*_THROUGHPUT_TYPES]),
        prerequisites=_prerequisites(store, plan),
        software=software_of([run for run in children if run.info.run_id in current]),
        experiment_id=parent.info.experiment_id,
        run_id=parent.info.run_id,
        batch_norm=_trained_frame(
            store, runs if asked else runs.iloc[:0], known, BATCH_NORM, _figures, _FIGURE_COLUMNS
        ),
        correct={key: _correct(content) for key, content in _artifacts(store, runs, known, PREDICTIONS)},
        family=_family(plan.get("primary"), store.read_artifact(parent, PRIMARY)),
    )


def _family(primary: dict[str, Any] | None, named_first: bytes | None) -> Family | None:
    """Return the primary contrasts of a plan; they are late where others, or none, were kept when the grid began.

    So is another bound, which decides what is claimed, but not another guess at what the seeds can show.
    """
    if primary is None:
        return None
    first = json.loads(named_first or b"null")
    late = first is None or any(first[key] != primary[key] for key in ("members", "bound"))
    return Family(**{**primary, "members": tuple(primary["members"]), "scales": tuple(primary["scales"])}, late=late)


def _correct(content: bytes) -> np.ndarray:
    with np.load(io.BytesIO(content)) as kept:
        return np.asarray(kept["predictions"] == kept["labels"])


def _prerequisites(store: Store, plan: dict[str, Any]) -> pd.DataFrame:
    rows = []
    for needed in plan.get("prerequisites", ()):
        run = store.trained(needed["digest"], plan["versions"], kind="prerequisite")
        top1 = run.data.metrics.get("test_top1") if run else None
        rows.append({"what": needed["what"], "epochs": needed["epochs"], "test_top1": top1})
    return pd.DataFrame(rows, columns=["what", "epochs", "test_top1"]).astype({"test_top1": float})


def runs_frame(plan: dict[str, Any], children: list[Run]) -> pd.DataFrame:
    """Return one row for each planned replicate, those that have no run included (status `missing`)."""
    wanted = {(cell["cell"], seed): digest for cell in plan["cells"] for seed, digest in cell["digests"].items()}
    by_key = current_runs(children, wanted, plan["versions"])
    parts = {key: int(run.data.tags.get("harness.accumulate", 1)) for key, run in by_key.items()}
    rows = [
        {
            **cell.get("levels", {}),
            "policy": cell["policy"],
            **{trick: trick in cell["tricks"] for trick in plan["tricks"]},
            "seed": seed,
            "cell": cell["cell"],
            **_outcome(by_key.get((cell["cell"], str(seed)))),
        }
        for cell in plan["cells"]
        for seed in plan["seeds"]
    ]
    frame = pd.DataFrame(rows)
    if max(parts.values(), default=1) > 1:  # which memory made so; the column says what may be paired
        frame[PARTS] = [parts.get((row["cell"], str(row["seed"])), 1) for row in rows]
    return frame


def axes_of(frame: pd.DataFrame) -> list[str]:
    """Return the axes of a frame of runs, cells, effects or curves: its columns before `policy`."""
    columns = list(frame.columns)
    return [name for name in columns[: columns.index("policy")] if name not in ("cell", "kind")]


def tricks_of(runs: pd.DataFrame) -> list[str]:
    """Return the trick columns of a frame of runs: those between `policy` and `seed`."""
    columns = list(runs.columns)
    return columns[columns.index("policy") + 1 : columns.index("seed")]


def scenario_of(row: Mapping[Any, Any], axes: Sequence[str]) -> str:
    """Return the levels of a row's scenario as a person reads them; empty where there is no axis."""
    return scenario({axis: row[axis] for axis in axes})


def current_runs(
    children: Sequence[Run], wanted: Mapping[tuple[str, str], str], versions: Mapping[str, str]
) -> dict[tuple[str, str], Run]:
    """Return the run that counts of each replicate that has one, by cell and seed.

    `children` come the latest first. A run counts where it is of the training `wanted` for its cell and seed, by the
    same versions: a grid keeps the runs of other data, weights or versions that its cells once had, but they are no
    result of it any more. Of several the latest counts, a finished one before all others.
    """
    current: dict[tuple[str, str], Run] = {}
    for run in reversed(children):
        key = (run.data.params.get("cell", ""), run.data.params.get("seed", ""))
        # One whose training did not fit its device is of the training that stands for it.
        digest = run.data.tags.get("harness.planned", run.data.tags.get("harness.digest"))
        if (
            key in wanted
            and digest == wanted[key]
            and not _was_replaced(run)
            and all(value is not None and run.data.tags.get(tag) == value for tag, value in versions.items())
            and (key not in current or current[key].info.status != "FINISHED" or run.info.status == "FINISHED")
        ):
            current[key] = run
    return current


def _was_replaced(run: Run) -> bool:
    """Whether a training failed for which another was to stand in; until that has ended there is no result."""
    return run.info.status == "FAILED" and run.data.tags.get(CURRENT) == "false"


def _outcome(run: Run | None) -> dict[str, Any]:
    if run is None:
        return {"status": "missing", "reason": "not run yet", **dict.fromkeys(METRICS), "run_id": "", "trained_by": ""}
    tags = run.data.tags
    status = str(run.info.status).lower()
    if status == "failed" and tags.get("harness.failure") == "diverged":
        status = "diverged"
    reason = tags.get("harness.reason", "")
    if status == "finished" and "harness.accumulate" in tags:
        reason = f"did not fit the device, so batches came in {tags['harness.accumulate']} parts: paired with such only"
    return {
        "status": status,
        "reason": reason,
        **{metric: run.data.metrics.get(metric) for metric in METRICS},
        "run_id": run.info.run_id,
        "trained_by": tags.get("trained_by", ""),
    }


def _trained_frame(
    store: Store,
    runs: pd.DataFrame,
    known: dict[str, Run],
    artifact: str,
    read: Callable[[bytes], list[dict[str, Any]]],
    columns: Sequence[str],
) -> pd.DataFrame:
    """Return the tables that the trainings of `runs` kept, below each other, with policy, cell and seed of each.

    One artifact a training, so that a large grid needs no call for each metric.
    """
    names = [*axes_of(runs), "policy", "cell", "seed"]
    whose = {(row["cell"], row["seed"]): {name: row[name] for name in names} for row in runs.to_dict("records")}
    rows = [whose[key] | row for key, content in _artifacts(store, runs, known, artifact) for row in read(content)]
    return pd.DataFrame(rows, columns=[*names, *columns])


def _artifacts(
    store: Store, runs: pd.DataFrame, known: dict[str, Run], artifact: str
) -> Iterator[tuple[tuple[str, int], bytes]]:
    """Yield an artifact of the trainings of `runs` that kept it, by cell and seed."""
    for row in runs[runs["status"] == "finished"].to_dict("records"):
        run_id = row["trained_by"] or row["run_id"]
        content = store.read_artifact(known.get(run_id) or store.client.get_run(run_id), artifact)
        if content:
            yield (row["cell"], row["seed"]), content


def _curve(content: bytes) -> list[dict[str, Any]]:
    return _table(content, _CURVE_TYPES)


def _figures(content: bytes) -> list[dict[str, Any]]:
    rows = csv.DictReader(io.StringIO(content.decode()))
    return [{**row, "value": float(row["value"] or "nan")} for row in rows]


def _table(content: bytes, types: Mapping[str, type]) -> list[dict[str, Any]]:
    """Return the rows that the ledger wrote, every float bit for bit: pandas' own reader may round the last one."""
    rows = csv.DictReader(io.StringIO(content.decode()))
    # A cell that could not be probed has a row without numbers.
    full = [row for row in rows if all(row[name] for name in types)]
    return [{name: kind(row[name]) for name, kind in types.items()} for row in full]


def software_of(children: list[Run]) -> dict[str, list[str]]:
    """Return what software and machines runs had: every value of each of a few tags."""
    tags = {
        "device": "harness.device",
        "host": "harness.host",
        "harness": "harness.version",
        "numerics version": "harness.numerics",
        "torch": "harness.torch",
        "torchvision": "harness.torchvision",
        "python": "harness.python",
        "git commit": "mlflow.source.git.commit",
    }
    found = {
        name: sorted({run.data.tags[tag] for run in children if run.data.tags.get(tag)}) for name, tag in tags.items()
    }
    return {name: values for name, values in found.items() if values}
