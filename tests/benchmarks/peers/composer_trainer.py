"""Composer: `python -m tests.benchmarks.peers.composer_trainer WORK OUT VARIANT [POLICY TRICKS SEED]`.

Its trainer with its own MLflow logger. `documented`: a process for each cell, loader workers, all threads. `tuned`: two
processes that stay, of one thread, with the decoded images in memory and no progress bar. Its label smoothing spreads ε
otherwise and its mixup draws otherwise than the harness, so targets and mixes are given.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from composer import Callback, Logger, State, Trainer
from composer.loggers import MLFlowLogger
from composer.models import ComposerModel
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy

from tests.benchmarks.peers import common, plain
from tests.benchmarks.peers.common import Batch, Cell, Work

EXPERIMENT = "composer"


class Classifier(ComposerModel):
    """A cell as a model of Composer."""

    def __init__(self, work: Work, cell: Cell, epochs: list[list[Batch]]) -> None:
        super().__init__()
        self.network = common.network(work, cell)
        self._work, self._cell = work, cell
        self._drawn = iter([batch for epoch in epochs for batch in epoch])
        self._accuracy = MulticlassAccuracy(num_classes=work.classes, average="micro")

    def forward(self, batch: tuple[Tensor, Tensor]) -> Any:
        """Return the logits of a batch, in training with its targets as the cell draws them."""
        images, labels = batch
        if not self.training:
            return self.network(images)
        targets = common.soft_targets(labels, self._work, self._cell)
        inputs, self._targets = common.mixed(images, targets, next(self._drawn))
        return self.network(inputs)

    def loss(self, outputs: Tensor, _: Any) -> Tensor:
        """Return the loss of the last batch."""
        return F.cross_entropy(outputs, self._targets)

    def get_metrics(self, is_train: bool) -> dict[str, Metric]:
        """Return what is measured in evaluation."""
        return {} if is_train else {"top1": self._accuracy}

    def update_metric(self, batch: tuple[Tensor, Tensor], outputs: Tensor, metric: Metric) -> None:
        """Count a batch."""
        metric.update(outputs, batch[1])


class Steps(Callback):
    """Keeps what is frozen in evaluation mode, and logs the figures under the names that all rows have."""

    def __init__(self, cell: Cell) -> None:
        self._cell, self._losses = cell, list[float]()

    def epoch_start(self, state: State, _: Logger) -> None:
        """Freeze."""
        common.training_mode(state.model.network, self._cell)

    def batch_start(self, state: State, _: Logger) -> None:
        """Freeze again: the trainer puts the model in training mode after an evaluation."""
        common.training_mode(state.model.network, self._cell)

    def batch_end(self, state: State, _: Logger) -> None:
        """Note the loss."""
        assert isinstance(state.loss, Tensor)
        self._losses.append(state.loss.item())

    def epoch_end(self, state: State, logger: Logger) -> None:
        """Log the mean loss."""
        logger.log_metrics({"train_loss": sum(self._losses) / len(self._losses)}, int(state.timestamp.batch))
        self._losses.clear()

    def eval_end(self, state: State, logger: Logger) -> None:
        """Log the top-1 of the split that was evaluated."""
        (split,) = [name for name in state.eval_metrics if name == state.dataloader_label]
        value = state.eval_metrics[split]["top1"].compute().item()
        logger.log_metrics({f"{split}_top1": value}, int(state.timestamp.batch))


def train(work: Work, cell: Cell, out: Path, tuned: bool) -> None:
    """Train and log one cell."""
    from composer.core import Evaluator

    epochs = common.draw(work, cell)
    loaders = common.loaders(work, epochs, in_memory=tuned)
    model = Classifier(work, cell, epochs)
    optimizer, scheduler = common.optimizer(model.network, work, cell)
    tracking = MLFlowLogger(experiment_name=EXPERIMENT, run_name=cell.name, tracking_uri=common.store(out))
    evaluators = {
        split: Evaluator(label=split, dataloader=loaders[split], metric_names=["top1"]) for split in ("val", "test")
    }
    trainer = Trainer(
        model=model,
        train_dataloader=loaders["train"],
        eval_dataloader=evaluators["val"],
        max_duration=f"{work.epochs}ep",
        optimizers=optimizer,
        schedulers=scheduler,
        step_schedulers_every_batch=True,
        device="cpu",
        precision="amp_bf16" if cell.bf16 else "fp32",
        loggers=[tracking],
        callbacks=[Steps(cell)],
        device_train_microbatch_size=work.batch_size,  # which it would ask of a loader without a batch sampler
        progress_bar=not tuned,
        run_name=cell.name,
    )
    trainer.fit()
    trainer.eval(evaluators["test"])
    trainer.close()
    common.keep(model.network.state_dict(), cell, out)


if __name__ == "__main__":
    from tests.benchmarks.peers.composer_trainer import train as importable

    plain.main("tests.benchmarks.peers.composer_trainer", importable, EXPERIMENT, sys.argv[1:])
