"""What the trainings of a grid kept as artifacts, read back: one call a training, not one a metric."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from harness.artifacts import PICTURES, picture
from harness.tasks.metrics import Metric

if TYPE_CHECKING:
    from mlflow.entities import Run

    from harness.track import Store

_PICTURES = 5
"""Pictures of a cell that are shown at most."""
FIGURE_COLUMNS = ("figure", "layer", "value", "reason")
CURVE_TYPES: dict[str, type] = {"epoch": int, "step": int, "train_loss": float}
"""Those of every task; beside them stands the score on validation."""
THROUGHPUT_TYPES: dict[str, type] = {
    "cell": str,
    "program": str,
    "host": str,
    "device": str,
    "round": int,
    "images_per_s": float,
    "peak_memory_bytes": int,
}


@dataclass(frozen=True)
class Histories:
    """The artifacts of the trainings behind a frame of runs."""

    store: Store
    known: Mapping[str, Run]
    """The runs of the grid, by id: a training may lie in another."""

    def each(self, runs: pd.DataFrame, artifact: str) -> Iterator[tuple[tuple[str, int], bytes]]:
        """Yield an artifact of the trainings of `runs` that kept it, by cell and seed."""
        for row in runs[runs["status"] == "finished"].to_dict("records"):
            content = self.store.read_artifact(self._training(row), artifact)
            if content:
                yield (row["cell"], row["seed"]), content

    def _training(self, row: Mapping[Any, Any]) -> Run:
        run_id = row["trained_by"] or row["run_id"]
        return self.known.get(run_id) or self.store.client.get_run(run_id)

    def pictures(self, runs: pd.DataFrame, score: Metric) -> dict[tuple[str, int], list[bytes]]:
        """Return the pictures of a few cells at one seed, by cell and seed, where they have some.

        The cells are the first, and the best and the worst on validation: what is shown is not chosen on test.
        """
        finished = runs[runs["status"] == "finished"]
        means = finished[score.val].astype(float).groupby(finished["cell"], sort=False).mean().dropna()
        if means.empty:
            return {}
        found = {}
        for cell in dict.fromkeys((finished["cell"].iloc[0], means.idxmax(), means.idxmin())):
            row = finished[finished["cell"] == cell].iloc[0].to_dict()
            run = self._training(row)
            names = [picture(number) for number in range(1, 1 + min(_PICTURES, int(run.data.tags.get(PICTURES, 0))))]
            found[cell, row["seed"]] = [png for name in names if (png := self.store.read_artifact(run, name))]
        return {key: pictures for key, pictures in found.items() if pictures}

    def frame(
        self,
        runs: pd.DataFrame,
        names: Sequence[str],
        artifact: str,
        read: Callable[[bytes], list[dict[str, Any]]],
        columns: Sequence[str],
    ) -> pd.DataFrame:
        """Return the tables that the trainings of `runs` kept, below each other, with the columns `names` of each."""
        whose = {(row["cell"], row["seed"]): {name: row[name] for name in names} for row in runs.to_dict("records")}
        rows = [whose[key] | row for key, content in self.each(runs, artifact) for row in read(content)]
        return pd.DataFrame(rows, columns=[*names, *columns])


def table(content: bytes, types: Mapping[str, type]) -> list[dict[str, Any]]:
    """Return the rows that the ledger wrote, every float bit for bit: pandas' own reader may round the last one."""
    rows = csv.DictReader(io.StringIO(content.decode()))
    # A cell that could not be probed has a row without numbers.
    full = [row for row in rows if all(row[name] for name in types)]
    return [{name: kind(row[name]) for name, kind in types.items()} for row in full]


def figures(content: bytes) -> list[dict[str, Any]]:
    """Return the figures of a diagnosis."""
    rows = csv.DictReader(io.StringIO(content.decode()))
    return [{**row, "value": float(row["value"] or "nan")} for row in rows]


def correct(content: bytes) -> np.ndarray:
    """Return whether each test image [N] was classified rightly."""
    with np.load(io.BytesIO(content)) as kept:
        return np.asarray(kept["predictions"] == kept["labels"])
