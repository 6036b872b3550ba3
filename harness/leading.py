"""Leading epochs that trainings have in common: trained once, by the first of them, whose checkpoint the others take.

A shortcut: what is taken is what a training that broke off there would go on from, bit for bit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import TYPE_CHECKING

from harness.digest import digest
from harness.records import now
from harness.schedule import learning_rates, phase_steps
from harness.spec import Train
from harness.training import Training

if TYPE_CHECKING:
    from harness.checkpoint import Checkpoint

Place = tuple[str, int]
"""Digest of a training, and an epoch of it."""


def family(training: Training) -> str:
    """Return what trainings must agree on to have anything in common; of its own for one without epochs.

    It is all that decides their numbers but what does so over time: phases, schedules and how long it takes.
    """
    if training.codes:
        return training.digest
    # An average is taken of what moves in any phase.
    moving = sorted(frozenset().union(*(phase.moving for phase in training.phases))) if training.recipe.average else []
    timeless = training.train.model_copy(update={"epochs": 1, "lr": 1.0, "decay": Train.model_fields["decay"].default})
    recipe = replace(training.recipe, warmups=(), decay=None)
    return digest([replace(training, phases=(), train=timeless, recipe=recipe, diagnose=False), moving])


def shared_epochs(one: Training, other: Training, steps_per_epoch: int) -> int:
    """Return how many epochs two trainings of one family have in common: every step of them is the same."""
    alike = min(one.train.epochs, other.train.epochs) * steps_per_epoch
    for phases in zip_longest(*(_phases(training, steps_per_epoch) for training in (one, other))):
        if phases[0] != phases[1]:
            alike = min(alike, *(begin for begin, *_ in filter(None, phases)))
            break
    if alike < steps_per_epoch:
        return 0  # whatever the rates, which take time to work out
    rates = zip(*(learning_rates(training, steps_per_epoch)[:alike] for training in (one, other)), strict=True)
    return next((step for step, (a, b) in enumerate(rates) if a != b), alike) // steps_per_epoch


def _phases(training: Training, steps_per_epoch: int) -> list[tuple[int, object, object]]:
    """Return the step at which each phase begins, and what it is, whatever schedule it is on."""
    begins = phase_steps(training.phases, training.train.epochs * steps_per_epoch)
    return [(begin, phase.groups, phase.bn_stats) for begin, phase in zip(begins, training.phases, strict=True)]


def leaders(related: Sequence[Training], steps_per_epoch: int) -> dict[str, Place]:
    """Return from where each of a family's trainings goes on that has an epoch in common with an earlier one.

    That is the one with most epochs in common, the first of several, which gets there itself: had it gone on from
    another one later, that would have as many.
    """
    places = {}
    for number, training in enumerate(related):
        shared = [(other.digest, shared_epochs(other, training, steps_per_epoch)) for other in related[:number]]
        place = max(shared, key=lambda place: place[1], default=("", 0))
        if place[1]:
            places[training.digest] = place
    return places


@dataclass(frozen=True)
class Lead:
    """What a training goes on from."""

    digest: str
    """That of the training that came so far."""
    checkpoint: Checkpoint
    """With records in the name of the one that goes on; its seconds are those of both."""


class Leads:
    """The checkpoints that trainings of one process, one after another, take from those before them."""

    def __init__(self, trainings: Sequence[Training]) -> None:
        """`trainings` in the order in which they are trained."""
        self._families: dict[str, list[Training]] = defaultdict(list)
        for training in trainings:
            self._families[family(training)].append(training)
        self._places: dict[str, Place] = {}
        """Where each training that has not begun goes on from, once an epoch of its family is over."""
        self._begun: set[str] = set()
        self._kept: dict[Place, Checkpoint] = {}

    def of(self, training: Training) -> Lead | None:
        """Return what a training, which begins now, can go on from, if anything."""
        self._begun.add(training.digest)
        place = self._places.pop(training.digest, None)
        if place is None or place not in self._kept:
            return None
        wanted = place in self._places.values()
        kept = _copy(self._kept[place]) if wanted else self._kept.pop(place)
        own = tuple(replace(record, digest=training.digest, timestamp=now()) for record in kept.epochs)
        return Lead(place[0], replace(kept, epochs=own))

    def keep(self, training: Training, checkpoint: Checkpoint) -> None:
        """Keep a checkpoint where a later training goes on from it."""
        related = self._families.pop(family(training), ())
        steps_per_epoch = checkpoint.step // checkpoint.epoch  # that of the whole family
        found = leaders(related, steps_per_epoch)
        self._places |= {digest: place for digest, place in found.items() if digest not in self._begun}
        place = (training.digest, checkpoint.epoch)
        if place in self._places.values():
            self._kept[place] = _copy(checkpoint)


def _copy(checkpoint: Checkpoint) -> Checkpoint:
    """Return a checkpoint with tensors of its own, in this machine's memory: nobody needs them for a while."""
    import torch  # here, since planning asks for leaders too, and waits for no torch
    from torch.utils._pytree import tree_map_only

    copied = tree_map_only(torch.Tensor, lambda tensor: tensor.detach().to("cpu", copy=True), vars(checkpoint))
    return replace(checkpoint, **copied)
