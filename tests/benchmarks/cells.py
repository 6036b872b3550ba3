"""Cells per hour: the harness against what a user would pick instead, on the same cells with the same metrics.

    python -m tests.benchmarks.cells FOLDER [--scale S] [--rounds N] [--peers a,b,…] [--grids a,b]

Every row begins cold, in a folder of its own: importing, decoding and the first use of a tracking store count, and so
does the report that the harness writes, which is told apart. Rounds are interleaved, each in another order.
`cells_per_hour.csv` in FOLDER is written anew after every measurement. Before the first round the plain path runs once
with its weights kept; the gate compares every row with it.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import pandas as pd

from tests.benchmarks.gate import judge
from tests.benchmarks.grids import GRIDS, SCALES, Grid, Scale, prepare
from tests.benchmarks.peers import common
from tests.benchmarks.process import Measured, measure
from tests.benchmarks.rows import PLAIN_PATH, QUIET, ROWS, Absent, Row, harness, interpreter, versions

TOLERANCE = 0.02
"""How far weights may be from those of the plain path, relative to how far these moved.

With one thread peers have its bits; two threads are 0.001 away after 8 steps of `full` at five times the rate, where a
training without label smoothing is 0.23 away.
"""
TIMEOUT_S = 4 * 3600
COLUMNS = (
    "grid",
    "row",
    "variant",
    "replicates",
    "rounds",
    "wall_s",
    "wall_s_min",
    "wall_s_max",
    "report_s",
    "cells_per_hour",
    "ours_is_times",
    "peak_pss_mib",
    "gate",
    "versions",
    "images",
    "scale",
    "machine",
    "load_before",
)


@dataclass
class Found:
    """What was measured of one row on one grid."""

    wall_s: list[float] = field(default_factory=list)
    peak_mib: list[float] = field(default_factory=list)
    load: list[float] = field(default_factory=list)
    report_s: float | None = None
    gate: str = ""
    versions: str = ""

    @property
    def counts(self) -> bool:
        """Whether its time may be compared."""
        return bool(self.wall_s) and not self.gate.startswith(("void", "absent"))


@dataclass
class Comparison:
    """Rows on grids, measured into one folder."""

    folder: Path
    scale_name: str
    scale: Scale
    grids: dict[str, Grid]
    rows: list[Row]
    tolerance: float = TOLERANCE
    found: dict[tuple[str, str], Found] = field(default_factory=lambda: defaultdict(Found))

    def run(self, rounds: int) -> pd.DataFrame:
        """Measure everything `rounds` times; returns the table."""
        for name, grid in self.grids.items():
            self._reference(prepare(self.folder, name, grid, self.scale))
        for number in range(rounds):
            start = number * len(self.rows) // rounds
            for name in self.grids:
                for row in self.rows[start:] + self.rows[:start]:
                    self._measure(name, row)
                    table = self.table()
                    table.to_csv(self.folder / "cells_per_hour.csv", index=False)
        return table

    def _reference(self, grid: Path) -> None:
        """Run the plain path, which shares nothing, and keep the weights of all its trainings."""
        out = workspace(grid, "reference")
        row = Row("reference", "", harness(*PLAIN_PATH, "--set", "keep_weights=true"), ours=True)
        made = self._started(row, grid, out)
        if made.status:
            raise RuntimeError(f"the plain path failed on {grid.name}: {made.last_line}; see {made.log}")

    def _measure(self, name: str, row: Row) -> None:
        grid, found = self.folder / name, self.found[name, row.label]
        if found.gate.startswith(("void", "absent")):
            return
        out = workspace(grid, row.label)
        found.load.append(os.getloadavg()[0])
        try:
            made = self._started(row, grid, out)
        except Absent as absent:
            found.gate = f"absent: {absent}"
            return
        found.versions = found.versions or versions(row.packages, self._python(row))
        found.wall_s.append(made.wall_s)
        found.peak_mib.append(made.peak_mib)
        if made.status:
            found.gate = f"void: it failed: {made.last_line}"
            return
        found.gate = judge(common.read(grid / "work.json"), grid / "reference", out, row.ours, self.tolerance)
        if row.ours and found.report_s is None:
            again = Row(row.name, row.variant, lambda place, at: ["harness", "report", *harness()(place, at)[2:]])
            found.report_s = self._started(again, grid, out).wall_s

    def _started(self, row: Row, grid: Path, out: Path) -> Measured:
        command = [self._python(row), "-m", *row.arguments(grid, out)]
        log = grid / f"{out.name}.log"
        return measure(command, out, log, {**QUIET, **row.variables}, TIMEOUT_S)

    def _python(self, row: Row) -> Path:
        return interpreter(row.environment, self.folder / "environments")

    def table(self) -> pd.DataFrame:
        """Return what was measured so far; a row that is void or absent has no rate."""
        rows = [self._row(name, row) for name in self.grids for row in self.rows if (name, row.label) in self.found]
        return pd.DataFrame(rows, columns=list(COLUMNS))

    def _row(self, name: str, row: Row) -> dict[str, object]:
        found = self.found[name, row.label]
        cells = len(common.read(self.folder / name / "work.json").cells)
        ours = self.found.get((name, self.rows[0].label))
        compared = found.counts and ours is not None and ours.counts
        return {
            "grid": name,
            "row": row.name,
            "variant": row.variant,
            "replicates": cells,
            "rounds": len(found.wall_s),
            "wall_s": median(found.wall_s) if found.wall_s else None,
            "wall_s_min": min(found.wall_s, default=None),
            "wall_s_max": max(found.wall_s, default=None),
            "report_s": found.report_s,
            "cells_per_hour": 3600 * cells / median(found.wall_s) if found.counts else None,
            "ours_is_times": median(found.wall_s) / median(ours.wall_s) if compared and ours else None,
            "peak_pss_mib": max(found.peak_mib, default=None),
            "gate": found.gate,
            "versions": found.versions,
            "images": (self.folder / "images.txt").read_text(),
            "scale": f"{self.scale_name}: {self.scale}",
            "machine": machine(),
            "load_before": max(found.load, default=None),
        }


def workspace(grid: Path, name: str) -> Path:
    """Return an empty folder for a row, with the grid's spec in it."""
    place = grid / name
    shutil.rmtree(place, ignore_errors=True)
    (place / "experiments").mkdir(parents=True)
    shutil.copy(grid / "spec.yaml", place / "experiments" / f"{grid.name}.yaml")
    return place


def machine() -> str:
    """Return the processor and how many of its cores there are."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return f"{model or platform.machine()}, {os.cpu_count()} cores"


def chosen(rows: Iterable[Row], names: str | None) -> list[Row]:
    """Return the rows of the harness and of the peers in a list of names; None takes all."""
    wanted = names.split(",") if names is not None else None
    return [row for row in rows if row.ours or wanted is None or row.name in wanted]


def main() -> None:
    """Measure what the command line asks for, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.cells")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scale", choices=SCALES, default="minutes")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--peers", help="of plain, lightning, timm, ray and composer; all by default")
    parser.add_argument("--grids", default=",".join(GRIDS))
    given = parser.parse_args()
    grids = {name: GRIDS[name] for name in given.grids.split(",")}
    rows = chosen(ROWS, given.peers)
    comparison = Comparison(given.folder.resolve(), given.scale, SCALES[given.scale], grids, rows)
    print(comparison.run(given.rounds).drop(columns=["machine", "scale"]).to_string(index=False))


if __name__ == "__main__":
    main()
