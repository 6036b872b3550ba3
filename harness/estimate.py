"""How long a plan will take here: operations counted without weights, at the speed of one timed forward pass.

Nothing is trained. The count is exact for convolutions and matrix products; expect the time to within a factor of two.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from harness.data import Survey
from harness.freezing.apply import begin_phase, training_mode
from harness.freezing.resolve import ResolvedPhase
from harness.models import outputs
from harness.models.build import build_model
from harness.plan import Plan
from harness.schedule import phase_steps
from harness.training import Training

_OVERHEAD = 1.15
"""Optimizer and augmentation on top of the training step."""
_BUDGET_FLOPS = 2e9
"""Work of the one timed forward pass at most."""


@dataclass(frozen=True)
class Estimate:
    """Seconds on this machine."""

    trainings_s: float
    tuning_s: float
    prerequisites_s: float
    probe_s: float

    @property
    def total_s(self) -> float:
        """All of it."""
        return self.trainings_s + self.tuning_s + self.prerequisites_s + self.probe_s


def estimate(plan: Plan, jobs: int, device: torch.device) -> Estimate:
    """Estimate what running the whole plan from nothing takes with `jobs` worker processes."""
    clock = _Clock(device)
    probe = plan.study.spec.throughput
    probed = {program: training for _, program, training in plan.probed if not training.codes}
    planned = {r.training.digest: (r.training, r.data) for r in plan.replicates}
    tried = {c.training.digest: (c.training, c.data) for c in plan.candidates}
    trainings = [clock.training_s(*needed) for needed in planned.values()]
    tuning = [clock.training_s(*needed) for needed in tried.values()]
    before = [clock.training_s(p.training, p.data) for p in plan.prerequisites]
    probes = [clock.step_s(t) * 2 * probe.steps * probe.rounds * len(t.phases) for t in probed.values()]
    return Estimate(
        sum(trainings) / min(jobs, len(trainings)),
        sum(tuning) / max(min(jobs, len(tuning)), 1),
        sum(before),
        sum(probes),
    )


class _Clock:
    """Seconds of steps and of evaluations, each kind of training measured and counted once."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._forward: dict[Any, float] = {}
        self._factor: dict[Any, float] = {}

    def training_s(self, training: Training, data: Survey) -> float:
        """Return the seconds of a training with its evaluations."""
        if training.codes:  # a forward pass over every image; nothing tells how long the solver takes
            return (data.train_size + data.val_size + data.test_size) * self._image_s(training)
        epochs = training.train.epochs
        steps_per_epoch = data.train_size // training.train.batch_size
        seen = epochs * data.val_size + data.test_size
        return epochs * steps_per_epoch * self.step_s(training) + seen * self._image_s(training)

    def step_s(self, training: Training) -> float:
        """Return the seconds of one optimizer step, averaged over the phases."""
        phases = [(phase.start, sorted(phase.trainable), phase.bn_stats) for phase in training.phases]
        teacher = training.teacher.model if training.teacher else None
        key = str((training.model, training.data.image_size, teacher, phases))
        if key not in self._factor:
            alone = _forward_flops(training)
            imitated = _forward_flops(replace(training, model=teacher, kept_classes=None)) if teacher else 0.0
            self._factor[key] = (_flops_per_image(training) + imitated) / alone
        return self._factor[key] * training.train.batch_size * self._image_s(training) * _OVERHEAD

    def _image_s(self, training: Training) -> float:
        key = (training.model, training.classes, training.data.image_size, training.train.batch_size)
        if key not in self._forward:
            self._forward[key] = _seconds_per_image(training, self._device)
        return self._forward[key]


def _flops_per_image(training: Training) -> float:
    """Return the operations of training on one image, averaged over the phases by the steps they take."""
    total = 10_000
    begins = [*phase_steps(training.phases, total), total]
    shares = [(end - begin) / total for begin, end in pairwise(begins)]
    return sum(share * _phase_flops(training, phase) for share, phase in zip(shares, training.phases, strict=True))


def _phase_flops(training: Training, phase: ResolvedPhase) -> float:
    batch = 2
    with torch.device("meta"):
        module = build_model(training.model, training.classes, seed=0, kept_classes=training.kept_classes)
        images = torch.empty(batch, 3, training.data.image_size, training.data.image_size)
        targets = torch.empty(batch, training.classes)
    begin_phase(module, phase)
    training_mode(module, phase)
    with FlopCounterMode(display=False) as counter:
        outputs.loss(module(images), targets).backward()
    return float(counter.get_total_flops()) / batch


def _forward_flops(training: Training) -> float:
    """Return the operations of one image's forward pass."""
    with torch.device("meta"), torch.inference_mode(), FlopCounterMode(display=False) as counter:
        module = build_model(training.model, training.classes, seed=0, kept_classes=training.kept_classes).eval()
        module(torch.empty(1, 3, training.data.image_size, training.data.image_size))
    return float(counter.get_total_flops())


def _seconds_per_image(training: Training, device: torch.device) -> float:
    """Time the forward pass of the training's network, at its batch size or as much of it as the budget allows."""
    batch = int(min(training.train.batch_size, max(1, _BUDGET_FLOPS // _forward_flops(training))))
    module = build_model(training.model, training.classes, seed=0, kept_classes=training.kept_classes).to(device).eval()
    images = torch.zeros(batch, 3, training.data.image_size, training.data.image_size, device=device)
    threads = torch.get_num_threads()
    torch.set_num_threads(training.train.threads)
    try:
        return min(_forward_s(module, images, device) for _ in range(3)) / batch
    finally:
        torch.set_num_threads(threads)


def _forward_s(module: torch.nn.Module, images: torch.Tensor, device: torch.device) -> float:
    began = time.perf_counter()
    with torch.inference_mode():
        module(images)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began
