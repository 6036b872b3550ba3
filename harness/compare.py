"""Two studies side by side: what differs between them, cell by cell."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from harness import wording
from harness.effects import EXACT, FIGURES, UNPAIRED
from harness.errors import HarnessError
from harness.pairing import by_pair
from harness.results import Grid
from harness.stats import LEVEL, Interval, paired_t, welch
from harness.tasks.metrics import Metric

PAIRED = f"{LEVEL:.0%} paired t over seeds"
OVER_ROUNDS = f"{LEVEL:.0%} Welch t over probe rounds, log ratio, unpaired"
SAME_SEEDS = ("data", "classes", "train images per seed", "train images drawn by seed", "model", "weights")
"""Settings that have to agree for a seed to draw the same images and initial weights in two studies."""
COLUMNS = ("cell", "metric", "n", "a", "b", "estimate", "low", "high", "interval", "p", "shared")


@dataclass(frozen=True)
class Side:
    """One of the two."""

    name: str
    grid: Grid

    @property
    def settings(self) -> Mapping[str, Any]:
        """The settings of a study; none where only its table is there."""
        settings: Mapping[str, Any] = self.grid.plan.get("settings", {})
        return settings


@dataclass(frozen=True)
class Comparison:
    """What differs between two studies, B minus A."""

    a: str
    b: str
    differences: pd.DataFrame
    """One row a cell in common and metric, as `COLUMNS`; the score over all of them first where they are several.

    The score is a fraction, images_per_s a natural-log ratio; `shared` counts pairs that are one training.
    """
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    notes: tuple[str, ...]
    """What else differs, and what that means for the numbers."""
    score: Metric


def compare(a: Side, b: Side) -> Comparison:
    """Return the differences of B to A: the score paired by seed where seeds mean the same on both sides.

    Raises HarnessError where they are studies of different tasks.
    """
    score = a.grid.score
    if b.grid.score != score:
        raise HarnessError(
            f"{a.name} is judged by {score.label} and {b.name} by {b.grid.score.label}: they are of different tasks"
        )
    names = [[*dict.fromkeys(side.grid.runs["cell"])] for side in (a, b)]
    common = [cell for cell in names[0] if cell in names[1]]
    unlike = [key for key in SAME_SEEDS if a.settings and b.settings and a.settings.get(key) != b.settings.get(key)]
    rows = [_score(a, b, common, not unlike)] if len(common) > 1 else []
    for cell in common:
        rows += [_score(a, b, [cell], not unlike), _speed(a, b, cell), *(_exact(a, b, cell, name) for name in FIGURES)]
    differences = pd.DataFrame(rows, columns=[*COLUMNS])
    only_a, only_b = (
        tuple(cell for cell in ours if cell not in theirs) for ours, theirs in zip(names, names[::-1], strict=True)
    )
    return Comparison(a.name, b.name, differences, only_a, only_b, tuple(_notes(a, b, unlike, differences)), score)


def _finished(side: Side, cells: Sequence[str]) -> pd.DataFrame:
    runs = side.grid.runs
    return runs[(runs["status"] == "finished") & runs["cell"].isin(cells)]


def _tops(side: Side, cells: Sequence[str]) -> pd.DataFrame:
    """Return the score, seeds down and cells across."""
    return by_pair(_finished(side, cells), side.grid.score.test).reindex(columns=[*cells])


def _score(a: Side, b: Side, cells: Sequence[str], paired: bool) -> dict[str, Any]:
    """Return the difference of the score of a cell, or of the mean of several."""
    ours, theirs = _tops(a, cells), _tops(b, cells)
    named = cells[0] if len(cells) == 1 else f"all {len(cells)} in common"
    if paired:
        both = (theirs - ours).mean(axis=1, skipna=False).dropna()
        ours, theirs = ours.loc[both.index], theirs.loc[both.index]  # so that A, B and B − A belong together
        d = both.to_numpy()
        found, interval = paired_t(d) if len(d) else None, PAIRED
    else:
        samples = [table[cell].dropna().to_numpy() for table in (theirs, ours) for cell in cells]
        weights = [sign / len(cells) for sign in (1, -1) for _ in cells]
        found, interval = welch(samples, weights) if all(map(len, samples)) else None, UNPAIRED
    sides = {"a": float(ours.mean().mean(skipna=False)), "b": float(theirs.mean().mean(skipna=False))}
    if found is None:
        found, interval = Interval(0, math.nan), "none: not finished on both sides"
    shared = _shared(a, b, cells)
    if shared and shared == found.n * len(cells):
        interval = "none: the same trainings on both sides"
    elif found.n and math.isnan(found.low):
        interval = "none: n = 1" if found.n == 1 else "none: no spread"
    return {
        "cell": named,
        "metric": a.grid.score.test,
        **sides,
        **_numbers(found),
        "interval": interval,
        "shared": shared,
    }


def _shared(a: Side, b: Side, cells: Sequence[str]) -> int:
    """Return how many replicates of these cells are one training on both sides."""
    trained = []
    for side in (a, b):
        done = _finished(side, cells)
        if "run_id" not in done:  # a table on disk tells no runs
            return 0
        ids = done["trained_by"].where(done["trained_by"] != "", done["run_id"])
        trained.append({key for key in zip(done["cell"], done["seed"], ids, strict=True) if key[-1]})
    return len(trained[0] & trained[1])


def _speed(a: Side, b: Side, cell: str) -> dict[str, Any]:
    """Return the log-ratio of the throughput: over rounds where they are kept, else of the figures alone."""
    tables = [side.grid.throughput for side in (b, a)]
    rounds = [table.loc[table["cell"] == cell, "images_per_s"].to_numpy(dtype=float) for table in tables]
    means = [float(_finished(side, [cell])["images_per_s"].astype(float).mean()) for side in (b, a)]
    if all(map(len, rounds)):
        found, interval = welch([np.log(rates) for rates in rounds], [1, -1]), OVER_ROUNDS
        means = [float(rates.mean()) for rates in rounds]
    elif not any(map(math.isnan, means)):
        found, interval = Interval(1, math.log(means[0] / means[1])), "none: no rounds kept"
    else:
        found, interval = Interval(0, math.nan), "none: not measured on both sides"
    if found.n and math.isnan(found.low) and interval == OVER_ROUNDS:
        interval = "none: n = 1" if found.n == 1 else "none: rounds alike"
    sides = {"a": means[1], "b": means[0]}
    return {"cell": cell, "metric": "images_per_s", **sides, **_numbers(found), "interval": interval, "shared": 0}


def _exact(a: Side, b: Side, cell: str, metric: str) -> dict[str, Any]:
    ours, theirs = (_finished(side, [cell])[metric].dropna().astype(float) for side in (a, b))
    found = Interval(min(len(ours), len(theirs)), float(theirs.mean() - ours.mean()))
    interval = EXACT if found.n else "none: not measured on both sides"
    sides = {"a": float(ours.mean()), "b": float(theirs.mean())}
    return {"cell": cell, "metric": metric, **sides, **_numbers(found), "interval": interval, "shared": 0}


def _numbers(found: Interval) -> dict[str, Any]:
    return {"n": found.n, "estimate": found.estimate, "low": found.low, "high": found.high, "p": found.p}


def _notes(a: Side, b: Side, unlike: Sequence[str], differences: pd.DataFrame) -> Iterator[str]:
    score = a.grid.score
    if unlike:
        yield (
            f"The studies differ in {', '.join(unlike)}, so a seed does not mean the same in both: test {score.label} "
            "is not paired, and a difference may come from that."
        )
    bare = [side.name for side in (a, b) if not side.settings]
    if bare:
        yield (
            f"A table keeps no settings: that seeds draw the same images as in {' and '.join(bare)}, and that cells "
            "of one name are the same, is taken on trust."
        )
    else:
        yield from _unlike("Setting", a.settings, b.settings)
        yield from _unlike("Trick", a.grid.plan["tricks"], b.grid.plan["tricks"], both=True)
        yield from _unlike("Policy", a.grid.plan["policies"], b.grid.plan["policies"], both=True)
        yield from _unlike("Version", a.grid.plan["versions"], b.grid.plan["versions"])
    if shared := _shared(a, b, [*a.grid.runs["cell"]]):
        yield f"{shared} replicates are the same training on both sides: a finished training is never trained again."
    if differences.loc[differences["metric"] == "images_per_s", "n"].any():
        yield _machines(a, b)
    known = differences[(differences["metric"] == score.test) & differences["low"].notna()]
    apart = int(((known["low"] > 0) | (known["high"] < 0)).sum())
    if len(known):
        yield (
            f"Of {len(known)} intervals of test {score.label}, {apart} {'leaves' if apart == 1 else 'leave'} out 0; "
            f"about {(1 - LEVEL) * len(known):.1f} would if nothing differed. Nothing corrects them for their number."
        )


def _unlike(what: str, ours: Mapping[str, Any], theirs: Mapping[str, Any], both: bool = False) -> Iterator[str]:
    for key in dict.fromkeys([*ours, *theirs]):
        if ours.get(key) != theirs.get(key) and not (both and (key not in ours or key not in theirs)):
            yield f"{what} {key.replace('_', ' ')}: {ours.get(key)} in A, {theirs.get(key)} in B."


def _machines(a: Side, b: Side) -> str:
    """Return what a difference in speed may come from."""
    told = "Speed was probed in sessions of their own, so a difference may be one of sessions"
    places = [
        " ".join(
            f"{what} {', '.join(side.grid.software[what])}" for what in ("host", "device") if what in side.grid.software
        )
        for side in (a, b)
    ]
    if not all(places):
        return f"{told}; which machines they ran on is not known of both sides."
    return f"{told}." if places[0] == places[1] else f"{told}, and machines differ: {places[0]} in A, {places[1]} in B."


def table(comparison: Comparison) -> pd.DataFrame:
    """Return the differences as a person reads them, a row a cell."""
    by_cell: dict[str, dict[str, dict[Any, Any]]] = {}
    for row in comparison.differences.to_dict("records"):
        by_cell.setdefault(row["cell"], {})[row["metric"]] = row
    return pd.DataFrame([_shown(cell, rows, comparison.score) for cell, rows in by_cell.items()])


def _shown(cell: str, rows: Mapping[str, Mapping[Any, Any]], score: Metric) -> dict[str, Any]:
    top = rows[score.test]

    def value(metric: str, key: str = "estimate") -> float:
        return float(rows[metric][key]) if metric in rows else math.nan

    return {
        "cell": cell,
        f"A, {score.label} %": wording.number(100 * top["a"], ".1f"),
        f"B, {score.label} %": wording.number(100 * top["b"], ".1f"),
        "B − A, points": wording.points(top["estimate"]),
        "95 % interval": wording.points_between(top["low"], top["high"]),
        "n": top["n"],
        "speed": wording.ratio(value("images_per_s")),
        "interval of speed": wording.ratio_between(value("images_per_s", "low"), value("images_per_s", "high")),
        "peak memory, MiB": wording.signed(value("peak_memory_bytes") / 2**20, ",.1f"),
        "trainable parameters": wording.signed(value("trainable_params"), ",.0f"),
    }


def words(comparison: Comparison) -> list[str]:
    """Return what else there is to say, a sentence a line."""
    only = {"A": comparison.only_a, "B": comparison.only_b}
    return [
        *(f"Only in {side}: {'; '.join(cells)}." for side, cells in only.items() if cells),
        *comparison.notes,
    ]
