"""What can be said of a trick under a policy before anything runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from harness.errors import HarnessError
from harness.freezing.policies import Policy
from harness.freezing.resolve import ResolvedPhase, resolve, resolve_codes
from harness.ground import Ground
from harness.recipe import Recipe
from harness.schedule import lr_factors, phase_steps
from harness.spec import Spec
from harness.tricks import Trick
from harness.wording import some

Verdict = Literal["valid", "noop", "destructive", "invalid", "excluded"]
_OF_WHOLE_IMAGES = {
    "augments": "it changes images alone, and the boxes or masks on them would not follow",
    "target_maps": "it maps a distribution over the classes of an image, which has none",
    "mixes": "it mixes distributions over the classes of two images, which have none",
    "loss_terms": "it compares a teacher's logits over the classes of an image, which has none",
}
"""Seams that mean nothing where images have boxes or masks in place of one class, each with the reason."""


@dataclass(frozen=True)
class Judged:
    """A verdict with its reason."""

    verdict: Verdict
    reason: str


def why_not(ground: Ground, policy: Policy) -> str:
    """Return why a policy means nothing on a scenario's network, data and schedule; empty where it does."""
    train, task = ground.spec.train, ground.spec.task
    if task != "classification" and (policy.codes or policy.head == "appended"):
        what = "to fit to codes" if policy.codes else "to put a new layer on"
        return f"{task}: there is no classifier of whole images {what}"
    try:
        layout = ground.layout(policy, Recipe())
        phases = resolve(policy, layout, train.weight_decay)
        resolve_codes(policy, layout)
        phase_steps(phases, train.epochs * ground.steps_per_epoch)
        if train.batch_size == 1:
            ground.try_step(phases)
    except (HarnessError, ValueError) as error:
        return str(error)
    return ""


def judge(ground: Ground, policy: Policy, trick: Trick) -> Judged | None:
    """Return why a trick cannot mean anything under a policy (`invalid`) or does harm (`destructive`), if it does."""
    recipe, task = trick(Recipe()), ground.spec.task
    if task != "classification":
        for seam, reason in _OF_WHOLE_IMAGES.items():
            if getattr(recipe, seam):
                return Judged("invalid", f"{task}: {reason}")
    if policy.codes:
        before_training = Recipe(
            surgeries=recipe.surgeries, inits=tuple((where, init) for where, init in recipe.inits if where == "source")
        )
        if recipe != before_training:
            return Judged("invalid", "no gradient step is taken: a linear classifier is fitted to the network's codes")
    try:
        layout = ground.layout(policy, recipe)
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
    if edited and pretrained:
        again = ", and some of them never learn again" if never else ""
        return Judged("destructive", f"it overwrites pretrained parameters ({some(edited, 1)}){again}")
    if never:
        return Judged("destructive", f"what it sets never learns under this policy ({some(never, 1)})")
    lost = ground.misfits(policy, recipe) if pretrained else []
    if lost:
        return Judged(
            "destructive", f"the pretrained weights do not fit, and these would start at random: {some(lost)}"
        )
    return None


def left_out(spec: Spec, policy: str, tricks: Sequence[str], levels: Mapping[str, str]) -> str:
    """Return which constraint of the spec drops a cell; empty where none does."""
    for condition in spec.exclude:
        if condition.holds(policy, tricks, levels):
            return f"the spec excludes cells {condition}"
    for condition in spec.require:
        lacking = [label for label in condition.needs if label not in tricks]
        if lacking and condition.holds(policy, tricks, levels):
            return f"the spec requires {' + '.join(lacking)} in cells {condition}"
    return ""


def left_out_always(spec: Spec, policy: str, levels: Mapping[str, str], *label: str) -> str:
    """Return which exclusion drops every cell of a policy, or every one of them that has the trick `label`."""
    conditions = (c for c in spec.exclude if c.at(policy, levels) and set(c.tricks) == {*label} and not c.without)
    return next((f"the spec excludes cells {condition}" for condition in conditions), "")
