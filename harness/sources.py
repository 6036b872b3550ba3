"""Results that this harness did not make, as they lie somewhere: a CSV file, or an experiment in MLflow."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from harness.errors import HarnessError, unknown
from harness.wording import some

if TYPE_CHECKING:
    from mlflow.entities import Run

    from harness.track import Store

_SEPARATORS = ",;\t"
_STATES = {"FINISHED": "finished", "FAILED": "failed", "KILLED": "killed"}
"""What is not among them may still finish: its result is missing."""


@dataclass(frozen=True)
class Source:
    """Somebody else's results, a row a run."""

    name: str
    rows: pd.DataFrame
    """Every value a text without space around it; empty where there is none."""
    places: tuple[str, ...]
    """Where each row lies, such as `line 5`."""
    states: tuple[str, ...]
    """What became of each run, as `results.runs_frame` has it."""
    tracked: bool = False
    """Whether columns are `params.…`, `metrics.…` and `tags.…`, which may be named without that."""

    def column(self, name: str) -> str:
        """Return the column that `name` means; raises HarnessError where there is none, or several."""
        if name in self.rows.columns:
            return name
        bare = [column for column in self.rows.columns if self.tracked and self.label(column) == name]
        if len(bare) == 1:
            return bare[0]
        if bare:
            raise HarnessError(f"{self.name}: {name!r} may be {' or '.join(bare)}; say which")
        raise HarnessError(f"{self.name}: {unknown('column', name, [*self.rows.columns])}")

    def label(self, column: str) -> str:
        """Return a column's name as people read it."""
        return column.partition(".")[2] if self.tracked else column


def read_csv(path: Path) -> Source:
    """Read a table of runs with a line of headers; values are separated by commas, semicolons or tabs.

    Raises HarnessError where it cannot be read, or lacks headers or rows.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            file.seek(0)
            reader = csv.reader(file, delimiter=max(_SEPARATORS, key=first.count), strict=True)
            lines = [(reader.line_num, [text.strip() for text in line]) for line in reader if any(map(str.strip, line))]
    except OSError as error:
        raise HarnessError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise HarnessError(f"cannot read {path}: it is not UTF-8 text; save it as UTF-8") from None
    except csv.Error as error:
        raise HarnessError(f"cannot read {path}: line {reader.line_num}: {error}") from None
    if len(lines) < 2:
        raise HarnessError(f"{path} has {'a line of headers and ' if lines else ''}no rows")
    (_, header), *body = lines
    _check_header(path, header)
    for number, line in body:
        if len(line) != len(header):
            raise HarnessError(f"{path}, line {number}: {len(line)} values under {len(header)} headers")
    rows = pd.DataFrame([line for _, line in body], columns=header, dtype=object)
    return Source(path.name, rows, tuple(f"line {number}" for number, _ in body), ("finished",) * len(body))


def _check_header(path: Path, header: Sequence[str]) -> None:
    if "" in header:
        raise HarnessError(f"{path}: column {header.index('') + 1} has no header; name every column")
    twice = [name for name in dict.fromkeys(header) if header.count(name) > 1]
    if twice:
        raise HarnessError(f"{path}: two columns are called {some(twice)}; rename one")


def read_experiment(store: Store, name: str, where: str = "") -> Source:
    """Read the runs of an experiment, those that `where`, a filter of MLflow's, lets through, the earliest first.

    Raises HarnessError where there is no such experiment, it has no run, or the filter cannot be read.
    """
    runs = store.experiment_runs(name, where)
    if not runs:
        raise HarnessError(f"experiment {name!r} has no run{' of ' + repr(where) if where else ''}")
    rows = pd.DataFrame([_values(run) for run in runs], dtype=object).fillna("")
    return Source(
        name,
        rows[sorted(rows.columns)],
        tuple(f"run {run.info.run_id}" for run in runs),
        tuple(_STATES.get(str(run.info.status), "missing") for run in runs),
        tracked=True,
    )


def _values(run: Run) -> dict[str, str]:
    data: dict[str, Mapping[str, Any]]
    data = {"params": run.data.params, "metrics": run.data.metrics, "tags": run.data.tags}
    return {f"{kind}.{key}": str(value).strip() for kind, values in data.items() for key, value in values.items()}
