"""Frames and figures to files: the only writer of `results/`."""

from __future__ import annotations

import base64
import io
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from jinja2 import Environment, PackageLoader, select_autoescape
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.figure import Figure

from harness import norms, plots, tables
from harness.effects import cells as cells_of
from harness.effects import effects as effects_of
from harness.errors import HarnessError
from harness.findings import coverage, findings
from harness.results import Grid

_ALT = {
    "heatmap": "Heatmap of the effect of each trick on test top-1, by freeze policy",
    "pareto": "Test top-1 against training speed, one point a cell",
    "curves": "Learning curves by policy",
    "scenarios": "Test top-1 without tricks, by policy and scenario",
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
    drawn = {
        "scenarios": plots.scenarios(cells),
        "heatmap": plots.heatmap(cells, effects),
        "pareto": plots.pareto(cells),
        "curves": plots.learning_curves(grid.curves),
    }
    figures = {name: figure for name, figure in drawn.items() if figure is not None}
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
    shown = tables.of_grid(grid, cells, effects)
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
