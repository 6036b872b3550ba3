"""Frames and figures to files: the only writer of `results/`."""

from __future__ import annotations

import base64
import io
import os
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, select_autoescape
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.text import Text

from harness import plots, sections, tables
from harness.compare import Comparison, table, words
from harness.effects import cells as cells_of
from harness.effects import effects as effects_of
from harness.errors import HarnessError
from harness.findings import findings
from harness.pooling import over_data
from harness.results import Grid
from harness.tasks.metrics import TOP1, task_planned
from harness.wording import Terms, count, terms_of

FORMS: dict[str, Any] = {"png": None, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
"""Forms of a figure, each with what leaves out its date."""
_ALWAYS = ("runs", "cells", "effects")
"""Tables that have a file even where they are empty."""
_PRINTED = ("primary", "effects", "shapley", "interactions", "data_sets", "cells", "rates", "norms")
"""Tables that have a LaTeX file, for a paper."""
_EVER = {
    *(f"figures/{name}.{form}" for name in sections.ALT for form in FORMS),
    *(f"tables/{name}.tex" for name in _PRINTED),
    *(f"{name}.csv" for name in ("data_sets", "batch_norm")),
}
"""Files that a report may have and need not."""
_LONG = 24
"""Rows from which a table is folded on the page."""


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


def write_report(grid: Grid, folder: Path, links: Mapping[str, str], command: str) -> tuple[pd.DataFrame, list[str]]:
    """Write tables, figures, report.md and report.html for a grid into `folder`.

    Returns the frame of cells, and the names of the files.

    Every file is replaced whole, and one that an earlier report wrote and this one does not have is removed. The same
    runs give the same bytes.
    """
    score = grid.score
    cells, effects = cells_of(grid.runs, grid.throughput, task_planned(grid.plan)), effects_of(grid)
    data_sets = over_data(grid.runs, np.random.default_rng(0), score.test)
    terms = terms_of(grid.plan)
    made = tables.of_grid(grid, cells, effects, data_sets)
    shown = {name: table.rename(columns=terms.said) for name, table in made.items()}
    frames = {
        "runs": grid.runs.drop(columns=["run_id", "trained_by"]),
        "cells": cells,
        "effects": effects,
        "data_sets": data_sets,
        "batch_norm": grid.batch_norm,
    }
    kept = {name: frame for name, frame in frames.items() if len(frame) or name in _ALWAYS}
    files = {f"{name}.csv": _csv(_measured(frame, terms)) for name, frame in kept.items()}
    figures = sections.figures(grid, cells, effects)
    for name, figure in figures.items():
        for artist in figure.findobj(Text):
            artist.set_text(terms.said(artist.get_text()))
        files |= {f"figures/{name}.{form}": content for form, content in pictures(figure).items()}
    files |= {f"tables/{name}.tex": latex(frame).encode() for name, frame in shown.items() if name in _PRINTED}
    context = {
        "plan": grid.plan,
        "findings": [
            terms.said(text)
            for text in findings(
                cells, effects, len(grid.plan["seeds"]), grid.family, grid.plan.get("tuning", {}), score
            )
        ],
        "counts": _counts(grid),
        "command": command,
        "links": links,
        "sections": [
            replace(section, title=terms.said(section.title), note=terms.said(section.note))
            for section in sections.of_grid(grid)
            if section.empty or any(name in figures or name in shown for name in (*section.figures, *section.tables))
        ],
        "alt": {name: terms.said(text.format(score=score.label)) for name, text in sections.ALT.items()},
        "csv": [name for name in files if name.endswith(".csv")],
    }
    shown_as = {name: _data_uri(files[f"figures/{name}.svg"]) for name in figures}
    html = {name: Markup(_html(frame)) for name, frame in shown.items()}
    markdown = {name: _markdown(frame) for name, frame in shown.items()}
    long = {name for name, frame in shown.items() if len(frame) > _LONG}
    environment = Environment(
        loader=PackageLoader("harness"),
        autoescape=select_autoescape(["html", "html.j2"]),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    page = environment.get_template("report.html.j2").render(**context, figures=shown_as, tables=html, long=long)
    text = environment.get_template("report.md.j2").render(**context, figures=shown_as, tables=markdown)
    files |= {"report.html": page.encode(), "report.md": text.encode()}
    _write(folder, files, _EVER)
    return cells, list(files)


def write_comparison(comparison: Comparison, folder: Path) -> None:
    """Write what differs between two studies into `folder`, as compare.csv and compare.md."""
    said = [f"# {comparison.b} against {comparison.a}", f"A is {comparison.a}, B is {comparison.b}."]
    said += [_markdown(table(comparison)), *(f"- {sentence}" for sentence in words(comparison))]
    _write(folder, {"compare.csv": _csv(comparison.differences), "compare.md": ("\n\n".join(said) + "\n").encode()})


def write_file(path: Path, content: bytes) -> None:
    """Write one file whole; raises HarnessError where that fails."""
    _write(path.parent, {path.name: content})


def _write(folder: Path, files: Mapping[str, bytes], ever: Collection[str] = frozenset()) -> None:
    """Write files whole, and remove those of `ever` that are not among them."""
    try:
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            draft = path.with_name(f".{path.name}.part")
            draft.write_bytes(content)
            os.replace(draft, path)
        for name in set(ever) - set(files):
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise HarnessError(f"cannot write results to {folder}: {error.strerror}") from None


def _counts(grid: Grid) -> str:
    counts = grid.runs["status"].value_counts()
    shared = int((grid.runs["trained_by"] != "").sum())
    parts = [f"{counts[status]} {status}" for status in counts.index]
    planned, cells = count(len(grid.runs), "replicate"), count(grid.runs["cell"].nunique(), "cell")
    text = f"{planned} planned in {cells}: {', '.join(parts)}"
    text += f"; {shared} of them share the training of another." if shared else "."
    for what in ("device", "host"):
        found = grid.software.get(what, [])
        if len(found) > 1:
            text += f" They come from {len(found)} {what}s ({', '.join(found)}), so a pair may mix two."
    return text


def _measured(frame: pd.DataFrame, terms: Terms) -> pd.DataFrame:
    """Return a frame with the metric under its own name, where that is not the harness' own."""
    if terms.metric == Terms().metric:
        return frame
    renamed = frame.rename(columns=lambda name: name.replace(TOP1.test, terms.metric))
    return renamed.replace({"metric": {TOP1.test: terms.metric}}) if "metric" in frame else renamed


def _csv(frame: pd.DataFrame) -> bytes:
    return frame.to_csv(index=False, lineterminator="\n").encode()


def pictures(figure: Figure) -> dict[str, bytes]:
    """Return a figure in every form, without a date: the same figure gives the same bytes."""
    files = {}
    with rc_context(plots.STYLE):
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # laid out once: that takes longer than drawing
        for form, metadata in FORMS.items():
            content = io.BytesIO()
            figure.savefig(content, format=form, metadata=metadata)
            files[form] = content.getvalue()
    return files


def _data_uri(svg: bytes) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"


def _html(frame: pd.DataFrame) -> str:
    return frame.to_html(index=False, border=0, justify="inherit")


def _markdown(frame: pd.DataFrame) -> str:
    rows = [list(frame.columns), ["---"] * len(frame.columns), *frame.astype(str).to_numpy().tolist()]
    return "\n".join(
        "| " + " | ".join(" ".join(cell.replace("|", "\\|").split()) for cell in row) + " |" for row in rows
    )


def latex(frame: pd.DataFrame) -> str:
    """Return a table for LaTeX with the package booktabs; signs that LaTeX lacks are written as mathematics."""
    text = frame.to_latex(index=False, escape=True)
    return reduce(lambda result, sign: result.replace(*sign), _SIGNS.items(), text)


_SIGNS = {"−": "$-$", "±": "$\\pm$", "×": "$\\times$", "≥": "$\\geq$", "–": "--", "γ": "$\\gamma$"}
