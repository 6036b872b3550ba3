"""Runs frame to cells and effects: every contrast on every metric, with interval, tests and claim."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping
from functools import partial
from statistics import fmean
from typing import Any

import numpy as np
import pandas as pd

from harness.claims import judge
from harness.contrasts import KEYS, SOURCES, Contrast, Weights, of_plan
from harness.pairing import by_pair, paired
from harness.pooling import over_sources, pooled
from harness.results import Grid, axes_of, tricks_of
from harness.stats import (
    LEVEL,
    Interval,
    bca,
    improvement,
    paired_t,
    sign_flip,
    two_way_t,
    welch,
    wilcoxon,
)
from harness.tasks.metrics import METRICS, Task, score_of
from harness.wording import terms_of

RATES = ("images_per_s", "train_s")
"""Metrics compared as log-ratios over the rounds of the probe."""
FIGURES = ("peak_memory_bytes", "trainable_params")
"""Metrics without noise from seed to seed."""
COSTS = (*RATES, *FIGURES)
UNPAIRED = f"{LEVEL:.0%} Welch t, unpaired"
OVER_ROUNDS = f"{LEVEL:.0%} paired t over probe rounds, log ratio"
EXACT = "exact difference"
_NO_PAIR = "none: no pair finished"
_UNMEASURED = "none: not measured on every side"
COLUMNS = (
    *KEYS,
    "metric",
    "n",
    "estimate",
    "sd",
    "low",
    "high",
    "level",
    "interval",
    "p",
    "p_holm",
    "claim",
    "role",
    "bound",
    "simultaneous_low",
    "simultaneous_high",
    "bca_low",
    "bca_high",
    "examples_low",
    "examples_high",
    "p_sign_flip",
    "p_wilcoxon",
    "p_improvement",
    "diverged",
    "with_chance",
    "order_se",
)
_SEED = 0
"""Of the generator that draws bootstrap samples: the same runs give the same bytes."""


def cells(runs: pd.DataFrame, throughput: pd.DataFrame | None = None, task: Task = "classification") -> pd.DataFrame:
    """Return one row a cell: how many replicates finished and did not, mean and sd of the score, other metrics, costs.

    `runs` is the frame of `results.runs_frame`, `throughput` that of the probe: speed is the geometric mean of its
    rounds, as in the effects, and training time what it makes of the images seen. Without a probe both are as logged.
    """
    rows, axes, score = [], axes_of(runs), score_of(task)
    means = (*(metric.test for metric in METRICS[task][1:]), *COSTS)
    rates, times = _rates(runs, throughput) if throughput is not None else (pd.DataFrame(), pd.DataFrame())
    probed = {"images_per_s": rates, "train_s": times}
    for cell, group in runs.groupby("cell", sort=False):
        finished = group[group["status"] == "finished"]
        tops = {
            f"{metric}_{name}": value
            for metric in (score.test, score.val)
            for name, value in (("mean", finished[metric].mean()), ("sd", finished[metric].std(ddof=1)))
        }
        rows.append(
            {
                "cell": cell,
                **{axis: group[axis].iloc[0] for axis in axes},
                "policy": group["policy"].iloc[0],
                **{trick: bool(group[trick].iloc[0]) for trick in tricks_of(runs)},
                "n": len(finished),
                "failed": int(group["status"].isin(["failed", "killed"]).sum()),
                "diverged": int((group["status"] == "diverged").sum()),
                "missing": int(group["status"].isin(["missing", "running", "scheduled"]).sum()),
                **tops,
                **{metric: finished[metric].mean() for metric in means},
                **{metric: _geometric_mean(table[cell]) for metric, table in probed.items() if cell in table},
            }
        )
    return pd.DataFrame(rows)


def effects(grid: Grid) -> pd.DataFrame:
    """Return one row an effect and metric; CONTRIBUTING says what the kinds and the columns mean.

    The score is paired by seed over the seeds that all cells of an effect finished; throughput and training time are
    log-ratios paired by probe round (positive is faster, or longer); memory and parameters are exact differences. Of a
    grid whose runs are not paired, effects on the score are differences of means, and `n` is the smallest cell's.
    `estimate`, `low` and `high` are NaN where nothing can be paired. The same grid gives the same frame.
    """
    generator = np.random.default_rng(_SEED)
    metric = grid.score.test
    scores = by_pair(grid.runs[grid.runs["status"] == "finished"], metric)
    costs, divergence = _costs(grid), _divergence(grid)
    contrasts = of_plan(grid.plan)
    by_seed = [paired(scores, contrast.weights) for contrast in contrasts]
    rows: list[dict[str, Any]] = []
    samples = {}
    for contrast, found in zip(contrasts, by_seed, strict=True):
        names = {name: getattr(contrast, name) for name in KEYS}
        differences = samples[len(rows)] = found.to_numpy()
        if not terms_of(grid.plan).paired_by:
            judged = _unpaired(grid.runs, metric, contrast.weights)
        elif len(differences):
            judged = _paired(grid, contrast, found, generator)
        else:
            judged = _row(metric, 0, _NO_PAIR)
        order_se = _order_se(scores.loc[found.index], contrast)
        rows.append({**names, **judged, **divergence(contrast.weights), "order_se": order_se})
        rows += [{**names, **cost(contrast.weights)} for cost in costs]
    rows += [row for found in pooled(grid.plan, contrasts, by_seed, SOURCES) if (row := over_sources(found, metric))]
    return judge(pd.DataFrame(rows, columns=[*COLUMNS]), samples, grid.family)


def _paired(grid: Grid, contrast: Contrast, by_pair: pd.Series, generator: np.random.Generator) -> dict[str, Any]:
    d, seeds = by_pair.to_numpy(), by_pair.index.get_level_values("seed")
    found, resampled = paired_t(d), bca(d, generator)
    crossed = None if math.isnan(found.low) else _over_examples(grid, contrast.weights, seeds)
    interval = f"{LEVEL:.0%} paired t over {terms_of(grid.plan).many}"
    if 0 < contrast.share_of_orders < 1:
        interval += ", for these orders"
    if math.isnan(found.low):
        interval = "none: n = 1" if found.n == 1 else "none: every pair differs alike"
    return {
        **_row(grid.score.test, found.n, interval, found),
        "sd": float(d.std(ddof=1)) if len(d) > 1 else math.nan,
        "bca_low": resampled.low,
        "bca_high": resampled.high,
        "examples_low": crossed.low if crossed else math.nan,
        "examples_high": crossed.high if crossed else math.nan,
        "p_sign_flip": sign_flip(d, generator),
        "p_wilcoxon": wilcoxon(d),
        "p_improvement": improvement(d),
    }


def _unpaired(runs: pd.DataFrame, metric: str, weights: Weights) -> dict[str, Any]:
    finished = runs[runs["status"] == "finished"]
    sides = [finished.loc[finished["cell"] == cell, metric].to_numpy(dtype=float) for cell in weights]
    if not all(len(side) for side in sides):
        return _row(metric, 0, "none: a side has no run that finished")
    found, shares = welch(sides, [*weights.values()]), {}
    if [*weights.values()] == [1, -1]:
        shares["p_improvement"] = improvement(np.subtract.outer(*sides).ravel())
    interval = UNPAIRED
    if math.isnan(found.low):
        interval = "none: n = 1" if found.n == 1 else "none: the runs of every side are alike"
    return {**_row(metric, found.n, interval, found), **shares}


def _over_examples(grid: Grid, weights: Weights, paired_at: Iterable[int]) -> Interval | None:
    """Return the interval for other seeds and other test images alike; None where predictions are not kept."""
    seeds = [seed for seed in paired_at if all((cell, seed) in grid.correct for cell in weights)]
    if not seeds or len({len(grid.correct[cell, seed]) for cell in weights for seed in seeds}) > 1:
        return None  # scenarios with test sets of their own
    factors = np.array([*weights.values()])
    return two_way_t([factors @ np.array([grid.correct[cell, seed] for cell in weights]) for seed in seeds])


def _order_se(scores: pd.DataFrame, contrast: Contrast) -> float:
    """Return the standard error that a Shapley value has from sampling orders: that of the mean over seeds.

    `scores` are those of the seeds that it is paired over.
    """
    if contrast.share_of_orders == 1:
        return 0.0
    if len(contrast.draws) < 2 or scores.empty:
        return math.nan
    means = np.array([paired(scores, weights).mean() for weights in contrast.draws])
    # Drawn without replacement, so the nearer to all orders, the less is left to chance.
    return float(np.sqrt((1 - contrast.share_of_orders) * means.var(ddof=1) / len(means)))


def _divergence(grid: Grid) -> Callable[[Weights], dict[str, float]]:
    """Return the function from a contrast to how often its sides diverged, and to its estimate with guesses for those.

    The rate is of the replicates that ended, in a result or by diverging. What guessing is worth the task says;
    where a plan does not tell the classes there is no such estimate.
    """
    score = grid.score
    chance = {cell["cell"]: score.guess(cell["classes"]) for cell in grid.plan["cells"] if "classes" in cell}
    ended = grid.runs[grid.runs["status"].isin(["finished", "diverged"])]
    lost = ended["status"] == "diverged"
    by_cell = lost.groupby(ended["cell"]).agg(["sum", "count"]).T.to_dict()
    guessed = ended[score.test].astype(float).where(~lost, ended["cell"].map(chance).astype(float))
    return partial(_diverged, by_cell, by_pair(ended.assign(**{score.test: guessed}), score.test), chance)


def _diverged(
    by_cell: Mapping[Hashable, Mapping[str, int]], guessed: pd.DataFrame, chance: Mapping[str, float], weights: Weights
) -> dict[str, float]:
    ended = [cell for cell in weights if cell in by_cell]
    lost = [cell for cell in ended if by_cell[cell]["sum"]]
    rate = sum(by_cell[cell]["sum"] for cell in lost) / max(sum(by_cell[cell]["count"] for cell in ended), 1)
    d = paired(guessed, weights) if lost and chance.keys() >= {*lost} else pd.Series(dtype=float)
    return {"diverged": rate, "with_chance": float(d.mean())}


def _costs(grid: Grid) -> list[Callable[[Weights], dict[str, Any]]]:
    """Return, for each cost that was measured at all, the function from a contrast to its row."""
    finished = grid.runs[grid.runs["status"] == "finished"]
    rates, times = _rates(grid.runs, grid.throughput)
    found: list[Callable[[Weights], dict[str, Any]]] = []
    for metric, table in zip(RATES, (rates, times), strict=True):
        if table.notna().any(axis=None):
            found.append(partial(_rate, metric, table.map(math.log, na_action="ignore")))
    for metric in FIGURES:
        by_cell = finished.dropna(subset=[metric]).groupby("cell")[metric].agg(["mean", "count"]).astype(float)
        if len(by_cell):
            found.append(partial(_exact, metric, by_cell.T.to_dict()))
    return found


def _rates(runs: pd.DataFrame, throughput: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return images per second and the seconds of a training, rounds of the probe down and cells across.

    A run's time is that of its images at the rate where it ran; here it is theirs at the rate of this probe, so that a
    grid whose runs come from several hosts is compared on one. A teacher's part is taken to scale alike.
    """
    rates = throughput.pivot_table(index="round", columns="cell", values="images_per_s", observed=True)
    finished = runs[runs["status"] == "finished"]
    images = (finished["train_s"] * finished["images_per_s"]).astype(float).groupby(finished["cell"]).mean()
    return rates, images.reindex(rates.columns) / rates


def _geometric_mean(values: pd.Series) -> float:
    return math.exp(fmean(map(math.log, values.dropna()))) if values.notna().any() else math.nan


def _rate(metric: str, table: pd.DataFrame, weights: Weights) -> dict[str, Any]:
    d = paired(table, weights).to_numpy()
    if not len(d):
        return _row(metric, 0, _UNMEASURED)
    found = paired_t(d)
    return _row(metric, found.n, "none: rounds alike" if math.isnan(found.low) else OVER_ROUNDS, found)


def _exact(metric: str, by_cell: Mapping[Hashable, Mapping[str, float]], weights: Weights) -> dict[str, Any]:
    if any(cell not in by_cell for cell in weights):
        return _row(metric, 0, _UNMEASURED)
    value = math.fsum(weight * by_cell[cell]["mean"] for cell, weight in weights.items())
    n = int(min(by_cell[cell]["count"] for cell in weights))
    return _row(metric, n, EXACT, Interval(n, value))


def _row(metric: str, n: int, interval: str, found: Interval | None = None) -> dict[str, Any]:
    found = found or Interval(n, math.nan)
    return {
        "metric": metric,
        "n": n,
        "estimate": found.estimate,
        "low": found.low,
        "high": found.high,
        "level": LEVEL,
        "interval": interval,
        "p": found.p,
    }
