"""A report on results from elsewhere, from end to end: somebody else's table, or any experiment of the store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness.session import Reported
from harness.workspace import Workspace, find

if TYPE_CHECKING:
    from harness.foreign import Columns
    from harness.sources import Source


def report_csv(path: Path, columns: Columns, out: Path, command: str) -> Reported:
    """Report on somebody else's table; raises HarnessError where it cannot be used."""
    from harness.sources import read_csv

    return _report_foreign(read_csv(path), columns, out, command, None)


def report_experiment(name: str, where: str, columns: Columns, out: Path, command: str) -> Reported:
    """Report on any experiment in the store of the workspace around the current folder."""
    from harness.sources import read_experiment
    from harness.track import Store

    place = find(Path.cwd())
    return _report_foreign(read_experiment(Store(place), name, where), columns, out, command, place)


def _report_foreign(source: Source, columns: Columns, out: Path, command: str, place: Workspace | None) -> Reported:
    from harness.foreign import foreign_grid
    from harness.report import check_writable, write_report
    from harness.wording import terms_of

    grid = foreign_grid(source, columns)
    check_writable(out)
    cells, _ = write_report(grid, out, {}, command)
    return Reported(out, cells, {}, place, grid.score, terms_of(grid.plan).metric)
