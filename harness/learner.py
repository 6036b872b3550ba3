"""What learns: a network with its optimizer, precision and running average, and the one training step."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from harness import optimizers
from harness.freezing.apply import begin_phase, evaluation_mode, training_mode
from harness.freezing.resolve import ResolvedPhase
from harness.models import weights
from harness.models.build import build_model, layout_of
from harness.recipe import Average
from harness.seeds import derive
from harness.training import Training


def initial_model(training: Training, device: torch.device) -> nn.Module:
    """Return the network as it is before the first step: head from the seed, backbone from its origin or the seed."""
    module = build_model(training.model, training.classes, training.seed)
    if training.origin:
        weights.load_backbone(module, weights.read(Path(training.origin.path)), training.head)
    for _, init in training.recipe.inits:
        init(module, layout_of(training.model, training.classes))
    # Layers that draw while they run (dropout) know only torch's global generator.
    torch.manual_seed(derive(training.seed, "layers"))
    return module.to(device)


def teacher_of(training: Training, device: torch.device) -> nn.Module | None:
    """Return the trained network that the training imitates, in evaluation mode; None where it imitates none."""
    if training.teacher is None:
        return None
    module = build_model(training.teacher.model, training.classes, seed=0)
    weights.load_backbone(module, weights.read(Path(training.teacher.origin.path)), head=())
    evaluation_mode(module)
    return module.to(device)


class Learner:
    """A network in training, on the device it lies on. It waits for nothing: losses stay on the device."""

    phase: ResolvedPhase
    optimizer: Optimizer

    def __init__(self, module: nn.Module, training: Training, phase: ResolvedPhase | None = None) -> None:
        """Begin with `module` in `phase`, by default the training's first."""
        self.module, self._training = module, training
        self._device = next(module.parameters()).device
        recipe = training.recipe
        self._dtype = recipe.precision.dtype(self._device.type) if recipe.precision else torch.float32
        # bfloat16 has the range of float32; only float16 needs its gradients scaled.
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=self._dtype == torch.float16)
        self._teacher = teacher_of(training, self._device)
        self._average = RunningAverage(self.module, recipe.average) if recipe.average else None
        self.enter(phase or training.phases[0])

    @property
    def evaluated(self) -> nn.Module:
        """The network to evaluate and to keep: the running average where there is one."""
        return self._average.module if self._average else self.module

    def enter(self, phase: ResolvedPhase) -> None:
        """Begin a phase: what goes on learning keeps its momentum, what starts to learn starts fresh."""
        previous = self.optimizer.state if hasattr(self, "optimizer") else {}
        self.phase = phase
        begin_phase(self.module, phase)
        training_mode(self.module, phase)
        parameters = dict(self.module.named_parameters())
        train = self._training.train
        self.optimizer = optimizers.make(
            train.optimizer,
            [
                {
                    "params": [parameters[name] for name in group.names],
                    "weight_decay": group.weight_decay,
                    "lr_factor": group.lr_factor,
                    "peak_lr": 0.0,
                }
                for group in phase.groups
            ],
            train.lr,
        )
        for name in phase.trainable:
            if parameters[name] in previous:
                self.optimizer.state[parameters[name]] = previous[parameters[name]]

    def train(self) -> None:
        """Put the network into the modes of its phase, after an evaluation."""
        training_mode(self.module, self.phase)

    def step(self, images: Tensor, targets: Tensor, lr: float) -> Tensor:
        """Take one step on images [N, 3, H, W] and targets [N, K]; return the loss before it, on the device."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["lr_factor"]
            group["peak_lr"] = max(group["peak_lr"], group["lr"])
        with torch.autocast(self._device.type, self._dtype, enabled=self._dtype != torch.float32):
            loss = self._loss(images, targets)
        self._scaler.scale(loss).backward()
        self._scaler.step(self.optimizer)
        self._scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if self._average:
            self._average.update(self.module)
        return loss.detach()

    def _loss(self, images: Tensor, targets: Tensor) -> Tensor:
        logits = self.module(images)
        loss = F.cross_entropy(logits, targets)
        if self._teacher is None:
            return loss
        with torch.no_grad():
            teacher_logits = self._teacher(images)
        for term in self._training.recipe.loss_terms:
            loss = term.hard_weight * loss + term(logits, teacher_logits)
        return loss


class RunningAverage:
    """An exponential moving average of every parameter and buffer; counters are copied."""

    def __init__(self, module: nn.Module, average: Average) -> None:
        self.module = deepcopy(module)
        evaluation_mode(self.module)
        self._average, self._step = average, 0

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Move the average towards `module` after one of its steps."""
        keep = self._average.decay(self._step)
        self._step += 1
        for old, new in zip(_tensors(self.module), _tensors(module), strict=True):
            if old.is_floating_point():
                old.lerp_(new, 1 - keep)
            else:
                old.copy_(new)


def _tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]
