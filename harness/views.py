"""Prepared views of the MLflow UI: which columns, charts and grouping a grid opens with.

A shared view is an experiment tag that the UI reads (mlflow 3.x). The format is no documented interface: it was
learnt by saving a view by hand and reading the tag, so whoever writes these tags must be ready to do without them.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Sequence
from typing import Any

CURRENT = "harness.current"
"""Tag of the runs that count; `false` once other data, weights or versions took a run's place."""
TAG = "mlflow.sharedViewState."
TAG_LIMIT = 5000
"""Characters that an experiment tag holds."""


def keys(grid_run: str) -> list[tuple[str, str, bool]]:
    """Return the views of a grid: name, key, and whether it opens as charts."""
    grid = grid_run[:8]
    return [("Leaderboard", f"harness-leaderboard-{grid}", False), ("Charts by cell", f"harness-charts-{grid}", True)]


def tags(grid_run: str, tricks: Sequence[str], timestamp: int) -> dict[str, str]:
    """Return the experiment tags that save the views of a grid; a view too long for a tag is left out."""
    states = (leaderboard(grid_run, tricks), charts(grid_run))
    values = {
        TAG + key: encode(f"{name} ({grid_run[:8]})", state, timestamp)
        for (name, key, _), state in zip(keys(grid_run), states, strict=True)
    }
    return {key: value for key, value in values.items() if len(value) <= TAG_LIMIT}


def leaderboard(grid_run: str, tricks: Sequence[str]) -> dict[str, Any]:
    """Return the state of a table of replicates, best test top-1 first, with the columns that matter."""
    metrics = ("test_top1", "val_top1", "images_per_s", "train_s", "peak_memory_bytes", "trainable_params")
    columns = [f"params.`{name}`" for name in ("policy", *tricks, "seed")]
    return {
        **_rows_of(grid_run),
        "selectedColumns": [*columns[:1], *(f"metrics.`{name}`" for name in metrics), *columns[1:]],
        "groupBy": None,
    }


def charts(grid_run: str) -> dict[str, Any]:
    """Return the state of charts grouped by cell: accuracy bars, accuracy against speed, validation curves."""
    section = "harness-section"
    common = {"metricSectionId": section, "runsCountToCompare": 100, "deleted": False, "isGenerated": False}

    def metric(key: str) -> dict[str, str]:
        return {"key": key, "type": "METRIC", "dataAccessKey": key}

    return {
        **_rows_of(grid_run),
        "selectedColumns": ["params.`cell`", "metrics.`test_top1`", "metrics.`images_per_s`"],
        "runsHiddenMode": "SHOWALL",
        "groupBy": {
            "aggregateFunction": "average",
            "groupByKeys": [{"mode": "param", "groupByData": "cell"}],
        },
        "compareRunSections": [
            {
                "uuid": section,
                "name": "Means over seeds by cell",
                "display": True,
                "isReordered": False,
                "deleted": False,
                "isGenerated": False,
            }
        ],
        "compareRunCharts": [
            {"uuid": "bar", "type": "BAR", "metricKey": "test_top1", "dataAccessKey": "test_top1", **common},
            {
                "uuid": "scatter",
                "type": "SCATTER",
                "xaxis": metric("images_per_s"),
                "yaxis": metric("test_top1"),
                **common,
            },
            {
                "uuid": "line",
                "type": "LINE",
                "metricKey": "val_top1",
                "selectedMetricKeys": ["val_top1"],
                "xAxisKey": "step",
                "yAxisKey": "metric",
                "yAxisExpressions": [],
                "selectedXAxisMetricKey": "",
                "xAxisScaleType": "linear",
                "scaleType": "linear",
                "lineSmoothness": 0,
                "useGlobalLineSmoothing": True,
                "useGlobalXaxisKey": True,
                "displayPoints": None,
                "range": {},
                **common,
            },
        ],
    }


def _rows_of(grid_run: str) -> dict[str, Any]:
    return {
        "searchFilter": f"tags.`mlflow.parentRunId` = '{grid_run}' and tags.`{CURRENT}` = 'true'",
        "orderByKey": "metrics.`test_top1`",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
    }


def encode(name: str, state: dict[str, Any], timestamp: int) -> str:
    """Return the value of the tag that holds a view."""
    packed = base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()
    view = {"name": name, "createdAt": timestamp, "updatedAt": timestamp, "state": f"deflate;{packed}"}
    return json.dumps(view)


def link(base: str, experiment_id: str, key: str, as_charts: bool) -> str:
    """Return the address of a view under the UI's `base` address."""
    mode = "&compareRunsMode=CHART" if as_charts else ""
    return f"{base}/#/experiments/{experiment_id}/runs?viewStateShareKey={key}{mode}"
