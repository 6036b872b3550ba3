"""What the cells of one scenario stand on: its images, its network, and the weights that they begin with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar, get_args

from harness.data import Survey, survey
from harness.digest import digest, file_digest
from harness.errors import HarnessError, unknown
from harness.facts import Facts
from harness.freezing.policies import Phase, Policy
from harness.freezing.resolve import ResolvedPhase, resolve, resolve_codes
from harness.models.layout import Layout
from harness.models.zoo import MODELS
from harness.recipe import Recipe, TeacherSpec, Where
from harness.spec import Data, Model, Spec, Train
from harness.specfile import Scenario, Study
from harness.training import Origin, Teacher, Training
from harness.versions import version_mark
from harness.workspace import Workspace

T = TypeVar("T")
Task = Literal["source", "target"]
Role = Literal["pretraining", "teacher"]
ROLES: tuple[Role, ...] = get_args(Role)
"""In an order in which each finds what it needs."""
EVERYTHING = Policy(phases=(Phase(trainable=("all",), bn_stats=("all",)),), init="random")


@dataclass(frozen=True)
class Prerequisite:
    """A training that others need, done once before them."""

    training: Training
    data: Survey
    role: Role

    @property
    def at_seed_0(self) -> Training:
        """The training at one seed for all, where each seed has its own: so much like it that one probe serves all."""
        return replace(self.training, seed=0, save_to=None)

    @property
    def program(self) -> str:
        """Digest of the training whatever its seed."""
        return self.at_seed_0.digest

    @property
    def images(self) -> int:
        """How many images it sees, epoch by epoch, each as often as it is shown."""
        train = self.training.train
        return train.epochs * (self.data.train_size // train.batch_size) * train.batch_size


class Ground:
    """One scenario of a study, looked through: makes the trainings of its cells, and what they need first."""

    def __init__(
        self,
        study: Study,
        scenario: Scenario,
        workspace: Workspace,
        facts: Facts | None = None,
        surveys: dict[Data, Survey] | None = None,
    ) -> None:
        """Look through the data, once for all scenarios that share `surveys`.

        Raises HarnessError where it cannot be split or fills no batch.
        """
        self.spec: Spec = scenario.spec
        self.scenario = scenario
        self._study, self._workspace = study, workspace
        self.facts = facts or Facts(workspace.facts)
        self._surveys = {} if surveys is None else surveys
        self._sources: dict[tuple[object, ...], tuple[Training, Survey]] = {}
        self._origins: dict[tuple[object, ...], Origin | None] = {}
        self.data = self._survey(self.spec.data, self.spec.train)
        self.prerequisites: dict[str, Prerequisite] = {}
        """By digest: those of all the trainings made so far."""

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of an epoch."""
        return self.data.train_size // self.spec.train.batch_size

    def layout(self, policy: Policy, recipe: Recipe) -> Layout:
        """Return the layout of the target's network; raises ValueError for an edit that it has no place for."""
        model, kept_classes = self._model(recipe, "target"), self._kept_classes(policy, recipe)
        return self.facts.layout(model, len(self.data.classes), kept_classes)

    def try_step(self, phases: Sequence[ResolvedPhase]) -> None:
        """Raise ValueError where a batch cannot be trained on: batch norm would see one value per channel."""
        spec = self.spec
        self.facts.check_step(spec.model, len(self.data.classes), spec.data.image_size, spec.train.batch_size, phases)

    def misfits(self, policy: Policy, recipe: Recipe) -> list[str]:
        """Return the target's parameters outside the head for which the pretrained network has none of that shape."""
        if self.spec.weights is None:
            return []
        edited = self.spec.weights.pretrain is not None
        source = self.facts.layout(self._model(recipe if edited else Recipe(), "source"), len(self.data.classes))
        target = self.layout(policy, recipe)
        given = target.placed(dict(source.parameters))
        shared = [pair for pair in target.parameters if target.stage(pair[0]) != "head"]
        return [name for name, shape in shared if given.get(name) != shape]

    def trainings(
        self, policy: Policy, recipe: Recipe, seeds: Sequence[int], lr: float | None = None
    ) -> list[Training]:
        """Return the trainings of a cell at `seeds`, at the spec's learning rate or at `lr`."""
        spec, train, layout = self.spec, self.spec.train, self.layout(policy, recipe)
        scaled = lr or train.lr
        for scale in recipe.lr_scales:
            scaled *= scale(train.batch_size)
        made = Training(
            model=self._model(recipe, "target"),
            classes=len(self.data.classes),
            head=layout.head,
            origin=self._entering(policy, recipe),
            data=_unplaced(spec.data, self.data),
            data_content=self.data.content,
            train=train.model_copy(update={"lr": scaled}),
            recipe=self._effective(recipe),
            phases=resolve(policy, layout, train.weight_decay, recipe.param_rules),
            seed=seeds[0],
            kept_classes=self._kept_classes(policy, recipe),
            codes=resolve_codes(policy, layout),
            diagnose=spec.diagnostics.batch_norm and not policy.codes,
            data_root=spec.data.root,
        )
        found = made.at(seeds)
        if recipe.teacher:
            found = [replace(each, teacher=self._teacher(recipe.teacher, each.seed)) for each in found]
        return [self._kept(each) for each in found] if spec.keep_weights else found

    def _model(self, recipe: Recipe, task: Task) -> Model:
        """Return the edited network; that of the source is a classifier, whatever the study is for."""
        model = self.spec.model if task == "target" else self.spec.model.model_copy(update={"head": None})
        for surgery in _of(task, recipe.surgeries):
            model = surgery(model)
        return model

    def _effective(self, recipe: Recipe) -> Recipe:
        """Return a recipe without what leaves no trace in a training, so that cells alike have one digest.

        Edits of the network stand in its description, parameter rules in the phases, where those without effect are
        not seen, and factors on the learning rate in the rate; a ramp of one step is none.
        """
        return replace(
            recipe,
            surgeries=(),
            inits=tuple(("both", init) for init in _of("target", recipe.inits)),
            param_rules=(),
            lr_scales=(),
            warmups=tuple(warmup for warmup in recipe.warmups if warmup.steps(self.steps_per_epoch) > 1),
            teacher=None,
        )

    def _entering(self, policy: Policy, recipe: Recipe) -> Origin | None:
        """Return the pretrained weights that a cell begins with, if any."""
        origin = self._origin(recipe) if policy.init == "pretrained" else None
        lenient = self.spec.weights is not None and self.spec.weights.allow_mismatch
        return replace(origin, partial=True) if origin and (lenient or self.misfits(policy, recipe)) else origin

    def _kept_classes(self, policy: Policy, recipe: Recipe) -> int | None:
        """Return the classes of the old classifier that a policy keeps; raises ValueError where there is none."""
        if policy.head != "appended":
            return None
        given = self.spec.weights
        if given is None or policy.init == "random":
            raise ValueError("there is no old classifier to keep: the network starts from random weights")
        if given.pretrain:
            return len(self._pretraining(recipe)[1].classes)
        if given.torchvision:
            return self.facts.torchvision(self.spec.model.name, given.torchvision).classes
        return self.facts.classes_of(Path(str(given.checkpoint)), self.spec.model)

    def _origin(self, recipe: Recipe) -> Origin | None:
        """Return the pretrained weights of a cell; raises HarnessError where a file is missing or means nothing."""
        edits = (tuple(_of("source", recipe.surgeries)), tuple(_of("source", recipe.inits)))
        if edits not in self._origins:
            self._origins[edits] = self._find_origin(recipe)
        return self._origins[edits]

    def _find_origin(self, recipe: Recipe) -> Origin | None:
        given, model = self.spec.weights, self.spec.model
        with self._study.placing("weights"):
            if given is None:
                return None
            if given.checkpoint:
                return Origin(file_digest(Path(given.checkpoint)), given.checkpoint)
            if given.torchvision:
                if model.variant == "a":
                    raise HarnessError("torchvision's weights are of variant b; variant a has its strides elsewhere")
                entry = self.facts.torchvision(model.name, given.torchvision)
                # The file's name ends in a part of its sha256.
                return Origin(digest(entry.url), entry.path)
            return self._trained_first(self._pretraining(recipe), "pretraining")

    def _pretraining(self, recipe: Recipe) -> tuple[Training, Survey]:
        edits = (tuple(_of("source", recipe.surgeries)), tuple(_of("source", recipe.inits)))
        if edits not in self._sources:
            self._sources[edits] = self._make_pretraining(recipe)
        return self._sources[edits]

    def _make_pretraining(self, recipe: Recipe) -> tuple[Training, Survey]:
        source = self.spec.weights.pretrain if self.spec.weights else None
        assert source is not None  # the spec allows exactly one of three
        found = self._survey(source.data, source.train, "weights", "pretrain")
        shared = set(found.classes) & set(self.data.classes)
        if shared and source.data.taken_from == self.spec.data.taken_from:
            raise HarnessError(
                f"source and target share the images of class {', '.join(sorted(shared))}, so test images of the "
                "target would be trained on; give each task classes of its own"
            )
        with self._study.placing("weights", "pretrain", "train", "optimizer"):
            self.facts.check_optimizer(source.train.optimizer, source.train.fused)
        model = self._model(recipe, "source")
        layout = self.facts.layout(model, len(found.classes))
        training = Training(
            model=model,
            classes=len(found.classes),
            head=layout.head,
            origin=None,
            data=_unplaced(source.data, found),
            data_content=found.content,
            train=source.train,
            recipe=Recipe(inits=tuple(("both", init) for init in _of("source", recipe.inits))),
            phases=resolve(EVERYTHING, layout, source.train.weight_decay),
            seed=source.seed,
            data_root=source.data.root,
        )
        return training, found

    def _teacher(self, wanted: TeacherSpec, seed: int) -> Teacher:
        """Return the teacher of a training: read from a file, or trained as a whole on the same images.

        One of the study's own model begins with the study's weights, one of another with random ones.
        Where seeds draw their training images each has a teacher of its own, which saw no other images.
        """
        if wanted.model and wanted.model not in MODELS:
            raise HarnessError(unknown("model of the teacher", wanted.model, MODELS))
        model = Model(name=wanted.model) if wanted.model else self.spec.model
        if wanted.checkpoint:
            path = self._study.path.resolve().parent / wanted.checkpoint
            return Teacher(model, Origin(file_digest(path), str(path)))
        self.facts.check_image_size(model, len(self.data.classes), self.spec.data.image_size)
        own, layout = model == self.spec.model, self.facts.layout(model, len(self.data.classes))
        train = self.spec.train.model_copy(update={"epochs": wanted.epochs} if wanted.epochs else {})
        training = Training(
            model=model,
            classes=len(self.data.classes),
            head=layout.head,
            origin=self._origin(Recipe()) if own else None,
            data=_unplaced(self.spec.data, self.data),
            data_content=self.data.content,
            train=train,
            recipe=Recipe(),
            phases=resolve(EVERYTHING, layout, train.weight_decay),
            seed=seed if self.spec.data.train_per_class else 0,
            data_root=self.spec.data.root,
        )
        return Teacher(model, self._trained_first((training, self.data), "teacher"))

    def _trained_first(self, made: tuple[Training, Survey], role: Role) -> Origin:
        training, data = self._kept(made[0]), made[1]
        self.prerequisites.setdefault(training.digest, Prerequisite(training, data, role))
        return Origin(training.digest, str(training.save_to))

    def _kept(self, training: Training) -> Training:
        """Return a training that keeps its weights."""
        return training.saved_to(self._workspace.weights(training.digest, version_mark()))

    def _survey(self, data: Data, train: Train, *section: str) -> Survey:
        """Look through the data of the spec or of its `section`; raises HarnessError where no batch could be filled."""
        if data not in self._surveys:
            with self._study.placing(*section, "data", *(("root",) if data.root else ("classes",))):
                if data.root and data.download:
                    self._workspace.check_download(Path(data.root))
                self._surveys[data] = survey(data, self._workspace.cache, self.spec.task)
        found = self._surveys[data]
        model = self._model(Recipe(), "source" if section else "target")
        with self._study.placing(*section, "data", "image_size"):
            self.facts.check_image_size(model, len(found.classes), data.image_size)
        if found.train_size < train.batch_size:
            with self._study.placing(*section, "train", "batch_size"):
                raise HarnessError(f"{train.batch_size} is more than the {found.train_size} training images")
        return found


def _of(task: Task, seam: tuple[tuple[Where, T], ...]) -> list[T]:
    return [item for where, item in seam if where in (task, "both")]


def _unplaced(data: Data, found: Survey) -> Data:
    """Return a data section by content: its classes named, its folder left out."""
    return data.model_copy(update={"root": None, "classes": found.classes})
