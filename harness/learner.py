"""What learns: a network with its optimizer, precision and running average, and the one training step."""

from __future__ import annotations

from collections.abc import Collection
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from harness import compute, optimizers
from harness.freezing.apply import begin_phase, evaluation_mode, restore_gradients, training_mode
from harness.freezing.resolve import ResolvedPhase
from harness.models import outputs, weights
from harness.models.bfloat16 import spare_strided_convolutions
from harness.models.build import build_model, layout_of
from harness.prefix.batch import Batch
from harness.prefix.splice import begun_at
from harness.recipe import Average
from harness.seeds import derive
from harness.tasks.task import task_of
from harness.training import Training


def initial_model(training: Training, device: torch.device, source: weights.State | None = None) -> nn.Module:
    """Return the network as it is before the first step: head from the seed, backbone from its origin or the seed.

    `source` are the weights of the origin, where they have been read already.
    """
    module = build_model(
        training.model, training.classes, training.seed, training.kept_classes, training.data.image_size
    )
    layout = layout_of(training.model, training.classes, training.kept_classes)
    origin = training.origin
    if origin:
        given = weights.read(Path(origin.path)) if source is None else source
        weights.load_backbone(module, layout.placed(given), training.head, origin.partial)
    for _, init in training.recipe.inits:
        init(module, layout)
    seed_layers(training)
    return module.to(device).to(memory_format=compute.memory_format(training.train))


def seed_layers(training: Training) -> None:
    """Seed what layers draw from while they run (dropout): they know only torch's global generator."""
    torch.manual_seed(derive(training.seed, "layers"))


def teacher_of(training: Training, device: torch.device) -> nn.Module | None:
    """Return the trained network that the training imitates, in evaluation mode; None where it imitates none."""
    if training.teacher is None:
        return None
    module = build_model(training.teacher.model, training.classes, seed=0)
    weights.load_backbone(module, weights.read(Path(training.teacher.origin.path)), head=())
    evaluation_mode(module)
    return module.to(device).to(memory_format=compute.memory_format(training.train))


class Learner:
    """A network in training, on the device it lies on.

    Losses stay on the device, and no step waits for it but one in float16 whose optimizer is not fused: its gradients
    are searched for infinities.
    """

    phase: ResolvedPhase
    optimizer: Optimizer

    def __init__(self, module: nn.Module, training: Training, phase: ResolvedPhase | None = None) -> None:
        """Begin with `module` in `phase`, by default the training's first."""
        self.module, self._training = module, training
        self._device = next(module.parameters()).device
        recipe, self._task = training.recipe, task_of(training)
        self._forward = compute.forward_of(training.train, self._device)
        self._dtype = recipe.precision.dtype(self._device.type) if recipe.precision else torch.float32
        if self._dtype == torch.bfloat16 and self._device.type == "cpu":
            spare_strided_convolutions(module)
        # bfloat16 has the range of float32; only float16 needs its gradients scaled.
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=self._dtype == torch.float16)
        self._teacher = teacher_of(training, self._device)
        moving = frozenset().union(*(each.moving for each in training.phases))
        self._average = RunningAverage(self.module, recipe.average, moving) if recipe.average else None
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
            train.fused,
        )
        for name in phase.trainable:
            if parameters[name] in previous:
                self.optimizer.state[parameters[name]] = previous[parameters[name]]

    def leave_evaluation(self) -> None:
        """Put the network into the modes of its phase, after an evaluation."""
        training_mode(self.module, self.phase)

    def step(self, batch: Batch, lr: float) -> Tensor:
        """Take one step; return the loss before it, on the device.

        Its gradients stay until the next, so that the check of the phase can tell what they could have moved.
        """
        self.begin_step(lr)
        total = torch.zeros((), device=self._device)
        for part in batch.parts(self._training.train.accumulate):
            with torch.autocast(self._device.type, self._dtype, enabled=self._dtype != torch.float32):
                loss = self._loss(part) * (len(part.targets) / len(batch.targets))
            self._scaler.scale(loss).backward()
            total += loss.detach()
        self.end_step()
        return total

    def begin_step(self, lr: float) -> None:
        """Set the learning rate, and drop the gradients of the step before."""
        self.optimizer.zero_grad(set_to_none=True)
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["lr_factor"]
            group["peak_lr"] = max(group["peak_lr"], group["lr"])

    def end_step(self) -> None:
        """Move the weights by the gradients that there are, and the average after them."""
        self._scaler.step(self.optimizer)
        self._scaler.update()
        if self._average:
            self._average.update()

    def _loss(self, batch: Batch) -> Tensor:
        with begun_at(self.module, batch.cut):
            made = self._forward(self.module, *self._task.taken(batch))
        loss = self._task.loss(made, batch.targets)
        if self._teacher is None:
            return loss
        seen = batch.inputs if batch.teacher_inputs is None else batch.teacher_inputs
        with torch.no_grad(), begun_at(self._teacher, batch.teacher_cut):
            teacher_logits = self._forward(self._teacher, seen)
        for term in self._training.recipe.loss_terms:
            loss = term.hard_weight * loss + term(outputs.logits_of(made), teacher_logits.float())
        return loss

    def state(self) -> dict[str, Any]:
        """Return all that the next step and the check of the phase depend on besides the batch, for `restore`.

        The tensors are those in training, not copies: save them before the next step.
        """
        return {
            "module": self.module.state_dict(),
            "gradients": {name: p.grad for name, p in self.module.named_parameters() if p.grad is not None},
            "optimizer": self.optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "average": self._average.state() if self._average else None,
            "random": [generator.get_state() for generator in self._generators()],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where a learner of the same training, in the same phase, had this `state`."""
        self.module.load_state_dict(state["module"])
        restore_gradients(self.module, state["gradients"])
        self.optimizer.load_state_dict(state["optimizer"])
        self._scaler.load_state_dict(state["scaler"])
        if self._average:
            self._average.restore(state["average"])
        for generator, random in zip(self._generators(), state["random"], strict=True):
            generator.set_state(random)

    def _generators(self) -> list[torch.Generator]:
        """Return torch's own, from which layers draw."""
        on_device = [torch.cuda.default_generators[self._device.index]] if self._device.type == "cuda" else []
        return [torch.default_generator, *on_device]


class RunningAverage:
    """An exponential moving average of the parameters and buffers named `moving`; counters are copied.

    What never moves is left alone: averaged with itself, −0 would become 0, and an infinity NaN.
    """

    def __init__(self, module: nn.Module, average: Average, moving: Collection[str]) -> None:
        self.module = deepcopy(module)
        evaluation_mode(self.module)
        self._average, self._step = average, 0
        theirs = _named_tensors(module)
        pairs = [(own, theirs[name]) for name, own in _named_tensors(self.module).items() if name in moving]
        self._floats = [pair for pair in pairs if pair[0].is_floating_point()]
        self._counters = [pair for pair in pairs if not pair[0].is_floating_point()]

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the network after one of its steps."""
        keep = self._average.decay(self._step)
        self._step += 1
        torch._foreach_lerp_([old for old, _ in self._floats], [new for _, new in self._floats], 1 - keep)
        for old, new in self._counters:
            old.copy_(new)

    def state(self) -> dict[str, Any]:
        """Return the average and the number of steps behind it, for `restore`."""
        return {"module": self.module.state_dict(), "step": self._step}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state`."""
        self.module.load_state_dict(state["module"])
        self._step = state["step"]


def _named_tensors(module: nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}
