"""Cells per hour: the harness against what a user would pick instead, on the same cells with the same metrics.

    python -m tests.benchmarks.cells FOLDER [--scale S] [--rounds N] [--peers a,b,…] [--variants a,b] [--grids a,b]

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
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from harness.versions import version_mark
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
    "ours_is_times_min",
    "ours_is_times_max",
    "peak_pss_mib",
    "gate",
    "versions",
    "images",
    "scale",
    "machine",
    "load_before",
)
"""Of the table."""
VOID, ABSENT = "void", "absent"
FILE = "cells.csv"


@dataclass
class Comparison:
    """Rows on grids, measured into one folder."""

    folder: Path
    scale_name: str
    scale: Scale
    grids: dict[str, Grid]
    rows: list[Row]
    tolerance: float = TOLERANCE
    sitting: str = field(default_factory=lambda: datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))

    def run(self, rounds: int) -> pd.DataFrame:
        """Measure everything `rounds` times beside what earlier sittings kept; returns the table of all."""
        for name, grid in self.grids.items():
            self._reference(prepare(self.folder, name, grid, self.scale))
        failed = set[tuple[str, str]]()
        for number in range(rounds):
            start = number * len(self.rows) // rounds
            for name in self.grids:
                for row in self.rows[start:] + self.rows[:start]:
                    if (name, row.label) in failed:
                        continue
                    made = self._measure(name, row, number)
                    table = self._keep(made)
                    if made["gate"].startswith((VOID, ABSENT)):
                        failed.add((name, row.label))
        return table

    def _keep(self, made: dict[str, Any]) -> pd.DataFrame:
        """Add a measurement to those of the folder, and write the table anew."""
        path = self.folder / FILE
        kept = [pd.read_csv(path)] if path.exists() else []
        every = pd.concat([*kept, pd.DataFrame([made])], ignore_index=True)
        every.to_csv(path, index=False)
        table = summary(every)
        table.to_csv(self.folder / "cells_per_hour.csv", index=False)
        return table

    def _reference(self, grid: Path) -> None:
        """Run the plain path, which shares nothing, and keep the weights of all its trainings; once for a spec."""
        whole = grid / "reference" / "whole"
        about = (grid / "spec.yaml").read_text() + version_mark()
        if whole.exists() and whole.read_text() == about:
            return
        out = workspace(grid, "reference")
        row = Row("reference", "", harness(*PLAIN_PATH, "--set", "keep_weights=true"), ours=True)
        made = self._started(row, grid, out)
        if made.status:
            raise RuntimeError(f"the plain path failed on {grid.name}: {made.last_line}; see {made.log}")
        whole.write_text(about)

    def _measure(self, name: str, row: Row, number: int) -> dict[str, Any]:
        """Return one measurement; without seconds where the row has no environment."""
        grid = self.folder / name
        out, work = workspace(grid, row.label), common.read(grid / "work.json")
        about = {
            "sitting": self.sitting,
            "round": number,
            "grid": name,
            "row": row.name,
            "variant": row.variant,
            "ours": row.ours,
            "replicates": len(work.cells),
            "images": (self.folder / "images.txt").read_text(),
            "scale": f"{self.scale_name}: {self.scale}",
            "machine": machine(),
            "load_before": round(os.getloadavg()[0], 2),
        }
        try:
            made = self._started(row, grid, out)
        except Absent as absent:
            return {**about, "gate": f"{ABSENT}: {absent}"}
        about |= {"wall_s": round(made.wall_s, 2), "peak_pss_mib": round(made.peak_mib)}
        about["versions"] = versions(row.packages, self._python(row))
        if made.status:
            return {**about, "gate": f"{VOID}: it failed: {made.last_line}"}
        about["gate"] = judge(work, grid / "reference", out, row.ours, self.tolerance)
        if row.ours:
            again = Row(row.name, row.variant, lambda place, at: ["harness", "report", *harness()(place, at)[2:]])
            about["report_s"] = round(self._started(again, grid, out).wall_s, 2)
        return about

    def _started(self, row: Row, grid: Path, out: Path) -> Measured:
        command = [self._python(row), "-m", *row.arguments(grid, out)]
        log = grid / f"{out.name}.log"
        return measure(command, out, log, {**QUIET, **row.variables}, TIMEOUT_S)

    def _python(self, row: Row) -> Path:
        return interpreter(row.environment, self.folder / "environments")


def summary(every: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each row of each grid and scale over all its measurements; a void or absent one has no rate.

    Ratios are to the first row of the harness in the same round of the same sitting, and the median of those stands:
    two sittings may have had another machine.
    """
    every = every.reindex(columns=[*dict.fromkeys((*every.columns, "wall_s", "peak_pss_mib", "report_s", "versions"))])
    at = ["scale", "grid", "sitting", "round"]
    counts = ~every["gate"].str.startswith((VOID, ABSENT))
    ours = every[every["ours"] & counts].drop_duplicates(at).set_index(at)["wall_s"].rename("our_s")
    every = every.join(ours, on=at)
    every["times"] = (every["wall_s"] / every["our_s"]).where(counts)
    rows = []
    for (scale, grid, row, variant), one in every.groupby(["scale", "grid", "row", "variant"], sort=False):
        bad = one[one["gate"].str.startswith((VOID, ABSENT))]
        last, wall, times = one.iloc[-1], one["wall_s"], one["times"]
        rows.append(
            {
                "grid": grid,
                "row": row,
                "variant": variant,
                "replicates": last["replicates"],
                "rounds": len(one),
                "wall_s": wall.median(),
                "wall_s_min": wall.min(),
                "wall_s_max": wall.max(),
                "report_s": one["report_s"].median(),
                "cells_per_hour": None if len(bad) else round(3600 * last["replicates"] / wall.median(), 1),
                "ours_is_times": None if len(bad) else round(times.median(), 3),
                "ours_is_times_min": None if len(bad) else round(times.min(), 3),
                "ours_is_times_max": None if len(bad) else round(times.max(), 3),
                "peak_pss_mib": one["peak_pss_mib"].max(),
                "gate": (bad if len(bad) else one)["gate"].iloc[-1],
                "versions": last["versions"],
                "images": last["images"],
                "scale": scale,
                "machine": last["machine"],
                "load_before": one["load_before"].max(),
            }
        )
    return pd.DataFrame(rows, columns=list(COLUMNS))


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


def chosen(rows: Iterable[Row], names: str | None, variants: str | None = None) -> list[Row]:
    """Return the rows of the peers and variants in lists of names, and always ours as it is; None takes all."""
    return [row for row in rows if _wanted(row, names, variants)]


def _wanted(row: Row, names: str | None, variants: str | None) -> bool:
    if row.ours:
        return row.variant == "default" or _listed(row.variant, variants)
    return _listed(row.name, names) and _listed(row.variant, variants)


def _listed(name: str, names: str | None) -> bool:
    return names is None or name in names.split(",")


def main() -> None:
    """Measure what the command line asks for, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.cells")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scale", choices=SCALES, default="minutes")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--peers", help="of plain, lightning, timm, ray and composer; all by default")
    parser.add_argument("--variants", help="of documented, tuned, nothing reused; all by default")
    parser.add_argument("--grids", default=",".join(GRIDS))
    given = parser.parse_args()
    grids = {name: GRIDS[name] for name in given.grids.split(",")}
    rows = chosen(ROWS, given.peers, given.variants)
    comparison = Comparison(given.folder.resolve(), given.scale, SCALES[given.scale], grids, rows)
    print(comparison.run(given.rounds).drop(columns=["machine", "scale"]).to_string(index=False))


if __name__ == "__main__":
    main()
