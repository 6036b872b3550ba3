"""Runs that this harness did not make: a bare table of results as a grid, so that it gets the same analysis."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import pandas as pd

from harness.artifacts import finals
from harness.errors import HarnessError, unknown
from harness.results import Grid, axes_of, tricks_of
from harness.sources import Source
from harness.tasks.metrics import TOP1, score_of, task_in
from harness.wording import Terms, cell_name, scenario, some

_THROUGHPUT = ("cell", "round", "images_per_s")
_ON = ("true", "1", "1.0", "yes", "on")
_OFF = ("false", "0", "0.0", "no", "off", "")
_NO_VALUE = ("", "nan", "na", "n/a", "none", "null", "-", "–")
_MOST_LEVELS = 12
_MOST_TRICKS = 64
_FIGURES = (*finals("classification"), "run_id", "trained_by")
_TAKEN = {"kind", "policy", "seed", "cell", "status", "reason", "n", "failed", "diverged", "missing", *_FIGURES}
"""Columns that the report's own tables have."""


@dataclass(frozen=True)
class Columns:
    """What the columns of somebody else's table mean."""

    policy: str
    metric: str
    tricks: tuple[str, ...] = ()
    """Each on or off, or of a few levels: then every level but the reference is a trick."""
    pair_by: tuple[str, ...] = ()
    """What the runs of a pair share; where nothing is named, runs are not paired."""
    scenario: tuple[str, ...] = ()
    baseline: str | None = None
    """The policy that others are held against; None for the first."""
    percent: bool = False
    """Whether the metric is in per cent and not a fraction."""
    lower_is_better: bool = False
    """Whether the metric is one minus what is to be compared, an error rate."""


def foreign_grid(source: Source, columns: Columns) -> Grid:
    """Return the grid of somebody else's runs; raises HarnessError for columns that it cannot be made of.

    Runs of one cell and pair count by their mean. In the frame of runs the pair stands in the column `seed`, or where
    each run lies if they are not paired; the metric stands where test top-1 would.
    """
    table, labels = _mapped(source, columns)
    runs = _runs(table, labels, columns)
    first = {row["cell"]: row["several"] for row in runs.to_dict("records") if row["several"] > 1}
    terms, left_out = _terms(source, columns), len(source.rows) - len(table)
    grid = grid_of(runs.drop(columns="several"))
    seeds = [*dict.fromkeys(runs["seed"])] if columns.pair_by else range(1, int(runs.groupby("cell").size().max()) + 1)
    unused = [c for c in source.rows.columns if not source.tracked and c not in _named(source, columns)]
    settings = {
        "source": source.name,
        "metric": terms.metric,
        "policy": columns.policy,
        "paired by": terms.paired_by or "nothing",
        "rows": len(table),
        **({"runs left out, since they have no policy": left_out} if left_out else {}),
        **({"several rows in a cell and pair": f"in {len(first)} cells; their mean counts"} if first else {}),
        **({"columns not used": unused} if unused else {}),
    }
    plan = {
        **grid.plan,
        "name": f"{terms.metric} by {source.label(source.column(columns.policy))}, from {source.name}",
        "seeds": [*seeds],
        "settings": settings,
        "terms": asdict(terms),
        "coverage": _coverage(terms, grid.runs),
    }
    return replace(grid, plan=plan)


def _named(source: Source, columns: Columns) -> list[str]:
    names = (columns.policy, columns.metric, *columns.tricks, *columns.pair_by, *columns.scenario)
    return [source.column(name) for name in names]


def _terms(source: Source, columns: Columns) -> Terms:
    metric = source.label(source.column(columns.metric))
    paired_by = " × ".join(source.label(source.column(name)) for name in columns.pair_by)
    return Terms(f"1 − {metric}" if columns.lower_is_better else metric, paired_by)


def _coverage(terms: Terms, runs: pd.DataFrame) -> str:
    if not terms.paired_by:
        return "The intervals cover what differs between the runs of a cell; what these share, the table does not say."
    told = (
        f"The intervals cover what differs between {terms.many}, taken as independent; what they share, the table does "
        "not say."
    )
    if " × " in terms.paired_by:
        one = terms.paired_by.replace(" × ", " or one ")
        told += f" Blocks of one {one} are alike, so for new ones of either the intervals are too narrow."
    if runs.groupby("cell")["seed"].agg(frozenset).nunique() > 1:
        told += f" Cells lack {terms.many}, so their means are over unlike ones: only paired differences compare like."
    return told


def _mapped(source: Source, columns: Columns) -> tuple[pd.DataFrame, list[str]]:
    """Return a row a run with axes, `policy`, a boolean a trick, `seed`, `value`, `status` and `reason`; the tricks."""
    named = _named(source, columns)
    twice = [column for column in dict.fromkeys(named) if named.count(column) > 1]
    if twice:
        raise HarnessError(f"{source.name}: column {twice[0]!r} is used twice; a column has one meaning")
    if source.tracked:  # a run without the policy's column is another's parent, or of another kind
        source = _only(source, source.rows[source.column(columns.policy)] != "")
    policies = _filled(source, columns.policy, separates=True)
    tricks = {label: on for name in columns.tricks for label, on in _tricks(source, name).items()}
    _check_tricks(source, columns, policies, tricks)
    axes = {source.label(source.column(name)): _filled(source, name) for name in columns.scenario}
    taken = sorted({*axes, *tricks} & _TAKEN)
    if taken:
        raise HarnessError(f"{source.name}: the report has a column {taken[0]!r} of its own; rename that of the table")
    values, reasons = _values(source, columns)
    statuses = [
        "missing" if state == "finished" and math.isnan(value) else state
        for state, value in zip(source.states, values, strict=True)
    ]
    pairs = [_filled(source, name) for name in columns.pair_by]
    names = [source.label(source.column(name)) for name in columns.pair_by]
    keys = [", ".join(f"{n} {key}" for n, key in zip(names, row, strict=True)) for row in zip(*pairs, strict=True)]
    table = pd.DataFrame({**axes, "policy": policies, **tricks})
    own = {"seed": keys or source.places, "value": values, "status": statuses, "reason": reasons}
    return table.assign(**own), [*tricks]


def _only(source: Source, kept: pd.Series) -> Source:
    if not kept.any():
        raise HarnessError(f"{source.name}: no run has a policy")
    places, states = (
        tuple(value for value, keep in zip(values, kept, strict=True) if keep)
        for values in (source.places, source.states)
    )
    return replace(source, rows=source.rows[kept].reset_index(drop=True), places=places, states=states)


def _filled(source: Source, name: str, separates: bool = False) -> list[str]:
    """Return the values of a column that has one in every row."""
    values = source.rows[source.column(name)].tolist()
    for value, place in zip(values, source.places, strict=True):
        if not value:
            raise HarnessError(f"{source.name}, {place}: no value in column {name!r}")
        if " | " in value and separates:
            raise HarnessError(f"{source.name}, {place}: {value!r} holds ' | ', which separates the parts of a name")
    return values


def _tricks(source: Source, name: str) -> dict[str, list[bool]]:
    """Return the tricks of a column, by label: whether each is on in each row."""
    column = source.column(name)
    label, values = source.label(column), source.rows[column].tolist()
    levels = [*dict.fromkeys(value for value in values)]
    if len(levels) < 2:
        raise HarnessError(f"{source.name}: trick column {name!r} says {levels[0]!r} in every row; leave it out")
    if all(value.lower() in (*_ON, *_OFF) for value in levels):
        on = [value.lower() in _ON for value in values]
        if len({*on}) < 2:
            raise HarnessError(f"{source.name}: trick column {name!r} says the same in every row; leave it out")
        return {label: on}
    if len(levels) > _MOST_LEVELS:
        raise HarnessError(
            f"{source.name}: trick column {name!r} has {len(levels)} levels ({some(levels)}), more than "
            f"{_MOST_LEVELS}; group them, or make it a scenario column"
        )
    off = [level for level in levels if level.lower() in ("", "none")] or levels[:1]
    return {f"{label}={level}": [value == level for value in values] for level in levels if level not in off}


def _check_tricks(
    source: Source, columns: Columns, policies: Sequence[str], tricks: Mapping[str, Sequence[bool]]
) -> None:
    if len(tricks) > _MOST_TRICKS:
        raise HarnessError(f"{source.name}: {len(tricks)} tricks; name at most {_MOST_TRICKS}")
    odd = [label for label in tricks if label == "baseline" or re.search(r" [+|] ", label)]
    if odd:
        raise HarnessError(f"{source.name}: a trick cannot be called {odd[0]!r}, which would name a set; rename it")
    if len({*policies}) == 1 and not tricks:
        raise HarnessError(
            f"{source.name}: column {columns.policy!r} says {policies[0]!r} in every row, and no trick column is named"
            ", so there is nothing to compare"
        )
    if columns.baseline is not None and columns.baseline not in policies:
        raise HarnessError(f"{source.name}: {unknown('baseline', columns.baseline, dict.fromkeys(policies))}")


def _values(source: Source, columns: Columns) -> tuple[list[float], list[str]]:
    """Return the metric of each run as a fraction of which more is better, NaN where there is none, and why."""
    values, reasons = [], []
    texts = source.rows[source.column(columns.metric)]
    for text, place, state in zip(texts, source.places, source.states, strict=True):
        value = _number(text)
        if value is None:
            raise HarnessError(f"{source.name}, {place}: {text!r} in column {columns.metric!r} is no number")
        value = value / 100 if columns.percent else value
        if value < 0 or value > 1:
            raise HarnessError(
                f"{source.name}, {place}: {columns.metric} {text} is no fraction from 0 to 1"
                + (", even as per cent" if columns.percent else "; say --percent if it is in per cent")
            )
        missing = f"{place}: no value" if math.isnan(value) else ""
        reasons.append(missing if state == "finished" else f"{place}: {state}")
        values.append(1 - value if columns.lower_is_better else value)
    return values, reasons


def _number(text: str) -> float | None:
    """Return the number that a text is, NaN where it says that there is none; None where it is something else."""
    if text.lower() in _NO_VALUE:
        return math.nan
    try:
        return float(text)
    except ValueError:
        return None


def _runs(table: pd.DataFrame, tricks: Sequence[str], columns: Columns) -> pd.DataFrame:
    """Return the frame of runs, cell by cell: a row a cell and pair, with how many rows stand behind it (`several`)."""
    axes = [*table.columns[: [*table.columns].index("policy")]]
    first = columns.baseline or table["policy"].iloc[0]
    ranks = {policy: rank for rank, policy in enumerate(dict.fromkeys([first, *table["policy"]]))}
    scenarios = {place: rank for rank, place in enumerate(dict.fromkeys(zip(*(table[a] for a in axes), strict=True)))}
    groups: dict[tuple[Any, ...], list[dict[Any, Any]]] = {}
    for row in table.to_dict("records"):
        on = tuple(label for label in tricks if row[label])
        place = tuple(row[axis] for axis in axes)
        key = (scenarios.get(place, 0), ranks[row["policy"]], len(on), on, row["seed"])
        groups.setdefault(key, []).append(row)
    order = {cell: number for number, cell in enumerate(dict.fromkeys(key[:4] for key in groups))}
    rows = []
    for key in sorted(groups, key=lambda key: (*key[:3], order[key[:4]])):
        members = groups[key]
        row = members[0]
        done = [member["value"] for member in members if member["status"] == "finished"]
        lost = [member for member in members if member["status"] != "finished"]
        notes = [f"mean of {len(done)} rows"] if len(done) > 1 else []
        name = cell_name(row["policy"], key[3], tricks, scenario({axis: row[axis] for axis in axes}))
        rows.append(
            {
                **{column: row[column] for column in (*axes, "policy", *tricks, "seed")},
                "cell": name,
                "status": "finished" if done else lost[0]["status"],
                "reason": "; ".join([*notes, *(member["reason"] for member in lost)]),
                **dict.fromkeys(finals("classification"), math.nan),
                TOP1.test: sum(done) / len(done) if done else math.nan,
                "run_id": "",
                "trained_by": "",
                "several": len(done),
            }
        )
    return pd.DataFrame(rows)


def grid_of(runs: pd.DataFrame, throughput: pd.DataFrame | None = None) -> Grid:
    """Return the grid of a frame of runs as `results.runs_frame` makes it: what is there is what was planned."""
    axes, tricks, task = axes_of(runs), tricks_of(runs), task_in(runs.columns)
    cells = [
        {
            "cell": row["cell"],
            "policy": row["policy"],
            "tricks": [trick for trick in tricks if row[trick]],
            "levels": {axis: row[axis] for axis in axes},
        }
        for row in runs.drop_duplicates("cell").to_dict("records")
    ]
    plan = {
        "task": task,
        "policies": dict.fromkeys(runs["policy"], ""),
        "tricks": {trick: {"trick": trick} for trick in tricks},
        "axes": {axis: list(runs[axis].unique()) for axis in axes},
        "seeds": sorted(runs["seed"].unique().tolist()),
        "cells": cells,
        "judgements": [],
        "settings": {},
    }
    return Grid(
        plan=plan,
        runs=runs,
        curves=pd.DataFrame(
            columns=[*axes, "policy", "cell", "seed", "epoch", "step", "train_loss", score_of(task).val]
        ),
        throughput=pd.DataFrame(columns=_THROUGHPUT) if throughput is None else throughput,
        prerequisites=pd.DataFrame(columns=["digest", "what", "epochs", TOP1.test]),
        software={},
        experiment_id="",
        run_id="",
    )
