"""Killed at any instant and started again, a grid finishes: nothing lost, nothing twice, the same tables."""

import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness import cli, session
from harness.track import Store
from harness.workspace import Workspace
from tests.killing import POINTS

ROOT = Path(__file__).parents[1]
EPOCHS = 20
SPEC = f"""\
name: killed
model: {{name: cifar_resnet8}}
weights:
  pretrain:
    data: {{name: digits, classes: ["0", "1", "2"], image_size: 8, train_per_class: 8}}
    train: {{epochs: 3, batch_size: 8, lr: 0.05}}
data: {{name: digits, classes: ["5", "6", "7"], image_size: 8, shift: [invert], train_per_class: 8}}
train: {{epochs: {EPOCHS}, batch_size: 8, lr: 0.05, augment: {{flip: true, crop_padding: 1}}}}
policies: [full, lp_ft]
tricks: [mixup]
designs: [one_in]
seeds: 2
throughput: {{rounds: 1, steps: 1}}
execution: {{checkpoint_s: 0}}
"""
"""Two policies × (baseline, mixup) × two seeds: 8 replicates."""
REPLICATES = 8
MEASURED = {"images_per_s", "train_s", "wall_s", "peak_memory_bytes"}
"""What no two runs have in common."""


@dataclass(frozen=True)
class Result:
    """What is left of a grid that has finished."""

    runs: list[Any]
    grid: Any
    cells: pd.DataFrame
    effects: pd.DataFrame
    start_s: float
    """Seconds until its first replicate."""


def written(root: Path, store: Path) -> Path:
    (root / "experiments").mkdir(parents=True)
    shutil.copy(store, root / "mlflow.db")
    spec = root / "experiments" / "killed.yaml"
    spec.write_text(SPEC)
    return spec


def result_of(spec: Path, start_s: float = 0.0) -> Result:
    place = Workspace(spec.parents[1])
    store = Store(place)
    experiment = store.experiment("killed")
    assert experiment is not None
    cells, effects = (pd.read_csv(place.results / "killed" / f"{name}.csv") for name in ("cells", "effects"))
    return Result(list(store.search([experiment], "")), session.read(spec), cells, effects, start_s)


@contextmanager
def started(*command: object) -> Iterator[subprocess.Popen[str]]:
    """Start a process in a session of its own, and see that nothing of that session outlives it."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-m", *map(str, command)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=environment,
    ) as process:
        yield process
    deadline = time.monotonic() + 30
    while processes_of(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not processes_of(process.pid), "a process outlived the one that it worked for"


def processes_of(owner: int) -> dict[int, int]:
    """Return the living processes of a session, each with its parent."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                state, parent, _, leader = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
            except OSError:
                continue
            if int(leader) == owner and state != "Z":
                found[int(entry.name)] = int(parent)
    return found


def workers_of(scheduler: int) -> list[int]:
    """Return the workers of a grid's process: children of a child of it, the server that forks them."""
    found = processes_of(scheduler)
    return [pid for pid, parent in found.items() if found.get(parent) == scheduler]


def kill(pids: list[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue  # it has ended by itself


def wait_for(process: subprocess.Popen[str], beginning: str) -> bool:
    """Read what a process says up to a line that begins so; returns whether it came."""
    assert process.stderr is not None
    return any(line.startswith(beginning) for line in process.stderr)


class Watch:
    """Counts the checkpoints that are made below a workspace."""

    def __init__(self, spec: Path) -> None:
        self._folder = spec.parents[1] / "checkpoints" / "partial"
        self._known = self._there()
        self.made = 0

    def _there(self) -> set[tuple[str, int]]:
        found = set()
        for path in self._folder.glob("*.pt"):
            try:
                found.add((path.name, path.stat().st_mtime_ns))
            except FileNotFoundError:
                continue  # its training has ended
        return found

    def wait(self, process: subprocess.Popen[str], count: int, seconds: float = math.inf) -> None:
        """Wait until `count` more were made, for so many seconds at most, or until the process has ended."""
        until, last = self.made + count, time.monotonic() + seconds
        while self.made < until and time.monotonic() < last and process.poll() is None:
            now = self._there()
            self.made += len(now - self._known)
            self._known |= now
            time.sleep(0.002)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Result:
    """The grid run in one go."""
    spec = written(tmp_path_factory.mktemp("undisturbed"), empty_store)
    began = time.monotonic()
    with started("harness", "run", spec, "--jobs", 2) as process:
        assert wait_for(process, "training 0/")
        start_s = time.monotonic() - began
        process.communicate()
    assert process.returncode == cli.DONE
    return result_of(spec, start_s)


def check_same(found: Result, undisturbed: Result) -> None:
    """Compare all that two runs of a grid have in common, and that each replicate counts once."""
    assert {run.info.status for run in found.runs} <= {"FINISHED", "KILLED"}
    replicates = [run for run in found.runs if run.data.tags["harness.kind"] == "replicate"]
    finished = [run for run in replicates if run.info.status == "FINISHED"]
    keys = {(run.data.params["cell"], run.data.params["seed"]) for run in finished}
    assert len(finished) == len(keys) == REPLICATES

    assert found.grid.curves.equals(undisturbed.grid.curves)
    assert set(found.grid.correct) == set(undisturbed.grid.correct)
    assert all(np.array_equal(found.grid.correct[key], undisturbed.grid.correct[key]) for key in found.grid.correct)
    assert found.grid.prerequisites.equals(undisturbed.grid.prerequisites)
    assert found.grid.family == undisturbed.grid.family
    kept = [name for name in found.grid.runs if name not in MEASURED | {"run_id", "trained_by"}]
    assert found.grid.runs[kept].equals(undisturbed.grid.runs[kept])
    of_time = [name for name in found.cells if any(str(name).startswith(measured) for measured in MEASURED)]
    assert len(of_time) < len(found.cells.columns) - 5
    assert found.cells.drop(columns=of_time).equals(undisturbed.cells.drop(columns=of_time))
    left, right = (frame[~frame["metric"].isin(MEASURED)] for frame in (found.effects, undisturbed.effects))
    assert len(left) > 0
    assert left.equals(right)
    for tag in ("harness.weights_sha256", "harness.images"):
        assert tags_of(finished, tag) == tags_of(undisturbed.runs, tag)


def tags_of(runs: list[Any], tag: str) -> dict[str, str]:
    return {run.info.run_name: run.data.tags[tag] for run in runs if run.data.tags.get("harness.kind") == "replicate"}


def check_history(spec: Path, found: Result) -> list[Any]:
    """Check that no epoch was logged twice, and that no checkpoint is left; returns the finished runs that resumed."""
    place = Workspace(spec.parents[1])
    client = Store(place).client
    finished = [run for run in found.runs if run.info.status == "FINISHED" and "cell" in run.data.params]
    for run in finished:
        for key in ("val_top1", "train_loss"):
            assert [p.step for p in client.get_metric_history(run.info.run_id, key)] == [*range(1, EPOCHS + 1)]
        assert len(client.get_metric_history(run.info.run_id, "test_top1")) == 1
        assert {"harness.reason", "harness.failure"}.isdisjoint(run.data.tags)
    assert not list((place.checkpoints / "partial").iterdir())
    return [run for run in finished if run.data.tags.get("harness.resumed")]


def test_kills_at_random_instants(tmp_path: Path, empty_store: Path, undisturbed: Result) -> None:
    """Twenty, of the scheduler, of a worker and of all: instants and victims are drawn.

    Most instants are counted in checkpoints, so that replicates get on but are not done before the last kill on any
    machine; the others lie between the start of the process and its first checkpoint.
    """
    rng = np.random.default_rng(5)
    spec = written(tmp_path, empty_store)
    kills: dict[str, int] = {"scheduler": 0, "worker": 0, "both": 0}
    while sum(kills.values()) < 20:
        watch = Watch(spec)
        with started("harness", "run", spec, "--jobs", 2) as process:
            early = rng.random() < 0.2
            watch.wait(process, 1, rng.uniform(0, undisturbed.start_s) if early else math.inf)
            while process.poll() is None:
                if not early:
                    watch.wait(process, int(rng.integers(0, 4)))
                time.sleep(rng.uniform(0, 0.02))
                victim = str(rng.choice([*kills], p=[0.3, 0.4, 0.3]))
                workers = workers_of(process.pid)
                if victim == "worker" and not workers:
                    continue
                kill({"scheduler": [process.pid], "worker": workers[:1], "both": [process.pid, *workers]}[victim])
                kills[victim] += 1
                if victim != "worker":
                    process.wait()
        assert process.returncode != cli.DONE, "it finished before the last kill"
    assert min(kills.values()) > 0
    assert cli.main(["run", str(spec), "--jobs", "2"]) == cli.DONE
    found = result_of(spec)
    check_same(found, undisturbed)
    resumed = check_history(spec, found)
    assert len(resumed) >= 2
    assert max(int(run.data.tags["harness.resumptions"]) for run in resumed) >= 2


def test_kills_where_they_hurt(tmp_path: Path, empty_store: Path, undisturbed: Result) -> None:
    spec = written(tmp_path, empty_store)
    kills = [
        ("in a log write", 60, 0),
        ("in a checkpoint", 3, 0),
        ("checkpoint there, epoch not logged", 5, 0),
        ("epoch logged", 20, 1000),  # logged after the last checkpoint: trained again, not logged again
        ("in a checkpoint", 7, 0),
        ("in a log write", 45, 0),
        ("result logged, run not ended", 1, 0),
        ("run ended, checkpoint there", 2, 0),
    ]
    assert {point for point, _, _ in kills} == set(POINTS)
    for point, count, every_s in kills:
        arguments = ("run", spec, "--inline", "--set", f"execution.checkpoint_s={every_s}")
        with started("tests.killing", point, count, *arguments) as process:
            process.communicate()
        assert process.returncode == -signal.SIGKILL, point
    assert cli.main(["run", str(spec), "--jobs", "2"]) == cli.DONE
    found = result_of(spec)
    check_same(found, undisturbed)
    assert len(check_history(spec, found)) >= 1
