"""Trainings of two steps, and a look inside: what each step got, and what it did to the weights."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from harness import train as loop
from harness.execute.job import Job
from harness.execute.worker import perform
from harness.freezing.policies import POLICIES
from harness.freezing.resolve import resolve
from harness.learner import Learner
from harness.models.build import layout_of
from harness.records import Epoch, Failed, Finished, Started
from harness.spec import Data, Model, OptimizerSpec, Train
from harness.supplies import Supplies
from harness.training import Training
from harness.tricks import Trick, compose

CPU = torch.device("cpu")
State = dict[str, Tensor]

PLAIN_SGD = OptimizerSpec(options={"momentum": 0.0, "nesterov": False})
SMALL = Model(name="cifar_resnet8")
BOTTLENECKS = Model(name="mini_resnet14", variant="a")
"""A small network on which every surgery has a meaning."""
TWO_CLASSES = Data(name="digits", classes=("5", "6"), image_size=8, train_per_class=8)


def two_steps(
    tricks: Mapping[str, Trick] | None = None, policy: str = "full", seed: int = 0, model: Model = SMALL, **train: Any
) -> Training:
    """Return a training of 16 images in two batches, from random weights; `train` are settings of the spec."""
    settings = Train(**{"epochs": 1, "batch_size": 8, "lr": 0.05, **train})
    recipe = compose(dict(tricks or {}))
    lr = settings.lr * prod(scale(settings.batch_size) for scale in recipe.lr_scales)
    for _, surgery in recipe.surgeries:
        model = surgery(model)
    phases = resolve(POLICIES[policy], layout_of(model, 2), settings.weight_decay, recipe.param_rules)
    return Training(
        model=model,
        classes=2,
        head=("fc",),
        origin=None,
        data=TWO_CLASSES,
        data_content="digits",
        train=settings.model_copy(update={"lr": lr}),
        recipe=replace(recipe, param_rules=(), lr_scales=(), surgeries=(), teacher=None),
        phases=phases,
        seed=seed,
    )


@dataclass(frozen=True)
class Step:
    """One optimizer step as the loop took it."""

    images: Tensor
    targets: Tensor
    lr: float
    loss: float
    before: State
    after: State


def watch(training: Training, cache: Path) -> list[Step]:
    """Train, and return every step."""
    steps: list[Step] = []
    take = Learner.step

    def spy(self, batch, lr):
        before = copy_of(self.module.state_dict())
        loss = take(self, batch, lr)
        after = copy_of(self.module.state_dict())
        steps.append(Step(batch.inputs, batch.targets, lr, loss.item(), before, after))
        return loss

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Learner, "step", spy)
        run(training, cache)
    return steps


def run(training: Training, cache: Path) -> tuple[list[Epoch], Finished]:
    """Train, and return the records of the epochs and the last one."""
    *epochs, last = loop.train(training, Supplies(cache, CPU))
    assert isinstance(last, Finished)
    return [record for record in epochs if isinstance(record, Epoch)], last


def copy_of(state: State) -> State:
    return {name: tensor.detach().clone() for name, tensor in state.items()}


def changed(before: State, after: State) -> set[str]:
    """Return the names whose bytes differ; NumPy's bytes, so that it shares nothing with the harness' own check."""
    assert list(before) == list(after)
    return {name for name in before if before[name].numpy().tobytes() != after[name].numpy().tobytes()}


def performed(trainings: list[Training], cache: Path, reuse: bool) -> tuple[dict[str, Any], dict[str, str]]:
    """Return every number of each training, and who led it."""
    found: dict[str, Any] = {}
    led: dict[str, str] = {}
    job = Job(tuple(trainings), cache, reuse=cache / "shared" if reuse else None)
    for record in perform(job, "cpu"):
        assert not isinstance(record, Failed), record
        if isinstance(record, Started) and record.led_by:
            led[record.digest] = record.led_by
        elif isinstance(record, Epoch):
            found.setdefault(record.digest, []).append((record.epoch, record.step, record.train_loss, record.val))
        elif isinstance(record, Finished):
            found[record.digest].append((record.weights_sha256, record.test, record.changed))
    return found, led
