"""Images per second and peak memory of one job: the harness' loop against each peer's, by policy and precision.

    python -m tests.benchmarks.loops FOLDER [--rounds N] [--peers a,b,…] [--images N] [--epochs N]

One training in one process with one thread, every peer tuned, the harness sharing nothing between trainings (Ray Tune
has no loop of its own). Rounds are interleaved; `images_per_s.csv` in FOLDER is written anew after every measurement.
The rate is taken between the ends of epochs as they were logged, the first of which warms up: what a loop does between
steps counts, validation included.
"""

from __future__ import annotations

import argparse
import os
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import pandas as pd
import torch
from mlflow import MlflowClient

from tests.benchmarks.cells import TIMEOUT_S, TOLERANCE, machine, workspace
from tests.benchmarks.gate import distance, runs
from tests.benchmarks.grids import Grid, Scale, prepare
from tests.benchmarks.peers import common
from tests.benchmarks.peers.common import Cell, Work
from tests.benchmarks.process import measure
from tests.benchmarks.rows import ONE_THREAD, QUIET, Absent, interpreter, versions

GRID = Grid(("full", "last_stage", "head"), (("mixed_precision",),), 1)
LOOPS = {
    "harness": ("ours", "own", ("torch",)),
    "plain": ("plain", "own", ("torch",)),
    "timm": ("timm_script", "own", ("torch", "timm")),
    "lightning": ("lightning_hydra", "lightning", ("torch", "lightning")),
    "composer": ("composer_trainer", "composer", ("torch", "mosaicml")),
}
"""By name: the module, its environment, and the packages whose versions are told. The first is the harness."""
APART = {"fp32": TOLERANCE, "bf16": 0.5}
"""How far weights may be from the harness', relative to how far these moved; bfloat16 has three digits."""


@dataclass
class Found:
    """What was measured of one loop on one cell."""

    images_per_s: list[float] = field(default_factory=list)
    peak_mib: list[float] = field(default_factory=list)
    gate: str = ""
    load: float = 0.0


def rate(out: Path, work: Work, cell: Cell) -> float:
    """Return the images per second of a run, from the times at which its epochs ended; the first is left out."""
    (run,) = runs(out).values()
    history = MlflowClient(common.store(out)).get_metric_history(run.info.run_id, "val_top1")
    ends = sorted(point.timestamp for point in history)
    steps = len(cell.factors) // work.epochs
    return 1000 * steps * work.batch_size * (len(ends) - 1) / (ends[-1] - ends[0])


def verdict(work: Work, cell: Cell, reference: Path, out: Path) -> str:
    """Return whether a loop trained what the harness' does."""
    begin = common.sample(torch.load(work.initial[str(cell.seed)], weights_only=True))
    wanted, made = (torch.load(common.kept(place, cell), weights_only=True) for place in (reference, out))
    apart = distance(begin, wanted, made, cell)
    return f"{'ok' if apart <= APART[_precision(cell)] else 'void'}: weights within {apart:.0e}"


def _precision(cell: Cell) -> str:
    return "bf16" if cell.bf16 else "fp32"


def compare(folder: Path, scale: Scale, rounds: int, names: list[str]) -> pd.DataFrame:
    """Measure the loops `names`, of which the first is the reference, in interleaved rounds; returns the table."""
    grid = prepare(folder, "loops", GRID, scale)
    work, environments = common.read(grid / "work.json"), folder / "environments"
    found: dict[tuple[str, str, str], Found] = defaultdict(Found)
    for _ in range(rounds):
        for cell in work.cells:
            for name in names:
                here = found[cell.policy, _precision(cell), name]
                if here.gate.startswith(("void", "absent")):
                    continue
                module, environment, _ = LOOPS[name]
                out, here.load = workspace(grid, f"{name}-{cell.policy}-{_precision(cell)}"), os.getloadavg()[0]
                try:
                    python = interpreter(environment, environments)
                except Absent as absent:
                    here.gate = f"absent: {absent}"
                    continue
                arguments = [grid / "work.json", out, "tuned", cell.policy, cell.tricks, cell.seed]
                command = [python, "-m", f"tests.benchmarks.peers.{module}", *map(str, arguments)]
                made = measure(command, out, grid / f"{out.name}.log", {**QUIET, **ONE_THREAD}, TIMEOUT_S)
                if made.status:
                    here.gate = f"void: it failed: {made.last_line}"
                    continue
                here.images_per_s.append(rate(out, work, cell))
                here.peak_mib.append(made.peak_mib)
                here.gate = verdict(work, cell, grid / f"{names[0]}-{cell.policy}-{_precision(cell)}", out)
                table(found, names, environments).to_csv(folder / "images_per_s.csv", index=False)
    return table(found, names, environments)


def table(found: dict[tuple[str, str, str], Found], names: list[str], environments: Path) -> pd.DataFrame:
    """Return what was measured so far; a loop that is void has no ratio."""
    told = {name: versions(LOOPS[name][2], interpreter(LOOPS[name][1], environments)) for name in names}
    rows = []
    for (policy, precision, name), here in found.items():
        ours = found[policy, precision, names[0]]
        compared = here.gate.startswith("ok") and bool(ours.images_per_s)
        rows.append(
            {
                "policy": policy,
                "precision": precision,
                "loop": name,
                "rounds": len(here.images_per_s),
                "images_per_s": median(here.images_per_s) if here.images_per_s else None,
                "images_per_s_min": min(here.images_per_s, default=None),
                "images_per_s_max": max(here.images_per_s, default=None),
                "ours_is_times": median(ours.images_per_s) / median(here.images_per_s) if compared else None,
                "peak_pss_mib": max(here.peak_mib, default=None),
                "our_memory_is_times": max(ours.peak_mib) / max(here.peak_mib) if compared else None,
                "gate": here.gate,
                "versions": told[name],
                "machine": machine(),
                "load_before": here.load,
            }
        )
    return pd.DataFrame(rows)


def main() -> None:
    """Measure what the command line asks for, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.loops")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", default=",".join(list(LOOPS)[1:]))
    parser.add_argument("--images", type=int, default=100, help="for training, of each of ten classes")
    parser.add_argument("--epochs", type=int, default=4)
    given = parser.parse_args()
    names = ["harness", *filter(None, given.peers.split(","))]
    scale = Scale(given.images, 10, given.epochs, 1)
    made = compare(given.folder.resolve(), scale, given.rounds, names)
    print(made.drop(columns=["machine"]).to_string(index=False))


if __name__ == "__main__":
    main()
