"""Effects pooled over an axis whose levels are a sample of something: source checkpoints, or data sets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from harness.contrasts import KEYS, Contrast, key_of
from harness.pairing import by_pair
from harness.results import axes_of
from harness.stats import LEVEL, improvement, iqm, stratified_bootstrap, two_way_t
from harness.tasks.metrics import TOP1
from harness.wording import scenario, trick_set

DATA = "data"
"""The axis whose levels are data sets."""
OVER_SOURCES = f"{LEVEL:.0%} t over seeds × source checkpoints"
Pooled = tuple[Contrast, list[pd.Series]]
"""A contrast named for all levels of an axis, and its differences by seed at each of them."""


def pooled(
    plan: Mapping[str, Any], contrasts: Sequence[Contrast], samples: Sequence[pd.Series], axis: str
) -> Iterator[Pooled]:
    """Yield every contrast that all levels of `axis` have, with its samples; nothing where there is no such axis.

    `samples` are the differences of `contrasts`, by seed. A contrast between levels of the axis is left out.
    """
    if len(plan.get("axes", {}).get(axis, ())) < 2:
        return
    levels = {scenario(cell["levels"]): cell["levels"] for cell in plan["cells"]}
    groups: dict[tuple[str, ...], list[tuple[Contrast, pd.Series]]] = {}
    for contrast, sample in zip(contrasts, samples, strict=True):
        ours, theirs = levels[contrast.scenario], levels.get(contrast.against) if contrast.against else None
        if theirs is None or theirs[axis] == ours[axis]:
            against = _without(theirs, axis) if theirs else contrast.against
            named = replace(contrast, scenario=_without(ours, axis), against=against)
            groups.setdefault(key_of(named), []).append((named, sample))
    for members in groups.values():
        if len(members) == len(plan["axes"][axis]):
            yield members[0][0], [sample for _, sample in members]


def _without(levels: Mapping[str, str], axis: str) -> str:
    others = {name: level for name, level in levels.items() if name != axis}
    return ", ".join(part for part in (scenario(others), f"every {axis}") if part)


def over_sources(found: Pooled, metric: str) -> dict[str, Any]:
    """Return the estimate of a contrast with an interval for other seeds and other source checkpoints alike."""
    contrast, samples = found
    table = pd.concat(samples, axis=1).dropna().to_numpy(dtype=float)
    if not table.size:
        return {}
    interval = two_way_t(table)
    return {
        **{key: getattr(contrast, key) for key in KEYS},
        "metric": metric,
        "n": interval.n,
        "estimate": interval.estimate,
        "low": interval.low,
        "high": interval.high,
        "level": LEVEL,
        "interval": OVER_SOURCES,
        "p": interval.p,
    }


def over_data(runs: pd.DataFrame, generator: np.random.Generator, metric: str = TOP1.test) -> pd.DataFrame:
    """Return one row a policy and trick set: the interquartile mean of a metric over seeds and data sets.

    `gain` is its difference to that of the same policy without tricks, `p_improvement` how often a seed gains, the mean
    over data sets. The intervals cover other seeds on these data sets, not other data sets (Agarwal et al. 2021, arXiv
    2108.13264). Without an axis of data sets the frame is empty; what not every data set finished twice is left out.
    """
    if DATA not in axes_of(runs):
        return pd.DataFrame()
    others = [axis for axis in axes_of(runs) if axis != DATA]
    finished = runs[runs["status"] == "finished"].assign(tricks=runs["cell"].map(trick_set))
    groups = finished.groupby([*others, "policy", "tricks"], sort=False)
    tables = {key: by_pair(group, metric, DATA) for key, group in groups}
    rows = []
    for key, table in tables.items():
        baseline = tables.get((*key[:-1], "baseline"))
        scores = [column.dropna().to_numpy() for _, column in table.items()]
        if table.shape[1] < runs[DATA].nunique() or min(map(len, scores)) < 2:
            continue
        found = stratified_bootstrap(scores, iqm, generator)
        row = dict(zip([*others, "policy", "tricks"], key, strict=True))
        row |= {"data_sets": len(scores), "n": found.n, "iqm": found.estimate, "low": found.low, "high": found.high}
        if baseline is not None and baseline is not table and set(baseline.columns) == set(table.columns):
            row |= _gain(table, baseline, generator)
        rows.append(row)
    return pd.DataFrame(rows)


def _gain(table: pd.DataFrame, baseline: pd.DataFrame, generator: np.random.Generator) -> dict[str, float]:
    pairs = [
        (both.iloc[:, 0].to_numpy(), both.iloc[:, 1].to_numpy())
        for name in table
        if len(both := pd.concat([table[name], baseline[name]], axis=1).dropna()) > 1
    ]
    if len(pairs) < table.shape[1]:
        return {}
    ours, theirs = zip(*pairs, strict=True)
    found = stratified_bootstrap(ours, iqm, generator, against=theirs)
    improved = float(np.mean([improvement(a - b) for a, b in pairs]))
    return {"gain": found.estimate, "gain_low": found.low, "gain_high": found.high, "p_improvement": improved}
