"""Spec to Plan: the cells, what each trains, what they share, what cannot run and why. It writes nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from harness.data import Survey, survey
from harness.designs import TrickSet, trick_sets
from harness.digest import digest
from harness.errors import HarnessError
from harness.freezing.policies import Phase, Policy
from harness.freezing.resolve import resolve
from harness.models import weights
from harness.models.build import layout_of
from harness.models.layout import Layout
from harness.models.zoo import MODELS
from harness.recipe import Conflict, Recipe
from harness.schedule import lr_factors, phase_steps
from harness.spec import Data, Spec, Train
from harness.specfile import Study
from harness.training import Origin, Training
from harness.tricks import compose
from harness.versions import version_mark
from harness.workspace import Workspace

_NAMED = 3
Verdict = Literal["valid", "noop", "invalid"]


@dataclass(frozen=True)
class Cell:
    """One policy with one trick set."""

    policy: str
    tricks: TrickSet
    all_of: int
    """How many tricks the study has."""

    @property
    def trick_set(self) -> str:
        """The name of the trick set; the set of all goes by its size where it would be long."""
        if len(self.tricks) == self.all_of > _NAMED:
            return f"all {self.all_of} together"
        return " + ".join(self.tricks) or "baseline"

    @property
    def name(self) -> str:
        """The name people read, without the seed."""
        return f"{self.policy} | {self.trick_set}"


@dataclass(frozen=True)
class Replicate:
    """One cell at one seed, and the training it needs."""

    cell: Cell
    seed: int
    training: Training
    program: str
    """Digest of the training at the first seed: replicates that differ by seed alone have one program."""

    @property
    def name(self) -> str:
        """The name people read."""
        return f"{self.cell.name} | seed {self.seed}"


@dataclass(frozen=True)
class Judgement:
    """What can be said of a cell before it runs."""

    cell: Cell
    verdict: Verdict
    reason: str = ""


@dataclass(frozen=True)
class Plan:
    """All that a spec asks for."""

    study: Study
    replicates: tuple[Replicate, ...]
    judgements: tuple[Judgement, ...]
    """One for each cell asked for, in order; invalid ones have no replicates."""
    prerequisites: tuple[Training, ...]
    """What is trained once, before the replicates."""
    data: Survey
    """The target task's images."""
    source: Survey | None
    """The source task's images, where the plan pretrains."""

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of an epoch."""
        return self.data.train_size // self.study.spec.train.batch_size

    @property
    def source_steps_per_epoch(self) -> int:
        """Optimizer steps of an epoch on the source task; 0 where there is none."""
        return self.source.train_size // self.prerequisites[0].train.batch_size if self.source else 0

    @property
    def trainings(self) -> dict[str, Training]:
        """The distinct trainings of the replicates by digest, in order."""
        return {r.training.digest: r.training for r in self.replicates}

    @property
    def programs(self) -> dict[Cell, str]:
        """The cells that run, in order, each with its program."""
        return {r.cell: r.program for r in self.replicates}


def make_plan(study: Study, workspace: Workspace) -> Plan:
    """Expand a study; raises HarnessError where it cannot mean anything."""
    spec = study.spec
    found = _survey(study, spec.data, spec.train)
    layout = layout_of(spec.model, len(found.classes))
    with study.placing("weights"):
        prerequisites, source, origin = _pretrained(study, found, workspace)
    judgements: list[Judgement] = []
    replicates: list[Replicate] = []
    programs: dict[str, Cell] = {}
    for name in spec.policies:
        policy = spec.policy(name)
        with study.placing("policies", name):
            invalid = _invalid_tricks(study, policy, layout, found)
        labels = [label for label in study.tricks if label not in invalid]
        judgements += [
            Judgement(Cell(name, (label,), len(study.tricks)), "invalid", why) for label, why in invalid.items()
        ]
        for tricks in trick_sets(spec, labels):
            cell = Cell(name, tricks, len(study.tricks))
            try:
                recipe = compose({label: study.tricks[label] for label in tricks})
            except Conflict as conflict:
                judgements.append(Judgement(cell, "invalid", str(conflict)))
                continue
            training = _training(spec, policy, recipe, layout, origin, found)
            twin = programs.setdefault(training.digest, cell)
            judgements.append(
                Judgement(cell, "valid")
                if twin == cell
                else Judgement(cell, "noop", f"the same training as {twin.name!r}, whose runs it shares")
            )
            trainings = [replace(training, seed=seed) for seed in spec.seeds]
            if spec.keep_weights:
                trainings = [_kept(each, workspace) for each in trainings]
            replicates += [Replicate(cell, each.seed, each, training.digest) for each in trainings]
    if not replicates:
        raise HarnessError(f"{study.path}: the grid is empty: {_reasons(judgements)}")
    return Plan(study, tuple(replicates), tuple(judgements), prerequisites, found, source)


def _reasons(judgements: list[Judgement]) -> str:
    return "; ".join(f"{j.cell.name}: {j.reason}" for j in judgements if j.reason)


def _invalid_tricks(study: Study, policy: Policy, layout: Layout, found: Survey) -> dict[str, str]:
    """Return the tricks that can mean nothing under a policy, with the reason: they leave its design altogether.

    Raises HarnessError where the policy itself can mean nothing.
    """
    train = study.spec.train
    steps = found.train_size // train.batch_size
    phases = resolve(policy, layout, train.weight_decay)
    try:
        phase_steps(phases, train.epochs * steps)
    except ValueError as error:
        raise HarnessError(str(error)) from None
    reasons = {}
    for label, trick in study.tricks.items():
        try:
            lr_factors(phases, trick(Recipe()).warmups, train.decay, train.epochs, steps)
        except ValueError as error:
            reasons[label] = str(error)
    return reasons


def _training(
    spec: Spec, policy: Policy, recipe: Recipe, layout: Layout, origin: Origin | None, found: Survey
) -> Training:
    return Training(
        model=spec.model,
        classes=len(found.classes),
        head=_head(spec.model.name),
        origin=origin if policy.init == "pretrained" else None,
        data=_unplaced(spec.data, found),
        data_content=found.content,
        train=spec.train,
        recipe=_effective(recipe, found.train_size // spec.train.batch_size),
        phases=resolve(policy, layout, spec.train.weight_decay, recipe.param_rules),
        seed=spec.seeds[0],
        diagnose=spec.diagnostics.batch_norm,
        data_root=spec.data.root,
    )


_EVERYTHING = Policy(phases=(Phase(trainable=("all",), bn_stats=("all",)),), init="random")


def _pretrained(
    study: Study, target: Survey, workspace: Workspace
) -> tuple[tuple[Training, ...], Survey | None, Origin | None]:
    """Return the trainings that the spec's weights need, the images for them, and where the weights will be."""
    spec = study.spec
    if spec.weights is None:
        return (), None, None
    if spec.weights.checkpoint:
        path = Path(spec.weights.checkpoint)
        return (), None, Origin(weights.file_digest(path), str(path))
    if spec.weights.torchvision:
        entry = weights.torchvision_weights(spec.model.name, spec.weights.torchvision)
        # The file's name ends in a part of its sha256.
        return (), None, Origin(digest(entry.url), str(weights.torchvision_path(entry)))
    assert spec.weights.pretrain is not None  # the spec allows exactly one of three
    source = spec.weights.pretrain
    found = _survey(study, source.data, source.train, "weights", "pretrain")
    shared = set(found.classes) & set(target.classes)
    if shared and (source.data.name, source.data.root) == (spec.data.name, spec.data.root):
        raise HarnessError(
            f"source and target share the images of class {', '.join(sorted(shared))}, so test images of the target "
            "would be trained on; give each task classes of its own"
        )
    layout = layout_of(spec.model, len(found.classes))
    training = Training(
        model=spec.model,
        classes=len(found.classes),
        head=_head(spec.model.name),
        origin=None,
        data=_unplaced(source.data, found),
        data_content=found.content,
        train=source.train,
        recipe=Recipe(),
        phases=resolve(_EVERYTHING, layout, source.train.weight_decay),
        seed=source.seed,
        data_root=source.data.root,
    )
    kept = _kept(training, workspace)
    return (kept,), found, Origin(kept.digest, str(kept.save_to))


def _kept(training: Training, workspace: Workspace) -> Training:
    """Return a training that keeps its weights."""
    return replace(training, save_to=str(workspace.weights(training.digest, version_mark())))


def _effective(recipe: Recipe, steps_per_epoch: int) -> Recipe:
    """Return a recipe without what leaves no trace in a training, so that cells alike have one digest.

    What parameter rules decide stands in the phases, where one without effect is not seen; a ramp of one step is none.
    """
    warmups = tuple(warmup for warmup in recipe.warmups if warmup.steps(steps_per_epoch) > 1)
    return replace(recipe, param_rules=(), warmups=warmups)


def _unplaced(data: Data, found: Survey) -> Data:
    """Return a data section by content: its classes named, its folder left out."""
    return data.model_copy(update={"root": None, "classes": found.classes})


def _head(model: str) -> tuple[str, ...]:
    return dict(MODELS[model].stages)["head"]


def _survey(study: Study, data: Data, train: Train, *section: str) -> Survey:
    """Look through the data of the spec or of its `section`; raises HarnessError where no batch could be filled."""
    with study.placing(*section, "data", *(("root",) if data.root else ("classes",))):
        found = survey(data)
    if found.train_size < train.batch_size:
        with study.placing(*section, "train", "batch_size"):
            raise HarnessError(f"{train.batch_size} is more than the {found.train_size} training images")
    return found
