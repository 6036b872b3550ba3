"""How planning, running and reporting grow with the replicates of a grid; no training takes any time.

`python -m tests.benchmarks.growth FOLDER [REPLICATES…]` writes growth.csv there: a row for each number of replicates,
by default 10, 100, 1,000 and 10,000, measured in a process of its own. The store is real; the figures are made up.
"""

from __future__ import annotations

import csv
import json
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from harness import show, specfile
from harness.execute.job import Job
from harness.means import Means
from harness.records import Epoch, Finished, Probed, Record, Started
from harness.session import Session, plan_of, report

POLICIES = ("full", "full_bn_frozen", "head", "head_bn", "last_stage", "bn_only", "llrd", "gradual", "lp_ft", "scratch")
TRICKS = "warmup: {epochs: 1}, cosine: , label_smoothing: , no_bias_decay: , mixup: , cutmix: , ema: , random_erasing: "
EPOCHS = 5
SIZES = (10, 100, 1_000, 10_000)


def spec(replicates: int) -> str:
    """Return a study of so many replicates: 10 trick sets, up to 10 policies, and as many seeds as it takes."""
    policies = POLICIES[: max(1, min(10, replicates // 10))]
    return f"""\
name: growth
model: {{name: cifar_resnet8}}
data: {{name: digits, image_size: 8, train_per_class: 16}}
train: {{epochs: {EPOCHS}, batch_size: 16, lr: 0.05}}
policies: [{", ".join(policies)}]
tricks: {{{TRICKS}}}
designs: [one_in, all]
seeds: {max(1, replicates // 100)}
throughput: {{rounds: 2, steps: 1}}
"""


class Stub:
    """An executor that yields records as those of trainings, in no time."""

    places = 2

    def __init__(self) -> None:
        self._random = np.random.default_rng(0)

    def run(self, jobs: Sequence[Job], alone: bool = False) -> Iterator[Record]:  # noqa: ARG002
        """Yield what a probe, or trainings of a few epochs, would."""
        for job in jobs:
            for training in job.trainings:
                if job.probe:
                    for number in range(job.probe[0]):
                        yield Probed(training.digest, 0, number, 1000.0 + number, 10**6)
                else:
                    yield from self._train(training.digest)

    def _train(self, digest: str) -> Iterator[Record]:
        now = int(1000 * time.time())
        yield Started(digest, now, "a made-up CPU")
        for epoch in range(1, EPOCHS + 1):
            val = {"top1": float(self._random.uniform(0.5, 0.9))}
            yield Epoch(digest, now, epoch, 10 * epoch, 1 / epoch, val)
        labels = self._random.integers(0, 10, 500)
        predictions = np.where(self._random.random(500) < 0.7, labels, 0)
        test = {"top1": float((labels == predictions).mean())}
        yield Finished(digest, now, test, 10_000, 1.0, digest, ("fc.weight",), predictions, labels, 0)

    def stop(self) -> int:
        """Stop nothing."""
        return 0


class Clock:
    """Seconds, and growth of the largest memory that this process ever took in MiB, since it was last looked at."""

    def __init__(self) -> None:
        self._began, self._peak = time.perf_counter(), _peak_mib()

    def read(self) -> tuple[float, float]:
        """Return both, and begin anew."""
        now, peak = time.perf_counter(), _peak_mib()
        found = now - self._began, peak - self._peak
        self._began, self._peak = now, peak
        return found


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(folder: Path, replicates: int) -> dict[str, Any]:
    """Plan, run and report a grid of so many replicates in `folder`, which is new."""
    path = folder / "experiments" / "growth.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(spec(replicates))
    plan_of(path, (), None, "cpu")  # which finds out what is remembered of the networks, and imports all there is
    row: dict[str, Any] = {"replicates": replicates}

    clock = Clock()
    plan, seconds = plan_of(path, (), None, "cpu")
    show.plan_text(plan, seconds)
    row["trainings"] = len(plan.trainings)
    row["plan_s"], row["plan_mib"] = clock.read()
    for name in ("run", "again"):
        with mock.patch("harness.means.executor", stubbed), Session.open(specfile.read(path), Means()) as session:
            row[f"{name}_open_s"], row[f"{name}_open_mib"] = clock.read()
            for _ in session.run():
                pass
            row[f"{name}_s"], row[f"{name}_mib"] = clock.read()
    report(path, ())
    row["report_s"], row["report_mib"] = clock.read()
    return row


@contextmanager
def stubbed(*_: object) -> Iterator[tuple[Stub, str]]:
    """Stand for `means.executor`."""
    yield Stub(), "a made-up CPU"


def main(folder: Path, sizes: Sequence[int]) -> None:
    """Measure each size in a process of its own, and write the table."""
    rows = []
    for replicates in sizes:
        command = [sys.executable, "-m", __name__ if __name__ != "__main__" else "tests.benchmarks.growth"]
        place = folder / f"growth-{replicates}"
        shutil.rmtree(place, ignore_errors=True)
        done = subprocess.run([*command, str(place), "--alone", str(replicates)], stdout=subprocess.PIPE, check=True)
        rows.append(json.loads(done.stdout))
        print(rows[-1], flush=True)
    with (folder / "growth.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    target, *given = sys.argv[1:]
    if given[:1] == ["--alone"]:
        print(json.dumps({k: round(v, 3) for k, v in measure(Path(target), int(given[1])).items()}))
    else:
        main(Path(target), [int(size) for size in given] or SIZES)
