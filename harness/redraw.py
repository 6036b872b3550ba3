"""One figure of a report, drawn again from the report's tables."""

from __future__ import annotations

from pathlib import Path

from harness import sections
from harness.errors import HarnessError, unknown
from harness.report import FORMS, pictures, write_file
from harness.results import Tables, read_tables


def redraw(folder: Path, name: str, out: Path | None) -> Path:
    """Draw a figure as the report in `folder` has it, into the file `out`, whose suffix says the form; returns `out`.

    Without `out` it is a PNG here. Raises HarnessError where that cannot be.
    """
    path = out or Path(f"{name}.png")
    if path.suffix[1:] not in FORMS:
        raise HarnessError(unknown("form of a figure", path.suffix, [f".{form}" for form in FORMS]))
    tables = _read(folder)
    drawings = sections.of_tables(tables.cells, tables.effects, tables.score)
    if name not in drawings:
        if name in sections.ALT:
            raise HarnessError(f"the figure {name!r} shows more than the tables hold; `harness report SPEC` draws it")
        raise HarnessError(unknown("figure", name, drawings))
    figure = drawings[name]()
    if figure is None:
        raise HarnessError(f"the study in {folder} has nothing that the figure {name!r} could show")
    write_file(path, pictures(figure)[path.suffix[1:]])
    return path


def _read(folder: Path) -> Tables:
    try:
        return read_tables(folder)
    except OSError as error:
        raise HarnessError(f"{folder} is no report: cannot read {error.filename}: {error.strerror}") from None
