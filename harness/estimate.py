"""How long a plan will take here: operations counted without weights, at the speed of one timed forward pass.

Nothing is trained. The count is exact for convolutions and matrix products; expect the time to within a factor of two.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from harness.freezing.apply import begin_phase, training_mode
from harness.freezing.resolve import ResolvedPhase
from harness.models.build import build_model
from harness.plan import Plan
from harness.schedule import phase_steps
from harness.training import Training

_OVERHEAD = 1.15
"""Optimizer, augmentation and evaluation on top of the training step."""
_BUDGET_FLOPS = 2e9
"""Work of the one timed forward pass at most."""


@dataclass(frozen=True)
class Estimate:
    """Seconds on this machine."""

    trainings_s: float
    prerequisites_s: float
    probe_s: float

    @property
    def total_s(self) -> float:
        """All of it."""
        return self.trainings_s + self.prerequisites_s + self.probe_s


def estimate(plan: Plan, jobs: int, device: torch.device) -> Estimate:
    """Estimate what running the whole plan from nothing takes with `jobs` worker processes."""
    rates: dict[tuple[str, int, int], float] = {}
    steps: dict[str, float] = {}

    def step_s(training: Training) -> float:
        key = (training.model.name, training.data.image_size, training.train.batch_size)
        if key not in rates:
            rates[key] = _seconds_per_flop(training, device)
        program = _cost_key(training)
        if program not in steps:
            steps[program] = _flops_per_image(training) * training.train.batch_size * rates[key] * _OVERHEAD
        return steps[program]

    trainings = plan.trainings.values()
    total = sum(step_s(t) * t.train.epochs * plan.steps_per_epoch for t in trainings)
    probe = plan.study.spec.throughput
    first = {r.program: r.training for r in plan.replicates}
    probes = sum(step_s(t) * 2 * probe.steps * probe.rounds * len(t.phases) for t in first.values())
    before = sum(step_s(t) * t.train.epochs * plan.source_steps_per_epoch for t in plan.prerequisites)
    return Estimate(total / min(jobs, len(trainings)), before, probes)


def _cost_key(training: Training) -> str:
    return str([(phase.start, sorted(phase.trainable), phase.bn_stats) for phase in training.phases])


def _flops_per_image(training: Training) -> float:
    """Return the operations of training on one image, averaged over the phases by the steps they take."""
    total = 10_000
    begins = [*phase_steps(training.phases, total), total]
    shares = [(end - begin) / total for begin, end in pairwise(begins)]
    return sum(share * _phase_flops(training, phase) for share, phase in zip(shares, training.phases, strict=True))


def _phase_flops(training: Training, phase: ResolvedPhase) -> float:
    batch = 2
    with torch.device("meta"):
        module = build_model(training.model.name, training.classes, seed=0)
        images = torch.empty(batch, 3, training.data.image_size, training.data.image_size)
        targets = torch.empty(batch, training.classes)
    begin_phase(module, phase)
    training_mode(module, phase)
    with FlopCounterMode(display=False) as counter:
        F.cross_entropy(module(images), targets).backward()
    return float(counter.get_total_flops()) / batch


def _seconds_per_flop(training: Training, device: torch.device) -> float:
    """Time the forward pass of the training's network, at its batch size or as much of it as the budget allows."""
    size = training.data.image_size
    module = build_model(training.model.name, training.classes, seed=0).to(device).eval()
    threads = torch.get_num_threads()
    torch.set_num_threads(training.train.threads)
    try:
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            module(torch.zeros(1, 3, size, size, device=device))
        flops = counter.get_total_flops()
        batch = int(min(training.train.batch_size, max(1, _BUDGET_FLOPS // flops)))
        images = torch.zeros(batch, 3, size, size, device=device)
        return min(_forward_s(module, images, device) for _ in range(3)) / float(flops * batch)
    finally:
        torch.set_num_threads(threads)


def _forward_s(module: torch.nn.Module, images: torch.Tensor, device: torch.device) -> float:
    began = time.perf_counter()
    with torch.inference_mode():
        module(images)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began
