"""Tracked runs to tidy frames: one row a replicate, whatever became of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from harness.artifacts import BATCH_NORM, CURVES, PLAN, PREDICTIONS, PRIMARY, THROUGHPUT, finals
from harness.contrasts import KEYS
from harness.family import Family
from harness.histories import CURVE_TYPES, FIGURE_COLUMNS, THROUGHPUT_TYPES, Histories, correct, figures, table
from harness.pairing import PARTS
from harness.tasks.metrics import TOP1, Metric, score_of, task_in, task_planned
from harness.views import CURRENT
from harness.wording import scenario

if TYPE_CHECKING:
    from mlflow.entities import Run

    from harness.track import Store


@dataclass(frozen=True)
class Grid:
    """Everything the store says about a grid."""

    plan: dict[str, Any]
    """What was planned, as `summary.summarise` wrote it."""
    runs: pd.DataFrame
    """One row a planned replicate: axes, policy, a boolean a trick, seed, cell, status, reason, `finals`, run ids."""
    curves: pd.DataFrame
    """One row an epoch: axes, policy, cell, seed, epoch, step, train_loss, the score on validation."""
    throughput: pd.DataFrame
    """One row a probe round: cell, program, host, round, images_per_s, peak_memory_bytes."""
    prerequisites: pd.DataFrame
    """One row a training that others needed, which all classify: what, epochs, test_top1 on its own test images."""
    software: dict[str, list[str]]
    """What ran it: every value each of a few tags took."""
    experiment_id: str
    run_id: str
    batch_norm: pd.DataFrame = field(
        default_factory=lambda: pd.DataFrame(columns=["policy", "cell", "seed", *FIGURE_COLUMNS])
    )
    """One row a figure of a diagnosis: policy, cell, seed, figure, layer, value (NaN with a reason), reason."""
    correct: dict[tuple[str, int], np.ndarray] = field(default_factory=dict)
    """Whether each test image [N] was classified rightly, by cell and seed."""
    pictures: dict[tuple[str, int], list[bytes]] = field(default_factory=dict)
    """PNGs of test images with what was predicted of them, of a few cells, by cell and seed."""
    family: Family | None = None
    """The primary contrasts."""

    @property
    def score(self) -> Metric:
        """The metric by which the study judges."""
        return score_of(task_planned(self.plan))


@dataclass(frozen=True)
class Tables:
    """What a report wrote, for a notebook or another program."""

    runs: pd.DataFrame
    cells: pd.DataFrame
    effects: pd.DataFrame

    @property
    def score(self) -> Metric:
        """The metric by which the study judges."""
        return score_of(task_in(self.runs.columns))


def read_tables(folder: Path | str) -> Tables:
    """Read the tables of a report from its folder, so that every figure can be drawn again without the store."""
    folder = Path(folder)
    runs, cells, effects = (
        # Only an empty field is nothing: a trick or a policy may well be named `None` or `NA`.
        pd.read_csv(folder / f"{name}.csv", keep_default_na=False, na_values=[""])
        for name in ("runs", "cells", "effects")
    )
    words = [name for name in effects.columns if name in (*KEYS, "claim", "role", "interval")]
    # Empty words are no missing numbers.
    effects[words] = effects[words].astype(object).fillna("").astype(str)
    runs["reason"] = runs["reason"].astype(object).fillna("").astype(str)
    return Tables(runs, cells, effects)


def read_grid(store: Store, study: str, grid: str) -> Grid | None:
    """Read a grid back from the store alone; None where it was never run."""
    parent = store.find_grid(study, grid)
    planned = store.read_artifact(parent, PLAN) if parent else None
    if parent is None or planned is None:
        return None
    plan = json.loads(planned)
    children = store.children(parent)
    runs = runs_frame(plan, children)
    histories = Histories(store, {run.info.run_id: run for run in children})
    names = [*axes_of(runs), "policy", "cell", "seed"]
    score = score_of(task_planned(plan))
    types = {**CURVE_TYPES, score.val: float}
    asked = plan.get("diagnostics", {}).get("batch_norm", False)  # plans kept by earlier versions say nothing
    rounds, current = store.read_artifact(parent, THROUGHPUT), set(runs["run_id"])
    return Grid(
        plan=plan,
        runs=runs,
        curves=histories.frame(runs, names, CURVES, partial(table, types=types), tuple(types)),
        throughput=pd.DataFrame(table(rounds or b"", THROUGHPUT_TYPES), columns=[*THROUGHPUT_TYPES]),
        prerequisites=_prerequisites(store, plan),
        software=software_of([run for run in children if run.info.run_id in current]),
        experiment_id=parent.info.experiment_id,
        run_id=parent.info.run_id,
        batch_norm=histories.frame(runs if asked else runs.iloc[:0], names, BATCH_NORM, figures, FIGURE_COLUMNS),
        correct={key: correct(content) for key, content in histories.each(runs, PREDICTIONS)},
        pictures=histories.pictures(runs, score),
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


def _prerequisites(store: Store, plan: dict[str, Any]) -> pd.DataFrame:
    rows = []
    for needed in plan.get("prerequisites", ()):
        run = store.trained(needed["digest"], plan["versions"], kind="prerequisite")
        top1 = run.data.metrics.get(TOP1.test) if run else None
        rows.append({**{key: needed[key] for key in ("digest", "what", "epochs")}, TOP1.test: top1})
    return pd.DataFrame(rows, columns=["digest", "what", "epochs", TOP1.test]).astype({TOP1.test: float})


def runs_frame(plan: dict[str, Any], children: list[Run]) -> pd.DataFrame:
    """Return one row for each planned replicate, those that have no run included (status `missing`)."""
    wanted = {(cell["cell"], seed): digest for cell in plan["cells"] for seed, digest in cell["digests"].items()}
    by_key = current_runs(children, wanted, plan["versions"])
    parts = {key: int(run.data.tags.get("harness.accumulate", 1)) for key, run in by_key.items()}
    metrics = finals(task_planned(plan))
    rows = [
        {
            **cell.get("levels", {}),
            "policy": cell["policy"],
            **{trick: trick in cell["tricks"] for trick in plan["tricks"]},
            "seed": seed,
            "cell": cell["cell"],
            **_outcome(by_key.get((cell["cell"], str(seed))), metrics),
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


def _outcome(run: Run | None, metrics: Sequence[str]) -> dict[str, Any]:
    if run is None:
        return {"status": "missing", "reason": "not run yet", **dict.fromkeys(metrics), "run_id": "", "trained_by": ""}
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
        **{metric: run.data.metrics.get(metric) for metric in metrics},
        "run_id": run.info.run_id,
        "trained_by": tags.get("trained_by", ""),
    }


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
