"""What can be said of a trick under a policy before anything runs."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from harness.errors import HarnessError
from harness.freezing.policies import Policy
from harness.freezing.resolve import ResolvedPhase, resolve
from harness.ground import Ground
from harness.recipe import Recipe
from harness.schedule import lr_factors
from harness.tricks import Trick
from harness.wording import some

Verdict = Literal["valid", "noop", "destructive", "invalid"]
_BEFORE_TRAINING = ("surgeries",)
"""Seams that mean something where no gradient step is taken."""


@dataclass(frozen=True)
class Judged:
    """A verdict with its reason."""

    verdict: Verdict
    reason: str


def judge(ground: Ground, policy: Policy, trick: Trick) -> Judged | None:
    """Return why a trick cannot mean anything under a policy (`invalid`) or does harm (`destructive`), if it does."""
    recipe = trick(Recipe())
    if policy.codes:
        seams = [field.name for field in fields(recipe) if getattr(recipe, field.name) != field.default]
        if any(seam not in _BEFORE_TRAINING for seam in seams):
            return Judged("invalid", "no gradient step is taken: a linear classifier is fitted to the network's codes")
    try:
        layout = ground.layout(recipe)
        phases = resolve(policy, layout, ground.spec.train.weight_decay)
        train = ground.spec.train
        lr_factors(phases, recipe.warmups, train.decay, train.epochs, ground.steps_per_epoch)
        edited = [name for where, init in recipe.inits if where != "source" for name in init.touches(layout)]
    except (HarnessError, ValueError) as error:
        return Judged("invalid", str(error))
    return _destructive(ground, policy, recipe, edited, phases)


def _destructive(
    ground: Ground, policy: Policy, recipe: Recipe, edited: list[str], phases: tuple[ResolvedPhase, ...]
) -> Judged | None:
    """Return what pretrained or never learning weights are lost to a trick's edits."""
    pretrained = policy.init == "pretrained" and ground.spec.weights is not None
    never = [name for name in edited if not any(name in phase.trainable for phase in phases)]
    if never:
        return Judged("destructive", f"what it sets never learns under this policy: {some(never)}")
    if edited and pretrained:
        return Judged("destructive", f"it overwrites {len(edited)} pretrained parameters: {some(edited)}")
    lost = ground.misfits(recipe) if pretrained else []
    if lost:
        return Judged("destructive", f"the pretrained weights do not fit and would start at random: {some(lost)}")
    return None
