"""The one training loop: a generator of records. It names no trick, no policy and no tracker."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import nn

from harness.bulk import Course, Step, together
from harness.checkpoint import Checkpoint
from harness.data.normalise import Normalise
from harness.diagnose import diagnose
from harness.freezing import check
from harness.learner import Learner
from harness.models import weights
from harness.prefix.cut import only_head_learns
from harness.prefix.inputs import Inputs
from harness.prefix.kept import Kept, kept_of
from harness.records import Diagnosed, Epoch, Finished, Record, now
from harness.schedule import learning_rates, phase_numbers
from harness.supplies import Supplies
from harness.tasks.task import task_of
from harness.training import Training


class Diverged(ArithmeticError):
    """The loss is no longer a finite number."""


def train(
    training: Training,
    supplies: Supplies,
    keep: Callable[[Checkpoint], None] | None = None,
    saved: Checkpoint | None = None,
) -> Iterator[Record]:
    """Run the course of a training by itself; arguments, records and what it raises are those of `course`."""
    return together([course(training, supplies, keep, saved)])


def course(
    training: Training,
    supplies: Supplies,
    keep: Callable[[Checkpoint], None] | None = None,
    saved: Checkpoint | None = None,
) -> Course:
    """Train, yield a record for each epoch, then evaluate the last weights on test, once.

    Each step is asked for, so that whoever runs the course may take steps of several trainings at once. `keep` is
    handed a checkpoint after each epoch, before its record is yielded; its tensors are those in training. With one that
    was `saved` the records so far are yielded again, and the rest is trained.
    Raises Diverged, FreezeViolation, or whatever the data or the network raise.
    """
    began = time.perf_counter() - (saved.wall_s if saved else 0)
    device, task = supplies.device, task_of(training)
    splits = supplies.splits(training)
    start = supplies.start(training)
    module, before = start.copy(), start.tensors
    phase = saved.phase if saved else 0
    kept = kept_of(training, start, splits, supplies, phase)
    inputs = Inputs(training, splits, kept, device)
    batches, epochs = inputs.batches, training.train.epochs
    head = head_of(module, training, kept)
    learner = Learner(module, training, training.phases[phase])

    rates, phases = learning_rates(training, batches.per_epoch), phase_numbers(training, batches.per_epoch)
    done, step = list[Epoch](), 0
    if saved:
        yield from saved.epochs
        done, step = list(saved.epochs), saved.step
        before = {name: tensor.to(device) for name, tensor in saved.before.items()}
        batches.restore(saved.streams)
        learner.restore(saved.learner)
        del saved  # it is as large as all that learns
    for epoch in range(len(done) + 1, epochs + 1):
        total = torch.zeros((), device=device)
        learner.leave_evaluation()
        for batch in inputs.epoch(phases[step : step + batches.per_epoch]):
            if phases[step] != phase:
                require_finite(total.item(), epoch)
                check.verify(module, before, learner.phase, learner.optimizer)
                before, phase = check.snapshot(module), phases[step]
                learner.enter(training.phases[phase])
            total += yield Step(learner, batch, rates[step], head)
            step += 1
        # The one host sync of an epoch.
        train_loss = total.item() / batches.per_epoch
        require_finite(train_loss, epoch)
        val = task.scores(inputs.predict(learner.evaluated, "val", phase), splits.val, training.classes)
        done.append(Epoch(training.digest, now(), epoch, step, train_loss, val))
        if keep:
            spent = time.perf_counter() - began
            keep(Checkpoint(learner.state(), phase, before, batches.state(), tuple(done), spent))
        yield done[-1]

    check.verify(module, before, learner.phase, learner.optimizer)
    predictions = inputs.predict(learner.evaluated, "test", phase)
    floors = task.floors(start.copy, splits, training.classes, Normalise(training.data, device))
    predicted, labels = task.by_image(predictions, splits.test)
    state = {name: tensor.detach().cpu() for name, tensor in learner.evaluated.state_dict().items()}
    moving = frozenset().union(*(phase.moving for phase in training.phases))
    if training.save_to:
        weights.save(state, Path(training.save_to))
    finished = Finished(
        digest=training.digest,
        timestamp=now(),
        test=task.scores(predictions, splits.test, training.classes) | floors,
        trainable_params=trainable_params(module, training),
        wall_s=time.perf_counter() - began,
        weights_sha256=start.sha256(state, moving),
        changed=start.changed(state, moving),
        test_predictions=predicted,
        test_labels=labels,
        duplicates_dropped=splits.duplicates_dropped,
        notes=kept.notes,
        pictures=task.pictures(predictions, splits),
    )
    if training.diagnose:
        yield Diagnosed(
            training.digest, now(), diagnose(training, learner.evaluated, splits, Normalise(training.data, device))
        )
    yield finished


def head_of(module: nn.Module, training: Training, kept: Kept) -> nn.Linear | None:
    """Return all that is left of a network, where that is one linear layer that learns by cross-entropy in float32."""
    part = kept.parts[-1]
    if not part.views or not part.cut or not only_head_learns(training):
        return None
    head = module.get_submodule(part.cut.entry)
    return head if isinstance(head, nn.Linear) else None


def require_finite(loss: float, epoch: int) -> None:
    """Raise Diverged where a loss is no number."""
    if not math.isfinite(loss):
        raise Diverged(f"training loss is {loss} in epoch {epoch}")


def trainable_params(module: nn.Module, training: Training) -> int:
    """Return how many parameters learn in any phase."""
    learning = frozenset().union(*(phase.trainable for phase in training.phases))
    return sum(p.numel() for name, p in module.named_parameters() if name in learning)
