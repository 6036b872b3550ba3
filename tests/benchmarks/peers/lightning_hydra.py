"""Lightning and Hydra: `python -m tests.benchmarks.peers.lightning_hydra WORK OUT VARIANT [POLICY TRICKS SEED]`.

All cells are one multirun. `documented`: the basic launcher, one job after another in one process; the trainer as it is
by default (progress bar, summary, a checkpoint at the end of an epoch), loader workers, metrics at every step. The
joblib launcher as documented crashes with loader workers (joblib#1104). `tuned`: that launcher with two processes of
one thread that stay, decoded images in memory, and a trainer without what is not asked for here.
"""

from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import hydra
import lightning
import mlflow
import torch
import torch.nn.functional as F
from hydra.core.config_store import ConfigStore
from lightning.pytorch.loggers import MLFlowLogger
from omegaconf import DictConfig
from torch import Tensor

from tests.benchmarks.peers import common
from tests.benchmarks.peers.common import Batch, Cell, Work

EXPERIMENT = "lightning"


class Classifier(lightning.LightningModule):
    """A cell as a module of Lightning.

    Its `BackboneFinetuning` would have frozen batch norm normalise by the batch (it stops the tracking of statistics
    instead of evaluating), so what is frozen is put in evaluation mode here.
    """

    def __init__(self, work: Work, cell: Cell, epochs: list[list[Batch]]) -> None:
        super().__init__()
        self.network = common.network(work, cell)
        self._work, self._cell, self._epochs = work, cell, epochs

    def on_train_epoch_start(self) -> None:
        """Put what is frozen in evaluation mode."""
        common.training_mode(self.network, self._cell)

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        """Return the loss of a batch."""
        images, labels = batch
        drawn = self._epochs[self.current_epoch][index]
        inputs, targets = common.mixed(images, common.soft_targets(labels, self._work, self._cell), drawn)
        loss = F.cross_entropy(self.network(inputs), targets)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        if self.trainer.log_every_n_steps == 1:
            self.log("train_loss_step", loss)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:  # noqa: ARG002
        """Log the top-1 of a batch, to be averaged."""
        self._log_top1("val_top1", batch)

    def test_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:  # noqa: ARG002
        """Log the top-1 of a batch, to be averaged."""
        self._log_top1("test_top1", batch)

    def _log_top1(self, name: str, batch: tuple[Tensor, Tensor]) -> None:
        images, labels = batch
        right = (self.network(images).argmax(1) == labels).float().mean()
        self.log(name, right, on_step=False, on_epoch=True, batch_size=len(labels))

    def configure_optimizers(self) -> Any:
        """Return the optimizer with a rate that changes at every step."""
        optimizer, scheduler = common.optimizer(self.network, self._work, self._cell)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def train(config: DictConfig) -> None:
    """Train and log one cell."""
    out, tuned = Path(config.out), config.variant == "tuned"
    work = common.read(Path(config.work))
    cell = work.cell(config.policy, config.tricks, config.seed)
    if tuned:
        torch.set_num_threads(1)
        _silence()
    epochs = common.draw(work, cell)
    loaders = common.loaders(work, epochs, in_memory=tuned)
    logger = MLFlowLogger(EXPERIMENT, run_name=cell.name, tracking_uri=common.store(out))
    logger.log_hyperparams({"policy": cell.policy, "tricks": cell.tricks, "seed": cell.seed})
    spare: dict[str, Any] = {
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "log_every_n_steps": len(epochs[0]),
    }
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=work.epochs,
        precision="bf16-mixed" if cell.bf16 else "32-true",
        logger=logger,
        default_root_dir=out,
        **(spare if tuned else {"log_every_n_steps": 1}),
    )
    module = Classifier(work, cell, epochs)
    trainer.fit(module, loaders["train"], loaders["val"])
    trainer.test(module, loaders["test"], verbose=False)
    common.keep(module.network.state_dict(), cell, out)


def _silence() -> None:
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")


def main(work: str, out: str, variant: str, *cell: str) -> None:
    """Train all cells as one multirun, or one as a run."""
    mlflow.set_tracking_uri(common.store(Path(out)))
    mlflow.set_experiment(EXPERIMENT)  # before processes do so at once, which MLflow's migrations do not bear
    fixed = {"work": work, "out": out, "variant": variant}
    ConfigStore.instance().store("config", {**fixed, "policy": "", "tricks": "", "seed": 0})
    levels = common.read(Path(work)).levels()
    if cell:
        sys.argv[1:] = [f"{key}={value}" for key, value in zip(levels, cell, strict=True)]
    else:
        axes = [f"{key}={','.join(map(str, values))}" for key, values in levels.items()]
        joblib = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"] if variant == "tuned" else []
        sys.argv[1:] = ["--multirun", *axes, *joblib]
    sys.argv += [f"hydra.run.dir={out}/hydra", f"hydra.sweep.dir={out}/hydra"]
    hydra.main(version_base=None, config_path=None, config_name="config")(train)()


if __name__ == "__main__":
    from tests.benchmarks.peers.lightning_hydra import main as importable

    importable(*sys.argv[1:])
