"""Prepared views of the MLflow UI: which runs, columns, charts and grouping a grid opens with.

A shared view is an experiment tag that the UI reads. The format is no documented interface: it was learnt by saving a
view by hand and reading the tag, so whoever writes these tags must be ready to do without them.
"""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.tasks.metrics import Metric, score_of, task_planned

CURRENT = "harness.current"
"""Tag of the runs that count; `false` once other data, weights or versions took a run's place."""
TAG = "mlflow.sharedViewState."
TAG_LIMIT = 5000
"""Characters that an experiment tag holds in every version of mlflow that has such views."""
KNOWN = ((3, 15), (3, 17))
"""First and last version of mlflow whose format is known; the browser test opens the last."""
MOST = 30
"""Prepared views of an experiment: from 40 on, mlflow's page lets nobody save a view of their own."""
PAGE = 100
"""Runs that the page loads, and so the runs that its means are taken over."""
OVERVIEWS = ("Leaderboard", "Parallel coordinates", "Charts by cell")
"""Names of the links to the views of a whole grid."""
OWN_PAGE = "Findings, artifacts"
"""Name of the link to the page of a grid's own run."""
_KEY = re.compile(r"harness-(leaderboard|charts|policy|trick)-(?P<grid>[0-9a-f]{8})(-\d+)?")
TRAINING = "workflowType=machine_learning"
"""Asks for the pages of training runs: those for language models, which the UI shows else, lack a run's description."""
_CHARTS = "&compareRunsMode=CHART"
_METRICS = ("images_per_s", "train_s", "peak_memory_bytes", "trainable_params")
_SECTION = "harness-section"


@dataclass(frozen=True)
class _Cells:
    """The cells that a view shows, and what asks for them."""

    title: str
    cells: Sequence[Mapping[str, Any]]
    params: Mapping[str, str]
    """Params of their runs and of no others of the grid."""


def known(version: str) -> bool:
    """Whether the format of views is known of this version of mlflow."""
    found = re.match(r"(\d+)\.(\d+)", version)
    return found is not None and KNOWN[0] <= (int(found[1]), int(found[2])) <= KNOWN[1]


def tags(grid_run: str, plan: Mapping[str, Any], started: int) -> dict[str, str]:
    """Return the experiment tags that save the views of a grid; `plan` as `summary.summarise` has it.

    They depend on nothing else, so saving them again changes nothing. Policies have one each where those of all fit
    into MOST, then tricks likewise. The menu of the UI lists the latest first: those of the grid that `started` last
    (in ms), in the order given here. A view too long for a tag is left out.
    """
    grid, every = grid_run[:8], _Cells("Means over seeds by cell", plan["cells"], {})
    found = {
        f"leaderboard-{grid}": ("Leaderboard", leaderboard(grid_run, plan)),
        f"charts-{grid}": ("Charts by cell", charts(grid_run, plan, every)),
    }
    for kind, chosen in (("policy", [*_by_policy(plan)]), ("trick", [*_by_trick(plan)])):
        if len(chosen) > 1 and len(found) + len(chosen) <= MOST:
            found |= {
                f"{kind}-{grid}-{number}": (f"{kind.capitalize()} {name}", charts(grid_run, plan, cells))
                for number, (name, cells) in enumerate(chosen, 1)
            }
    values = {
        f"{TAG}harness-{key}": encode(f"{name} ({grid})", state, started + len(found) - place)
        for place, (key, (name, state)) in enumerate(found.items())
    }
    return {key: value for key, value in values.items() if len(value) <= TAG_LIMIT}


def outdated(saved: Mapping[str, str], grid_run: str, ours: Collection[str]) -> list[str]:
    """Return which of an experiment's `saved` tags are to go once it has `ours`, those of a grid.

    That is any other that this grid had, and, where all grids of the study together have more than MOST, those of the
    grids that began first. What people saved themselves is never among them.
    """
    prepared = _prepared(saved)
    own = [key for key, grid in prepared.items() if grid == grid_run[:8] and key not in ours]
    others = [key for key, grid in prepared.items() if grid != grid_run[:8]]
    # The views of whole grids stay longest; those of one grid are a few ms apart.
    others.sort(key=lambda key: ("-policy-" not in key and "-trick-" not in key, _read(saved[key]).get("createdAt", 0)))
    return own + others[: max(0, len(others) + len(ours) - MOST)]


def links(saved: Mapping[str, str], experiment_id: str, grid_run: str) -> dict[str, str]:
    """Return name to address, within the UI, of those views of a grid that its experiment has, in the menu's order."""
    own = {key: _read(saved[key]) for key, grid in _prepared(saved).items() if grid == grid_run[:8]}
    result = {}
    for key in sorted(own, key=lambda key: -own[key].get("createdAt", 0)):
        at = f"#/experiments/{experiment_id}/runs?viewStateShareKey={key.removeprefix(TAG)}&{TRAINING}"
        name = str(own[key].get("name", "")).removesuffix(f" ({grid_run[:8]})")
        result[name] = at if name == "Leaderboard" else at + _CHARTS
        if name == "Leaderboard":
            result["Parallel coordinates"] = at + _CHARTS
    return result


def _prepared(saved: Iterable[str]) -> dict[str, str]:
    """Return those tags that hold prepared views, each with the grid that it is of."""
    found = {key: _KEY.fullmatch(key.removeprefix(TAG)) for key in saved if key.startswith(TAG)}
    return {key: match["grid"] for key, match in found.items() if match}


def leaderboard(grid_run: str, plan: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state of a table of replicates, best score on test first; as charts, they are parallel coordinates."""
    params, score = ("policy", *plan["axes"], *plan["tricks"]), score_of(task_planned(plan))
    return {
        **_rows_of(grid_run, {}, f"metrics.`{score.test}`"),
        **_columns(score, (*params, "seed")),
        "groupBy": None,
        **_section(
            "Every replicate" if len(plan["cells"]) * len(plan["seeds"]) <= PAGE else f"The best {PAGE} replicates",
            [
                {
                    "type": "PARALLEL",
                    "selectedParams": [*params],
                    "selectedMetrics": ["images_per_s", score.test],
                    "showAllRuns": True,
                },
                _scatter("images_per_s", score),
            ],
            columns=1,  # lines across many axes need the whole width
        ),
    }


def charts(grid_run: str, plan: Mapping[str, Any], shown: _Cells) -> dict[str, Any]:
    """Return the state of charts grouped by cell: the score, the score against speed and memory, validation curves.

    The page takes means over the runs that it has loaded, and bars in their order. The best come first, but where it
    loads some only: there they come by cell, so that means are over all seeds, but for the last cell's.
    """
    runs, score = len(shown.cells) * len(plan["seeds"]), score_of(task_planned(plan))
    title = shown.title if runs <= PAGE else f"{shown.title} ({PAGE} of {runs} runs; more at the list's end)"
    return {
        **_rows_of(grid_run, shown.params, f"metrics.`{score.test}`" if runs <= PAGE else "params.`cell`"),
        **_columns(score, ()),
        "groupBy": {"aggregateFunction": "average", "groupByKeys": [{"mode": "param", "groupByData": "cell"}]},
        "groupsExpanded": {f"param.cell.{cell['cell']}": False for cell in shown.cells[:PAGE]},
        **_section(
            title,
            [
                {"type": "BAR", "metricKey": score.test, "dataAccessKey": score.test},
                _scatter("images_per_s", score),
                _curves(score.val),
                _scatter("peak_memory_bytes", score),
            ],
        ),
    }


def _by_policy(plan: Mapping[str, Any]) -> Iterator[tuple[str, _Cells]]:
    for policy in plan["policies"]:
        cells = [cell for cell in plan["cells"] if cell["policy"] == policy]
        if cells:
            yield policy, _Cells(f"{policy}: means over seeds by trick set", cells, {"policy": policy})


def _by_trick(plan: Mapping[str, Any]) -> Iterator[tuple[str, _Cells]]:
    """Yield each trick with the cells that differ by it alone, so that their means may be compared.

    These are the trick alone beside none or, where no design has it alone, all beside all but it.
    """
    for trick in plan["tricks"]:
        others = [label for label in plan["tricks"] if label != trick]
        for on, said in ((False, "alone and without any"), (True, "with all others, and these alone")):
            base = set(others) if on else set()
            cells = [cell for cell in plan["cells"] if {*cell["tricks"]} - {trick} == base]
            if {trick in cell["tricks"] for cell in cells} == {True, False}:
                yield trick, _Cells(f"{trick} {said}, means over seeds", cells, {label: str(on) for label in others})
                break


def _columns(score: Metric, params: Iterable[str]) -> dict[str, Any]:
    """Return the columns of the table: names in full, the final metrics, then `params`, of which there may be many."""
    metrics = (score.test, score.val, *_METRICS)
    chosen = [*(f"metrics.`{name}`" for name in metrics), *(f"params.`{name}`" for name in params)]
    name = "attributes.`Run Name`"
    return {"selectedColumns": chosen, "columnOrder": [name, *chosen], "columnWidths": {name: 320}}


def _section(title: str, cards: Sequence[Mapping[str, Any]], columns: int = 2) -> dict[str, Any]:
    """Return the charts of a view, all runs in them, in one section."""
    common = {"metricSectionId": _SECTION, "runsCountToCompare": 100, "deleted": False, "isGenerated": False}
    section = {"uuid": _SECTION, "name": title, "display": True, "isReordered": False, "deleted": False}
    return {
        "runsHiddenMode": "SHOW_ALL",
        "compareRunSections": [{**section, "isGenerated": False, "columns": columns, "cardHeight": 400}],
        "compareRunCharts": [{"uuid": f"harness-{i}", **card, **common} for i, card in enumerate(cards)],
    }


def _scatter(cost: str, score: Metric) -> dict[str, Any]:
    x, y = ({"key": key, "type": "METRIC", "dataAccessKey": key} for key in (cost, score.test))
    return {"type": "SCATTER", "xaxis": x, "yaxis": y}


def _curves(metric: str) -> dict[str, Any]:
    return {
        "type": "LINE",
        "metricKey": metric,
        "selectedMetricKeys": [metric],
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
    }


def _rows_of(grid_run: str, params: Mapping[str, str], order: str) -> dict[str, Any]:
    wanted = {"tags.`mlflow.parentRunId`": grid_run, f"tags.`{CURRENT}`": "true"}
    wanted |= {f"params.`{name}`": value for name, value in params.items()}
    return {
        "searchFilter": " and ".join(f"{key} = {_quoted(value)}" for key, value in wanted.items()),
        "orderByKey": order,
        "orderByAsc": order.startswith("params"),
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
    }


def _quoted(value: str) -> str:
    return f'"{value}"' if "'" in value else f"'{value}'"


def encode(name: str, state: Mapping[str, Any], timestamp: int) -> str:
    """Return the value of the tag that holds a view."""
    packed = base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()
    view = {"name": name, "createdAt": timestamp, "updatedAt": timestamp, "state": f"deflate;{packed}"}
    return json.dumps(view)


def _read(value: str) -> dict[str, Any]:
    """Return what the tag of a view says but the state; nothing where it is none."""
    try:
        view = json.loads(value)
    except ValueError:
        return {}
    return view if isinstance(view, dict) else {}
