"""Trainings side by side: steps of linear heads on what was kept of a frozen network are taken in one batched product.

A shortcut: before it is trusted with tensors of some shapes, their steps are taken both ways and compared bit by bit.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.learner import Learner
from harness.models import outputs
from harness.prefix.batch import Batch
from harness.prefix.splice import begun_at
from harness.records import Record
from harness.seeds import stream

_DRAWS = 3
"""Made-up batches that the gate compares, beside the first real one."""


@dataclass(frozen=True)
class Step:
    """A step that a training asks for; it is answered with the loss before the step, a scalar on the device."""

    learner: Learner
    batch: Batch
    lr: float
    head: nn.Linear | None = None
    """All that is left of the network, where that is one linear layer which learns by cross-entropy in float32."""

    def take(self) -> Tensor:
        """Take it by itself."""
        return self.learner.step(self.batch, self.lr)


Course = Generator[Record | Step, Tensor, None]
"""A training as it goes: it yields its records, and is sent the loss of each step that it asks for."""


def together(courses: Sequence[Course]) -> Iterator[Record]:
    """Run trainings, and yield their records as they come. What a step raises, its training raises.

    Those of which only a linear head is left stand side by side; any other one runs to its end before the next begins,
    since its layers may draw from torch's generator, and its images may be streamed.
    """
    steps: dict[Course, Step] = {}
    gate: dict[tuple[object, ...], bool] = {}
    for course in courses:
        step = yield from _until_step(course, None)
        while step and step.head is None:
            step = yield from _until_step(course, _taken(step))
        if step:
            steps[course] = step
    while steps:
        answers = dict(zip(steps, _take([*steps.values()], gate), strict=True))
        steps = {}
        for course, answer in answers.items():
            step = yield from _until_step(course, answer)
            if step:
                steps[course] = step


def _until_step(course: Course, answer: Tensor | Exception | None) -> Generator[Record, None, Step | None]:
    try:
        item = course.throw(answer) if isinstance(answer, Exception) else course.send(cast("Tensor", answer))
        while not isinstance(item, Step):
            yield item
            item = next(course)
    except StopIteration:
        return None
    return item


def _take(steps: Sequence[Step], gate: dict[tuple[object, ...], bool]) -> list[Tensor | Exception]:
    """Take steps, together where that gives the same bits; returns the loss of each, or what it raised."""
    shapes = {(s.batch.inputs.shape, s.batch.targets.shape, s.head.bias is None) for s in steps if s.head}
    if len(steps) > 1 and len(shapes) == 1 and all(step.head for step in steps):
        key = (len(steps), *shapes)
        if key not in gate:
            gate[key] = _gives_the_same_bits(steps)
        if gate[key]:
            with suppress(Exception):  # whatever it is, the steps by themselves will say whose it is
                return _at_once(steps)
    return [_taken(step) for step in steps]


def _taken(step: Step) -> Tensor | Exception:
    try:
        return step.take()
    except Exception as error:  # it is its training's, which turns it into a record
        return error


def _at_once(steps: Sequence[Step]) -> list[Tensor | Exception]:
    """Take steps together; what it raises, it raises before any weight has moved."""
    for step in steps:
        step.learner.begin_step(step.lr)
    losses = _losses(_heads(steps), [step.batch.inputs for step in steps], [step.batch.targets for step in steps])
    losses.sum().backward()
    return [_ended(step, loss) for step, loss in zip(steps, losses.detach(), strict=True)]


def _ended(step: Step, loss: Tensor) -> Tensor | Exception:
    try:
        step.learner.end_step()
    except Exception as error:
        return error
    return loss


def _heads(steps: Sequence[Step]) -> list[nn.Linear]:
    return [step.head for step in steps if step.head]


def _losses(heads: Sequence[nn.Linear], inputs: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
    """Return the cross-entropy [H] of heads on inputs [N, D] and targets [N, K], one of each for each head."""
    x, wanted = torch.stack([*inputs]), torch.stack([*targets])
    weight = torch.stack([head.weight for head in heads]).transpose(1, 2)
    if heads[0].bias is None:
        logits = torch.bmm(x, weight)
    else:
        logits = torch.baddbmm(torch.stack([head.bias for head in heads])[:, None], x, weight)
    # In the order in which torch sums the terms of one head, over images and classes at once.
    terms = (F.log_softmax(logits, dim=2) * wanted).flatten(1)
    return -terms.sum(1) / wanted.shape[1]


def _gives_the_same_bits(steps: Sequence[Step]) -> bool:
    """Whether losses and gradients are those of each head by itself, on these steps and on some made up."""
    drawn = stream(0, "gate of heads in bulk")
    real = [(step.batch.inputs, step.batch.targets) for step in steps]
    batches = [real]
    for _ in range(_DRAWS):
        batches.append(
            [
                (
                    torch.from_numpy(drawn.normal(size=images.shape)).to(images),
                    torch.from_numpy(drawn.dirichlet([1.0] * targets.shape[1], len(targets))).to(targets),
                )
                for images, targets in real
            ]
        )
    try:
        return all(_same(steps, batch) for batch in batches)
    except Exception:  # a shortcut that fails ends no training
        return False


def _same(steps: Sequence[Step], batch: Sequence[tuple[Tensor, Tensor]]) -> bool:
    heads = _heads(steps)
    parameters = [parameter for head in heads for parameter in head.parameters()]
    at_once = _losses(heads, *zip(*batch, strict=True))
    gradients = torch.autograd.grad(at_once.sum(), parameters)
    alone = torch.stack([_alone(step, x, y) for step, (x, y) in zip(steps, batch, strict=True)])
    expected = torch.autograd.grad(alone.sum(), parameters)
    pairs = zip((at_once, *gradients), (alone, *expected), strict=True)
    return all(torch.equal(ours, theirs) for ours, theirs in pairs)


def _alone(step: Step, inputs: Tensor, targets: Tensor) -> Tensor:
    """Return the loss of one head, as its own step has it."""
    with begun_at(step.learner.module, step.batch.cut):
        return outputs.loss(step.learner.module(inputs), targets)
