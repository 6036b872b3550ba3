"""Ray Tune: `python -m tests.benchmarks.peers.ray_tune WORK OUT VARIANT`.

`documented`: a function that reports each epoch, a process for each trial with one core, as Tune's guide to PyTorch has
it, loader workers included; Ray sets one thread for each. `tuned`: a class whose processes are reused for other trials
(`reuse_actors`), the decoded images in the object store. Both log by Tune's own callback.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import ray
import torch
import torch.nn.functional as F
from ray import tune
from ray.air.integrations.mlflow import MLflowLoggerCallback
from torch import nn

from tests.benchmarks.peers import common
from tests.benchmarks.peers.common import Batch, Cell, Decoded, Work

EXPERIMENT = "ray"
Config = dict[str, Any]


class Run:
    """A cell in training."""

    def __init__(self, work: Work, cell: Cell, held: dict[str, Decoded] | None) -> None:
        """Images are `held` in memory, or read from files where None are."""
        epochs = common.draw(work, cell)
        self._work, self._cell, self._epochs = work, cell, iter(epochs)
        if held:
            self._loaders: dict[str, Any] = {
                split: common.InMemory(images, epochs if split == "train" else None, work)
                for split, images in held.items()
            }
        else:
            self._loaders = common.loaders(work, epochs, in_memory=False)
        self.module: nn.Module = common.network(work, cell)
        self._optimizer, self._scheduler = common.optimizer(self.module, work, cell)

    def epoch(self, last: bool) -> dict[str, float]:
        """Train an epoch; returns its figures, with those of the test after the last."""
        batches: list[Batch] = next(self._epochs)
        common.training_mode(self.module, self._cell)
        total = 0.0
        for batch, (images, labels) in zip(batches, self._loaders["train"], strict=True):
            inputs, targets = common.mixed(images, common.soft_targets(labels, self._work, self._cell), batch)
            with common.autocast(self._cell):
                loss = F.cross_entropy(self.module(inputs), targets)
            self._optimizer.zero_grad()
            loss.backward()
            self._optimizer.step()
            self._scheduler.step()
            total += loss.item()
        figures = {"train_loss": total / len(batches), "val_top1": common.top1(self.module, self._loaders["val"])}
        return {**figures, **({"test_top1": common.top1(self.module, self._loaders["test"])} if last else {})}


def documented(config: Config, path: str, out: str) -> None:
    """Train one cell as a function."""
    work = common.read(Path(path))
    cell = work.cell(config["policy"], config["tricks"], config["seed"])
    run = Run(work, cell, None)
    for number in range(1, work.epochs + 1):
        figures = run.epoch(last=number == work.epochs)
        if number == work.epochs:
            common.keep(run.module.state_dict(), cell, Path(out))
        tune.report(figures)


class Tuned(tune.Trainable):
    """Trains one cell after another."""

    def setup(self, config: Config, path: str = "", out: str = "", held: dict[str, Decoded] | None = None) -> None:
        """Keep what all cells share, and begin the first."""
        torch.set_num_threads(1)
        self._work, self._out, self._held = common.read(Path(path)), Path(out), held
        self.reset_config(config)

    def reset_config(self, new_config: Config) -> bool:
        """Begin another cell."""
        self._cell = self._work.cell(new_config["policy"], new_config["tricks"], new_config["seed"])
        self._run = Run(self._work, self._cell, self._held)
        return True

    def step(self) -> dict[str, float]:
        """Train an epoch."""
        last = self.iteration + 1 == self._work.epochs
        figures = self._run.epoch(last)
        if last:
            common.keep(self._run.module.state_dict(), self._cell, self._out)
        return figures


def main(path: str, out: str, variant: str) -> None:
    """Train all cells as the trials of one grid search."""
    work = common.read(Path(path))
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    tracking = MLflowLoggerCallback(tracking_uri=common.store(Path(out)), experiment_name=EXPERIMENT)
    trainable: Any
    if variant == "tuned":
        held = {split: common.decoded(work.images, split) for split in ("train", "val", "test")}
        trainable = tune.with_parameters(Tuned, path=path, out=out, held=held)
    else:
        trainable = tune.with_parameters(documented, path=path, out=out)
    results = tune.Tuner(
        tune.with_resources(trainable, {"cpu": 1}),
        param_space={key: tune.grid_search(values) for key, values in work.levels().items()},
        tune_config=tune.TuneConfig(reuse_actors=variant == "tuned", trial_name_creator=_name),
        run_config=tune.RunConfig(
            storage_path=f"{out}/ray",
            callbacks=[tracking],
            stop={"training_iteration": work.epochs},
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            verbose=0 if variant == "tuned" else 1,
        ),
    ).fit()
    assert not results.num_errors, results.errors[0]


def _name(trial: Any) -> str:
    config = trial.config
    return f"{config['policy']} | {config['tricks']} | seed {config['seed']}"


if __name__ == "__main__":
    from tests.benchmarks.peers.ray_tune import main as importable

    importable(*sys.argv[1:])
