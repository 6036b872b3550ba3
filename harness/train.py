"""The one training loop: a generator of records. It names no trick, no policy and no tracker."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from harness import data
from harness.data.batches import Batches
from harness.data.normalise import Normalise
from harness.evaluate import predict, top1
from harness.freezing import check
from harness.freezing.apply import begin_phase, training_mode
from harness.freezing.resolve import ResolvedPhase
from harness.models import weights
from harness.models.build import build_model
from harness.records import Epoch, Finished
from harness.schedule import lr_factors, phase_steps
from harness.seeds import derive
from harness.training import Training


class Diverged(ArithmeticError):
    """The loss is no longer a finite number."""


def train(training: Training, cache: Path, device: torch.device) -> Iterator[Epoch | Finished]:
    """Train, yield a record for each epoch, then evaluate the last weights on test, once.

    Raises Diverged, FreezeViolation, or whatever the data or the network raise.
    """
    began = time.perf_counter()
    splits = data.load(training.located_data, training.data_content, training.seed, cache, device)
    batches = Batches(training, splits.train, device)
    normalise = Normalise(training.data, device)
    module = initial_model(training, device)

    epochs, per_epoch = training.train.epochs, batches.per_epoch
    factors = learning_rate_factors(training, per_epoch)
    begins = dict(zip(phase_steps(training.phases, epochs * per_epoch), training.phases, strict=True))
    phase, before = training.phases[0], check.snapshot(module)
    optimizer = enter_phase(module, phase, training, None)
    step = 0
    for epoch in range(1, epochs + 1):
        total = torch.zeros((), device=device)
        training_mode(module, phase)
        for images, targets in batches.epoch():
            if step in begins and step:
                require_finite(total.item(), epoch)
                check.verify(module, before, phase, optimizer)
                phase, before = begins[step], check.snapshot(module)
                optimizer = enter_phase(module, phase, training, optimizer)
            total += train_step(module, optimizer, images, targets, training.train.lr * factors[step])
            step += 1
        # The one host sync of an epoch.
        train_loss = total.item() / per_epoch
        require_finite(train_loss, epoch)
        val_top1 = top1(predict(module, splits.val, normalise), splits.val.labels)
        yield Epoch(training.digest, now(), epoch, step, train_loss, val_top1)

    check.verify(module, before, phase, optimizer)
    predictions = predict(module, splits.test, normalise)
    state = {name: tensor.detach().cpu() for name, tensor in module.state_dict().items()}
    if training.save_to:
        weights.save(state, Path(training.save_to))
    yield Finished(
        digest=training.digest,
        timestamp=now(),
        test_top1=top1(predictions, splits.test.labels),
        trainable_params=trainable_params(module, training),
        wall_s=time.perf_counter() - began,
        weights_sha256=state_sha256(state),
        test_predictions=predictions.cpu().numpy(),
        test_labels=splits.test.labels.cpu().numpy(),
        duplicates_dropped=splits.duplicates_dropped,
    )


def require_finite(loss: float, epoch: int) -> None:
    """Raise Diverged where a loss is no number."""
    if not math.isfinite(loss):
        raise Diverged(f"training loss is {loss} in epoch {epoch}")


def initial_model(training: Training, device: torch.device) -> nn.Module:
    """Return the network as it is before the first step: head from the seed, backbone from its origin or the seed."""
    module = build_model(training.model.name, training.classes, training.seed)
    if training.origin:
        weights.load_backbone(module, weights.read(Path(training.origin.path)), training.head)
    # Layers that draw while they run (dropout) know only torch's global generator.
    torch.manual_seed(derive(training.seed, "layers"))
    return module.to(device)


def learning_rate_factors(training: Training, steps_per_epoch: int) -> list[float]:
    """Return the factor on the learning rate at each step of the training."""
    decay = training.recipe.decay or training.train.decay
    return lr_factors(training.phases, training.recipe.warmups, decay, training.train.epochs, steps_per_epoch)


def enter_phase(module: nn.Module, phase: ResolvedPhase, training: Training, previous: Optimizer | None) -> Optimizer:
    """Begin a phase: what goes on learning keeps its momentum, what starts to learn starts fresh."""
    begin_phase(module, phase)
    training_mode(module, phase)
    parameters = dict(module.named_parameters())
    optimizer = SGD(
        [
            {
                "params": [parameters[name] for name in group.names],
                "weight_decay": group.weight_decay,
                "lr_factor": group.lr_factor,
                "peak_lr": 0.0,
            }
            for group in phase.groups
        ],
        lr=training.train.lr,
        momentum=training.train.momentum,
        nesterov=training.train.nesterov,
    )
    if previous:
        for name in phase.trainable:
            if parameters[name] in previous.state:
                optimizer.state[parameters[name]] = previous.state[parameters[name]]
    return optimizer


def train_step(module: nn.Module, optimizer: Optimizer, images: Tensor, targets: Tensor, lr: float) -> Tensor:
    """Take one step on images [N, 3, H, W] and targets [N, K]; return the loss before it, a scalar on the device."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_factor"]
        group["peak_lr"] = max(group["peak_lr"], group["lr"])
    loss = F.cross_entropy(module(images), targets)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.detach()


def trainable_params(module: nn.Module, training: Training) -> int:
    """Return how many parameters learn in any phase."""
    learning = frozenset().union(*(phase.trainable for phase in training.phases))
    return sum(p.numel() for name, p in module.named_parameters() if name in learning)


def state_sha256(state: dict[str, Tensor]) -> str:
    """Return a digest of the bits of a state dict on the CPU."""
    sha = hashlib.sha256()
    for name, tensor in state.items():
        sha.update(name.encode())
        sha.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


def now() -> int:
    """Return the time in milliseconds since the epoch, as MLflow counts it."""
    return time.time_ns() // 1_000_000
