"""All benchmarks, one after another: `python -m tests.benchmarks FOLDER [PART…]`, or `make bench`.

Each works in a folder of its own under `bench/`, and leaves its tables in FOLDER, beside what they were measured on
(`machine.csv`). Nothing else should run meanwhile; the load before each part is kept.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

import torch

from harness.versions import versions
from harness.workspace import Workspace, commit
from tests.benchmarks.cells import FILE, machine

WORK = Path("bench")
PARTS = {
    "redundancy": ["redundancy"],
    "efficiency": ["efficiency"],
    "cells": ["cells", "--scale", "minutes", "--rounds", "3"],
    "loops": ["loops", "--rounds", "3"],
    "growth": ["growth", "10", "100", "1000"],
    "gpu": ["gpu"],
}
"""Each part with its module and arguments, in the order in which they run; `gpu` where torch sees one."""


def main(folder: Path, parts: list[str], more: list[str]) -> int:
    """Run parts, and keep their tables; returns how many failed. `more` arguments go to each of them."""
    folder.mkdir(parents=True, exist_ok=True)
    failed = 0
    for part in parts:
        module, *arguments = PARTS[part]
        place = WORK / ("cells" if part == "loops" else part)  # whose peers' environments serve both
        _bring_back(folder, place)
        load, began = os.getloadavg()[0], time.perf_counter()
        command = [sys.executable, "-m", f"tests.benchmarks.{module}", str(place), *(more or arguments)]
        status = subprocess.run(command).returncode
        failed += status != 0
        for table in sorted(place.glob("*.csv")):
            shutil.copy(table, folder)
        _note(folder / "machine.csv", " ".join([part, *more]), load, time.perf_counter() - began, status)
    return failed


def _bring_back(folder: Path, place: Path) -> None:
    """Put what earlier sittings measured where a part goes on with it, whichever machine they had."""
    place.mkdir(parents=True, exist_ok=True)
    if (folder / FILE).exists():
        shutil.copy(folder / FILE, place)


def _note(path: Path, part: str, load: float, seconds: float, status: int) -> None:
    """Keep what a part was measured on, in place of what was kept of it before."""
    row = {
        "part": part,
        "machine": machine(),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        **versions(),
        "commit": commit(Workspace(Path.cwd())) or "",
        "load_before": round(load, 2),
        "seconds": round(seconds),
        "status": status,
    }
    kept = list(csv.DictReader(path.read_text().splitlines())) if path.exists() else []
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, row)
        writer.writeheader()
        writer.writerows([*({key: old.get(key, "") for key in row} for old in kept if old["part"] != part), row])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("parts", nargs="*", default=[p for p in PARTS if p != "gpu" or torch.cuda.is_available()])
    given, more = parser.parse_known_args()
    if unknown := set(given.parts) - set(PARTS):
        parser.error(f"unknown parts {', '.join(sorted(unknown))}; legal: {', '.join(PARTS)}")
    sys.exit(main(given.folder, given.parts, more))
