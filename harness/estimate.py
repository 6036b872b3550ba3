"""How long a plan will take here: operations counted without weights, at the speed of one timed forward pass.

Nothing is trained. The count is exact for convolutions and matrix products; expect the time to within a factor of two.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass, replace

from harness.data import Survey
from harness.devices import device_name
from harness.facts import Facts
from harness.plan import Plan
from harness.spec import WARM_UP, Model
from harness.training import Training

_OVERHEAD = 1.15
"""Optimizer and augmentation on top of the training step."""


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


def estimate(plan: Plan, jobs: int, device: str) -> Estimate:
    """Estimate what running the whole plan from nothing takes with `jobs` worker processes on `device`."""
    clock = _Clock(device, plan.facts)
    probe, probed = plan.study.spec.throughput, {program: training for _, program, training in plan.probed}
    trainings = {r.training.digest: r.program for r in plan.replicates}
    of_program = {r.program: clock.training_s(r.training, r.data) for r in plan.first.values()}
    tried = {c.training.digest: (c.training, c.data) for c in plan.candidates}
    tuning = [clock.training_s(*needed) for needed in tried.values()]
    before = [clock.training_s(p.training, p.data) for p in plan.prerequisites]
    steps = (min(probe.steps, WARM_UP) + probe.steps) * probe.rounds if probe else 0
    probes = [clock.step_s(t) * steps * len(t.phases) for t in probed.values() if not t.codes]
    return Estimate(
        sum(of_program[program] for program in trainings.values()) / min(jobs, len(trainings)),
        sum(tuning) / max(min(jobs, len(tuning)), 1),
        sum(before),
        sum(probes),
    )


class _Clock:
    """Seconds of steps and of evaluations, each kind of training measured and counted once."""

    def __init__(self, device: str, facts: Facts) -> None:
        self._device, self._facts = device, facts
        self._machine = (platform.node(), device_name(device))

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
        seconds = self._factor(training) * self._image_s(training)
        return seconds * training.train.batch_size * _OVERHEAD

    def _factor(self, training: Training) -> float:
        """Return how many forward passes of its network a training step is worth, those of its teacher included."""
        teacher = training.teacher.model if training.teacher else None
        phases = tuple((phase.start, tuple(sorted(phase.trainable))) for phase in training.phases)

        def find() -> float:
            from harness import flops

            imitated = flops.of_forward(replace(training, model=teacher, kept_classes=None)) if teacher else 0.0
            return (flops.of_training(training) + imitated) / flops.of_forward(training)

        factor: float = self._facts.recall("forward passes of a step", (*_network(training), teacher, phases), find)
        return factor

    def _image_s(self, training: Training) -> float:
        """Return the seconds of one image's forward pass, as they were when this machine was first asked."""

        def find() -> float:
            import torch

            from harness import flops

            return flops.seconds_per_image(training, torch.device(self._device))

        given = (*self._machine, *_network(training), training.train.batch_size, training.train.threads)
        seconds: float = self._facts.recall("seconds of an image", given, find)
        return seconds


def _network(training: Training) -> tuple[Model, int, int | None, int]:
    """Return what decides the operations of a forward pass."""
    return training.model, training.classes, training.kept_classes, training.data.image_size
