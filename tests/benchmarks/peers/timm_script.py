"""timm in a loop of one's own: `python -m tests.benchmarks.peers.timm_script WORK OUT VARIANT [POLICY TRICKS SEED]`.

Its models, data set, optimizer factory and loss for soft targets, used as in its `train.py`. `documented`: a process
for each cell. `tuned`: as in `plain.py`. Its own warmup begins otherwise and its mixup draws otherwise than those of
the harness, so rates and mixes are given.
"""

from __future__ import annotations

import sys
from pathlib import Path

import mlflow
from timm import create_model
from timm.data import create_dataset
from timm.loss import SoftTargetCrossEntropy
from timm.optim import create_optimizer_v2
from timm.utils import AverageMeter
from torch.optim.lr_scheduler import LambdaLR

from tests.benchmarks.peers import common, plain
from tests.benchmarks.peers.common import Cell, Work

EXPERIMENT = "timm"


def train(work: Work, cell: Cell, out: Path, tuned: bool) -> None:
    """Train and log one cell."""
    epochs = common.draw(work, cell)
    loaders = common.loaders(work, epochs, in_memory=tuned)
    if not tuned:
        images = create_dataset("", root=work.images, split="train")
        loaders["train"] = common.training_loader(images, epochs, work)
    module = common.begun(create_model("resnet18", num_classes=work.classes), work, cell)
    optimizer = create_optimizer_v2(common.groups(module, cell), opt="sgd", lr=work.lr, momentum=common.MOMENTUM)
    scheduler = LambdaLR(optimizer, common.schedule(cell))
    criterion = SoftTargetCrossEntropy()
    with mlflow.start_run(run_name=cell.name):
        mlflow.log_params({"policy": cell.policy, "tricks": cell.tricks, "seed": cell.seed})
        for number, batches in enumerate(epochs, 1):
            common.training_mode(module, cell)
            losses = AverageMeter()
            for batch, (images, labels) in zip(batches, loaders["train"], strict=True):
                inputs, targets = common.mixed(images, common.soft_targets(labels, work, cell), batch)
                with common.autocast(cell):
                    loss = criterion(module(inputs), targets)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                scheduler.step()
                losses.update(loss.item(), len(labels))
            figures = {"train_loss": losses.avg, "val_top1": common.top1(module, loaders["val"])}
            mlflow.log_metrics(figures, number)
        mlflow.log_metric("test_top1", common.top1(module, loaders["test"]))
    common.keep(module.state_dict(), cell, out)


if __name__ == "__main__":
    from tests.benchmarks.peers.timm_script import train as importable

    plain.main("tests.benchmarks.peers.timm_script", importable, EXPERIMENT, sys.argv[1:])
