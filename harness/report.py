"""Frames and figures to files: the only writer of `results/`."""

from __future__ import annotations

import base64
import io
import math
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, select_autoescape
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.figure import Figure

from harness import norms, plots, wording
from harness.effects import cells as cells_of
from harness.effects import effects as effects_of
from harness.errors import HarnessError
from harness.findings import coverage, findings
from harness.results import Grid

_ALT = {
    "heatmap": "Heatmap of the effect of each trick on test top-1, by freeze policy",
    "pareto": "Test top-1 against training speed, one point a cell",
    "curves": "Learning curves by policy",
    "batch_norm": "Divergence of the training images from the running statistics of each batch norm, by policy",
}


def check_writable(folder: Path) -> None:
    """Raise HarnessError where a report could not be written to `folder`; leaves nothing behind."""
    nearest = folder
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    try:
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        raise HarnessError(f"cannot write results to {folder}: {nearest}: {error.strerror}") from None


def write_report(grid: Grid, folder: Path, links: Mapping[str, str], command: str) -> pd.DataFrame:
    """Write tables, figures, report.md and report.html for a grid into `folder`; returns the frame of cells.

    Every file is replaced whole. The same runs give the same bytes.
    """
    cells, effects = cells_of(grid.runs), effects_of(grid.runs, grid.throughput)
    figures = {
        "heatmap": plots.heatmap(cells, effects),
        "pareto": plots.pareto(cells),
        "curves": plots.learning_curves(grid.curves),
    }
    files: dict[str, bytes] = {
        "runs.csv": _csv(grid.runs.drop(columns=["run_id", "trained_by"])),
        "cells.csv": _csv(cells),
        "effects.csv": _csv(effects),
    }
    diagnosed = grid.batch_norm
    if len(diagnosed):
        files["batch_norm.csv"] = _csv(diagnosed)
    if (diagnosed["layer"] != "").any():
        figures["batch_norm"] = norms.figure(diagnosed)
    for name, figure in figures.items():
        files[f"{name}.png"], files[f"{name}.svg"] = _picture(figure, "png"), _picture(figure, "svg")
    context = {
        "plan": grid.plan,
        "findings": findings(cells, effects, len(grid.plan["seeds"])),
        "coverage": coverage(grid.plan),
        "counts": _counts(grid),
        "command": command,
        "links": links,
        "norm_note": norms.NOTE,
        "norm_missing": norms.missing(diagnosed),
    }
    shown = _tables(grid, cells, effects)
    pictures = {name: {"source": _data_uri(files[f"{name}.svg"]), "alt": _ALT[name]} for name in figures}
    environment = Environment(
        loader=PackageLoader("harness"),
        autoescape=select_autoescape(["html", "html.j2"]),
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    html = {name: Markup(_html(frame)) for name, frame in shown.items()}
    markdown = {name: _markdown(frame) for name, frame in shown.items()}
    page = environment.get_template("report.html.j2").render(**context, **html, figures=pictures)
    text = environment.get_template("report.md.j2").render(**context, **markdown, figures=pictures)
    files |= {"report.html": page.encode(), "report.md": text.encode()}
    _write(folder, files)
    return cells


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            draft = folder / f".{name}.part"
            draft.write_bytes(content)
            os.replace(draft, folder / name)
    except OSError as error:
        raise HarnessError(f"cannot write results to {folder}: {error.strerror}") from None


def _counts(grid: Grid) -> str:
    counts = grid.runs["status"].value_counts()
    shared = int((grid.runs["trained_by"] != "").sum())
    parts = [f"{counts[status]} {status}" for status in counts.index]
    text = f"{len(grid.runs)} replicates planned in {grid.runs['cell'].nunique()} cells: {', '.join(parts)}"
    text += f"; {shared} of them share the training of another." if shared else "."
    for what in ("device", "host"):
        found = grid.software.get(what, [])
        if len(found) > 1:
            text += f" They come from {len(found)} {what}s ({', '.join(found)}), so a pair may mix two."
    return text


def _tables(grid: Grid, cells: pd.DataFrame, effects: pd.DataFrame) -> dict[str, pd.DataFrame | None]:
    return {
        "effects_table": _effects_table(effects, cells["policy"].iloc[0]),
        "cells_table": _cells_table(cells),
        "norms_table": norms.table(grid.batch_norm, cells) if len(grid.batch_norm) else None,
        "problems": _problems(grid.runs),
        "judged": _judged(grid.plan),
        "settings": _settings(grid),
    }


def _effects_table(effects: pd.DataFrame, first: str) -> pd.DataFrame:
    top = effects[effects["metric"] == "test_top1"].to_dict("records")
    speed = {
        (row["policy"], row["trick"]): row for row in effects[effects["metric"] == "images_per_s"].to_dict("records")
    }
    nothing = {"estimate": math.nan, "low": math.nan, "high": math.nan}
    rows = []
    for row in top:
        rate = speed.get((row["policy"], row["trick"]), nothing)
        rows.append(
            {
                "policy": row["policy"],
                "trick": row["trick"] or f"none: against {first}",
                "points of top-1": wording.points(row["estimate"]),
                "95 % interval": wording.points_between(row["low"], row["high"]),
                "n": row["n"],
                "speed": wording.ratio(rate["estimate"]),
                "95 % interval of speed": wording.ratio_between(rate["low"], rate["high"]),
            }
        )
    return pd.DataFrame(rows)


def _cells_table(cells: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "policy": row["policy"],
            "tricks": wording.trick_set(row["cell"]),
            "test top-1, %": wording.mean_sd(row["test_top1_mean"], row["test_top1_sd"]),
            "finished": f"{row['n']} of {row['n'] + row['failed'] + row['diverged'] + row['missing']}",
            "images per s": wording.number(row["images_per_s"], ",.0f"),
            "training, s": wording.number(row["train_s"], ".2f"),
            "peak memory, MiB": wording.number(row["peak_memory_bytes"] / 2**20, ".1f"),
            "trainable parameters": wording.number(row["trainable_params"], ",.0f"),
        }
        for row in cells.to_dict("records")
    )


def _problems(runs: pd.DataFrame) -> pd.DataFrame | None:
    odd = runs[runs["status"] != "finished"]
    return odd[["cell", "seed", "status", "reason"]] if len(odd) else None


def _judged(plan: Mapping[str, Any]) -> pd.DataFrame | None:
    rows = [
        {key: j[key] for key in ("cell", "verdict", "reason")} for j in plan["judgements"] if j["verdict"] != "valid"
    ]
    return pd.DataFrame(rows) if rows else None


def _settings(grid: Grid) -> pd.DataFrame:
    values = {
        **grid.plan["settings"],
        "seeds": ", ".join(map(str, grid.plan["seeds"])),
        "tricks": "; ".join(_trick_text(label, given) for label, given in grid.plan["tricks"].items()),
        **{name: ", ".join(found) for name, found in grid.software.items()},
    }
    rows = [{"setting": name.replace("_", " "), "value": _plain(value)} for name, value in values.items()]
    return pd.DataFrame(rows)


def _trick_text(label: str, given: Mapping[str, Any]) -> str:
    parameters = ", ".join(f"{key} {value:g}" for key, value in given.items() if key != "trick")
    name = label if label == given["trick"] else f"{label} = {given['trick']}"
    return f"{name} ({parameters})" if parameters else name


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key.replace('_', ' ')} {_plain(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value)


def _csv(frame: pd.DataFrame) -> bytes:
    return frame.to_csv(index=False, lineterminator="\n").encode()


def _picture(figure: Figure, form: str) -> bytes:
    content = io.BytesIO()
    with rc_context(plots.STYLE):
        figure.savefig(content, format=form, metadata={"Date": None} if form == "svg" else None)
    return content.getvalue()


def _data_uri(svg: bytes) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"


def _html(frame: pd.DataFrame | None) -> str:
    return "" if frame is None else frame.to_html(index=False, border=0, justify="inherit")


def _markdown(frame: pd.DataFrame | None) -> str:
    if frame is None:
        return ""
    rows = [list(frame.columns), ["---"] * len(frame.columns), *frame.astype(str).to_numpy().tolist()]
    return "\n".join(
        "| " + " | ".join(" ".join(cell.replace("|", "\\|").split()) for cell in row) + " |" for row in rows
    )
