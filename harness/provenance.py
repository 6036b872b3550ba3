"""What a grid is and what became of its replicates, as tables: failed, not run, shared, and every setting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from harness import wording
from harness.results import Grid


def problems(runs: pd.DataFrame) -> pd.DataFrame | None:
    """Return the replicates that did not finish, or whose solver leaves a doubt, with the reason."""
    doubtful = runs["reason"].str.contains("at the edge|did not converge", regex=True)
    odd = runs[(runs["status"] != "finished") | doubtful]
    return odd[["cell", "seed", "status", "reason"]] if len(odd) else None


def judged(plan: Mapping[str, Any]) -> pd.DataFrame | None:
    """Return the cells that are not simply valid, with the reason."""
    rows = [
        {key: j[key] for key in ("cell", "verdict", "reason")} for j in plan["judgements"] if j["verdict"] != "valid"
    ]
    return pd.DataFrame(rows) if rows else None


def shared(runs: pd.DataFrame) -> pd.DataFrame | None:
    """Return the cells whose replicates are trainings of another cell or study, which ran once."""
    cell_of = dict(zip(runs["run_id"], runs["cell"], strict=True))
    rows = runs[runs["trained_by"] != ""]
    trained = rows["trained_by"].map(cell_of).fillna("another study").rename("trained in")
    groups = rows.groupby([rows["cell"], trained], sort=False).size()
    if groups.empty:
        return None
    return groups.rename("replicates").reset_index()


def settings(grid: Grid) -> pd.DataFrame:
    """Return every setting of a study, and what software and machine ran it."""
    values = {
        **grid.plan["settings"],
        **{f"axis {axis}": levels for axis, levels in grid.plan.get("axes", {}).items()},
        wording.terms_of(grid.plan).many: wording.some([str(seed) for seed in grid.plan["seeds"]], 12),
        "tricks": "; ".join(_trick_text(label, given) for label, given in grid.plan["tricks"].items()),
        **{name: ", ".join(found) for name, found in grid.software.items()},
    }
    rows = [{"setting": name.replace("_", " "), "value": _plain(value)} for name, value in values.items()]
    return pd.DataFrame(rows)


def _trick_text(label: str, given: Mapping[str, Any]) -> str:
    parameters = _plain({key: value for key, value in given.items() if key != "trick"})
    name = label if label == given["trick"] else f"{label} = {given['trick']}"
    return f"{name} ({parameters})" if parameters else name


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        shown = {key: _plain(item) for key, item in value.items() if item not in (None, {})}
        return ", ".join(f"{key.replace('_', ' ')} {text}" for key, text in shown.items() if text)
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
