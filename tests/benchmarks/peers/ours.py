"""One training of the harness by itself: `python -m tests.benchmarks.peers.ours WORK OUT VARIANT POLICY TRICKS SEED`.

A worker's loop, in this process, sharing nothing with other trainings; its records are logged as a peer's are.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import mlflow
import torch

from harness import specfile
from harness.execute.job import Job
from harness.execute.worker import perform
from harness.planning import make_plan
from harness.records import Epoch, Failed, Finished
from harness.workspace import Workspace
from tests.benchmarks.peers import common, plain


def main(path: str, out: Path, policy: str, tricks: str, seed: int) -> None:
    """Train and log the cell, and keep its weights as the peers do."""
    grid, cell = Path(path).parent, common.read(Path(path)).cell(policy, tricks, seed)
    plan = make_plan(specfile.read(grid / "experiments" / f"{grid.name}.yaml"), Workspace(grid))
    wanted = cell.name.replace(" ", "")
    training = next(each.training for each in plan.replicates if each.name.replace(" ", "") == wanted)
    saved = replace(training, save_to=str(out / "weights.pt"))
    plain.track(common.store(out), "ours")
    with mlflow.start_run(run_name=cell.name):
        for record in perform(Job((saved,), out / ".cache"), "cpu"):
            if isinstance(record, Epoch):
                figures = {"train_loss": record.train_loss, "val_top1": record.val["top1"]}
                mlflow.log_metrics(figures, record.epoch, timestamp=record.timestamp)
            if isinstance(record, Finished):
                mlflow.log_metric("test_top1", record.test["top1"])
            if isinstance(record, Failed):
                raise RuntimeError(record.traceback)
    common.keep(torch.load(out / "weights.pt", weights_only=True), cell, out)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[4], sys.argv[5], int(sys.argv[6]))
