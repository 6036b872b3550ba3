"""A real Ray cluster of two nodes with made-up GPUs: the same tables as here, whatever dies on the way."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

pytest.importorskip("ray", reason="needs the extra [ray]")

from ray.cluster_utils import Cluster

from harness import cli
from harness.errors import HarnessError
from harness.execute import ray as on_ray
from harness.execute.job import Job
from harness.execute.ray import RayExecutor, connected
from harness.plan import Plan
from harness.records import Failed, Finished, Started
from harness.session import read
from harness.stopping import Stopped
from harness.track import Store
from harness.training import Training
from harness.versions import versions
from harness.workspace import Workspace

pytestmark = pytest.mark.ray
ROOT = Path(__file__).parents[2]
SPEC = """\
name: clustered
model: {name: cifar_resnet8}
data: {name: digits, classes: ["5", "6", "7"], image_size: 8, train_per_class: 8}
train: {epochs: 100, batch_size: 8, lr: 0.05, augment: {flip: true, crop_padding: 1}}
policies: [scratch]
tricks: [mixup]
designs: [one_in]
seeds: 2
throughput: {rounds: 1, steps: 1}
execution: {checkpoint_s: 0}
"""
"""(Baseline, mixup) × two seeds: 4 replicates."""
NODE: dict[str, Any] = {"num_cpus": 2, "num_gpus": 1, "include_dashboard": False, "object_store_memory": 80 * 2**20}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A cluster of one node; what trains there imports this checkout."""
    before = {name: os.environ.get(name) for name in ("PYTHONPATH", "RAY_USAGE_STATS_ENABLED")}
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    os.environ.update(PYTHONPATH=str(ROOT), RAY_USAGE_STATS_ENABLED="0")
    made = Cluster(initialize_head=True, head_node_args=NODE)
    try:
        yield made
    finally:
        made.shutdown()
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


@pytest.fixture
def trainings(plan: Plan) -> list[Training]:
    """Trainings that need no pretrained weights."""
    return [replace(replicate.training, origin=None) for replicate in plan.replicates[:3]]


@pytest.fixture
def executor(cluster: Cluster, tmp_path: Path) -> Iterator[RayExecutor]:
    """One that puts two trainings on a GPU."""
    with connected(cluster.address, 0.5, 1, tmp_path / ".cache") as found:
        yield found


def jobs(trainings: list[Training], cache: Path) -> list[Job]:
    return [Job((training,), cache) for training in trainings]


def tasks_on(node: Any) -> list[int]:
    """Return the processes that perform jobs on a node: children of its raylet, named by their task."""
    (raylet,) = node.all_processes["raylet"]
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
                name = (entry / "cmdline").read_text()
            except OSError:
                continue
            if int(parent) == raylet.process.pid and state != "Z" and name.startswith("ray::training"):
                found.append(int(entry.name))
    return found


def until(true: Callable[[], object], seconds: float = 300) -> None:
    last = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < last, "it never came"
        time.sleep(0.02)


def written(root: Path, store: Path) -> Path:
    (root / "experiments").mkdir(parents=True)
    shutil.copy(store, root / "mlflow.db")
    spec = root / "experiments" / "clustered.yaml"
    spec.write_text(SPEC)
    return spec


def started(*arguments: object) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "harness", *map(str, arguments)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment)


def test_grid_outlives_its_process_and_a_node(cluster: Cluster, tmp_path: Path, empty_store: Path) -> None:
    local, spec = (written(tmp_path / name, empty_store) for name in ("local", "ray"))
    place = Workspace(spec.parents[1])
    arguments = ("run", spec, "--executor", "ray", "--address", cluster.address)
    checkpoints = place.checkpoints / "partial"
    node = cluster.add_node(**NODE)

    with started(*arguments) as process:
        until(lambda: any(checkpoints.glob("*.pt")) or process.poll() is not None)
        until(
            lambda: (tasks_on(cluster.head_node) and tasks_on(node)) or process.poll() is not None
        )  # a whole GPU each
        assert process.poll() is None, "it ended before it could be killed"
        process.kill()
    until(lambda: not tasks_on(cluster.head_node) and not tasks_on(node), 60)  # they do not outlive it

    with started(*arguments) as process:
        until(lambda: tasks_on(node) or process.poll() is not None)
        known = {path: path.stat().st_mtime_ns for path in checkpoints.glob("*.pt")}
        until(lambda: {p: p.stat().st_mtime_ns for p in checkpoints.glob("*.pt")} != known)
        cluster.remove_node(node, allow_graceful=False)
        _, told = process.communicate()
    assert process.returncode in (cli.DONE, cli.SOME_FAILED), told
    if process.returncode == cli.SOME_FAILED:  # what the node had was not tried again by itself
        again = ("rerun", "--failed", *map(str, arguments[1:]))
        assert cli.main(again) == cli.DONE

    assert cli.main(["run", str(local), "--jobs", "2"]) == cli.DONE
    ours, theirs = (finished(path) for path in (spec, local))
    assert len(ours) == 4
    assert ours == theirs, "the same weights, bit for bit"
    cells = [pd.read_csv(path.parents[1] / "results" / "clustered" / "cells.csv") for path in (spec, local)]
    accuracy = [
        name for name in cells[0].columns.astype(str) if "top1" in name or name in ("cell", "n", "failed", "missing")
    ]
    assert len(accuracy) > 4
    pd.testing.assert_frame_equal(cells[0][accuracy], cells[1][accuracy], check_exact=True)
    assert read(spec).runs["images_per_s"].notna().all()
    assert not any(checkpoints.iterdir())
    assert not list(place.cache.glob("ray-*"))[1:], "only the killed process left its marker"


def finished(spec: Path) -> dict[tuple[str, str], str]:
    """Return the weights of each replicate; each is finished once, and no run goes on."""
    store = Store(Workspace(spec.parents[1]))
    experiment = store.experiment("clustered")
    assert experiment is not None
    runs = list(store.search([experiment], ""))
    assert not [run for run in runs if run.info.status == "RUNNING"]
    done = [run for run in runs if run.data.tags["harness.kind"] == "replicate" and run.info.status == "FINISHED"]
    found = {
        (run.data.params["cell"], run.data.params["seed"]): run.data.tags["harness.weights_sha256"] for run in done
    }
    assert len(found) == len(done)
    return found


def test_two_share_a_gpu_and_neither_outlives_who_listens(
    executor: RayExecutor, cluster: Cluster, trainings: list[Training], tmp_path: Path
) -> None:
    trainings = endless(trainings)
    records = executor.run([Job((training,), tmp_path, time_limit_s=300) for training in trainings])
    begun = set[str]()
    while len(begun) < 2:
        record = next(records)
        assert not isinstance(record, Failed | Finished)
        begun.add(record.digest)
    assert len(tasks_on(cluster.head_node)) == 2
    assert begun == {training.digest for training in trainings[:2]}, "the third one waits"
    records.close()  # type: ignore[attr-defined]
    until(lambda: not tasks_on(cluster.head_node), 60)


def test_told_to_stop_it_ends_what_runs_and_begins_nothing(
    executor: RayExecutor, trainings: list[Training], tmp_path: Path
) -> None:
    records = []
    with pytest.raises(Stopped):  # noqa: PT012
        for record in executor.run(jobs(trainings, tmp_path), alone=True):
            records.append(record)
            if isinstance(record, Started):
                assert executor.stop() == 1
    assert len({record.digest for record in records}) == 1, "whichever Ray began first"
    assert isinstance(records[-1], Finished)
    assert executor.stop() == 0
    with pytest.raises(Stopped):
        next(executor.run(jobs(trainings, tmp_path)))


def endless(trainings: list[Training]) -> list[Training]:
    return [replace(t, train=t.train.model_copy(update={"epochs": 100_000})) for t in trainings]


def test_alone_one_at_a_time_each_with_its_own_fate(
    executor: RayExecutor, cluster: Cluster, trainings: list[Training], tmp_path: Path
) -> None:
    """One takes too long, long enough for the next to begin if it could; one is killed, one is well."""
    late, killed, well = [*endless(trainings[:2]), trainings[2]]
    records = []
    for record in executor.run([Job((late,), tmp_path, time_limit_s=5), *jobs([killed, well], tmp_path)], alone=True):
        records.append(record)
        if isinstance(record, Started) and record.digest == killed.digest:
            (victim,) = tasks_on(cluster.head_node)
            os.kill(victim, signal.SIGKILL)
    told = [record for record in records if isinstance(record, Started | Finished | Failed)]
    assert [type(record) for record in told] == [Started, Failed, Started, Failed, Started, Finished]
    assert [record.digest for record in told] == [t.digest for t in (late, killed, well) for _ in range(2)]
    timeout, death = told[1], told[3]
    assert isinstance(timeout, Failed)
    assert isinstance(death, Failed)
    assert (timeout.kind, death.kind) == ("timeout", "killed")
    assert "the 5 s" in timeout.reason
    assert "died" in death.reason


def test_node_that_does_not_see_the_workspace_says_so(
    executor: RayExecutor, trainings: list[Training], tmp_path: Path
) -> None:
    (marker,) = (tmp_path / ".cache").glob("ray-*")
    marker.unlink()
    (failed,) = executor.run(jobs(trainings[:1], tmp_path))
    assert isinstance(failed, Failed)
    assert (failed.digest, failed.kind) == (trainings[0].digest, "error")
    assert failed.reason.startswith("HarnessError: node ")
    assert f"does not see the workspace {tmp_path} " in failed.reason
    assert failed.traceback.strip().startswith("raise HarnessError"), "no process, which would be another each time"


def test_node_with_other_versions_is_refused(trainings: list[Training], tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    marker.touch()
    with pytest.raises(HarnessError, match=r"9\.9\.9"):
        next(on_ray._perform(Job((trainings[0],), tmp_path), marker, {**versions(), "harness.torch": "9.9.9"}))


def test_training_that_fits_no_node_is_refused(cluster: Cluster, tmp_path: Path) -> None:
    with (
        pytest.raises(HarnessError, match=r"needs 3 CPUs .* and 1 GPUs on one node; the nodes have 2 and 1"),
        connected(cluster.address, 0.5, 3, tmp_path),
    ):
        pass


@pytest.mark.parametrize(
    ("address", "words"),
    [("127.0.0.1:1", "no Ray cluster answers at 127.0.0.1:1"), ("ray://head:10001", "Client"), ("head", "'?head'?")],
)
def test_cluster_that_cannot_be_joined_is_named(address: str, words: str, tmp_path: Path) -> None:
    terminate = signal.getsignal(signal.SIGTERM)
    with pytest.raises(HarnessError, match=words), connected(address, 1.0, 1, tmp_path):
        pass
    assert signal.getsignal(signal.SIGTERM) is terminate


def test_tasks_import_no_tracker_and_no_plots() -> None:
    code = "import sys, harness.execute.ray; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"mlflow", "pandas", "matplotlib", "harness.track", "harness.plan"} & set(loaded)
