"""A script in plain torch: `python -m tests.benchmarks.peers.plain WORK OUT VARIANT [POLICY TRICKS SEED]`.

`documented` is the script as people write it, one process after another, a cell each: image files, transforms and
loader workers as in torchvision's tutorials, as many threads as torch takes, `log_metric` at every step. `tuned` has
two processes that stay, each with one thread and the decoded images in memory, and logs once an epoch.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import mlflow
import torch
import torch.nn.functional as F

from tests.benchmarks.peers import common
from tests.benchmarks.peers.common import Cell, Work

EXPERIMENT = "plain"


def train(work: Work, cell: Cell, out: Path, tuned: bool) -> None:
    """Train and log one cell."""
    epochs = common.draw(work, cell)
    loaders = common.loaders(work, epochs, in_memory=tuned)
    module = common.network(work, cell)
    optimizer, scheduler = common.optimizer(module, work, cell)
    with mlflow.start_run(run_name=cell.name):
        mlflow.log_params({"policy": cell.policy, "tricks": cell.tricks, "seed": cell.seed})
        step = 0
        for batches in epochs:
            common.training_mode(module, cell)
            total = 0.0
            for batch, (images, labels) in zip(batches, loaders["train"], strict=True):
                inputs, targets = common.mixed(images, common.soft_targets(labels, work, cell), batch)
                with common.autocast(cell):
                    loss = F.cross_entropy(module(inputs), targets)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                scheduler.step()
                total += loss.item()
                step += 1
                if not tuned:
                    mlflow.log_metric("train_loss", loss.item(), step)
            figures = {"val_top1": common.top1(module, loaders["val"])}
            mlflow.log_metrics({**figures, **({"train_loss": total / len(batches)} if tuned else {})}, step)
        mlflow.log_metric("test_top1", common.top1(module, loaders["test"]))
    common.keep(module.state_dict(), cell, out)


def in_one_after_another(module: str, work: Path, out: Path, cells: list[Cell]) -> None:
    """Start a script once for each cell."""
    for cell in cells:
        arguments = [str(work), str(out), "documented", cell.policy, cell.tricks, str(cell.seed)]
        subprocess.run([sys.executable, "-m", module, *arguments], check=True)


def in_two_that_stay(train: Callable[[Work, Cell, Path, bool], None], work: Work, out: Path, experiment: str) -> None:
    """Train all cells in two processes, each with one thread."""
    begin = (common.store(out), experiment)
    with ProcessPoolExecutor(2, get_context("spawn"), initializer=_begin, initargs=begin) as pool:
        for done in [pool.submit(train, work, cell, out, True) for cell in work.cells]:
            done.result()


def _begin(uri: str, experiment: str) -> None:
    torch.set_num_threads(1)
    track(uri, experiment)


def track(uri: str, experiment: str) -> None:
    """Have MLflow log to a store."""
    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment(experiment)


def main(module: str, train: Callable[[Work, Cell, Path, bool], None], experiment: str, arguments: list[str]) -> None:
    """Do what the command line of such a script asks for."""
    path, out, variant = Path(arguments[0]), Path(arguments[1]), arguments[2]
    work = common.read(path)
    track(common.store(out), experiment)  # before processes do so at once, which MLflow's migrations do not bear
    if arguments[3:]:
        policy, tricks, seed = arguments[3:]
        train(work, work.cell(policy, tricks, int(seed)), out, variant == "tuned")
    elif variant == "documented":
        in_one_after_another(module, path, out, work.cells)
    else:
        in_two_that_stay(train, work, out, experiment)


if __name__ == "__main__":
    from tests.benchmarks.peers.plain import train as importable

    main("tests.benchmarks.peers.plain", importable, EXPERIMENT, sys.argv[1:])
