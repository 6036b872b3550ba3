"""What the cells of one scenario stand on: its images, its network, and the weights that they begin with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar, get_args

from harness.data import Survey, survey
from harness.digest import digest
from harness.errors import HarnessError, unknown
from harness.freezing.policies import Phase, Policy
from harness.freezing.resolve import resolve, resolve_codes
from harness.models import weights
from harness.models.build import check_image_size, layout_of
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
        self, study: Study, scenario: Scenario, workspace: Workspace, surveys: dict[Data, Survey] | None = None
    ) -> None:
        """Look through the data, once for all scenarios that share `surveys`.

        Raises HarnessError where it cannot be split or fills no batch.
        """
        self.spec: Spec = scenario.spec
        self.scenario = scenario
        self._study, self._workspace = study, workspace
        self._surveys = {} if surveys is None else surveys
        self._origins: dict[tuple[object, ...], Origin | None] = {}
        self.data = self._survey(self.spec.data, self.spec.train)
        self.prerequisites: dict[str, Prerequisite] = {}
        """By digest: those of all the trainings made so far."""

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of an epoch."""
        return self.data.train_size // self.spec.train.batch_size

    def layout(self, recipe: Recipe) -> Layout:
        """Return the layout of the target's network; raises ValueError for an edit that it has no place for."""
        return layout_of(self._model(recipe, "target"), len(self.data.classes))

    def misfits(self, recipe: Recipe) -> list[str]:
        """Return the target's parameters outside the head for which the pretrained network has none of that shape."""
        given = set(self._given(recipe))
        return [name for name, shape in self.layout(recipe).parameters if given and (name, shape) not in given]

    def _fresh(self, recipe: Recipe) -> tuple[str, ...]:
        """Return the modules, outside the head, of parameters that either network has and the other has not."""
        given, target = self._given(recipe), self.layout(recipe).parameters
        apart = set(given) ^ set(target) if given else set()
        names = [name for name, shape in (*target, *given) if (name, shape) in apart]
        return tuple(dict.fromkeys(name.rpartition(".")[0] for name in names))

    def _given(self, recipe: Recipe) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """Return name and shape of each pretrained parameter, under a head like the target's; none without weights."""
        if self.spec.weights is None:
            return ()
        edited = recipe if self.spec.weights.pretrain else Recipe()
        return layout_of(self._model(edited, "source"), len(self.data.classes)).parameters

    def training(self, policy: Policy, recipe: Recipe, seed: int, lr: float | None = None) -> Training:
        """Return the training of a cell at a seed, at the spec's learning rate or at `lr`."""
        spec, train = self.spec, self.spec.train
        pretrained = policy.init == "pretrained"
        scaled = lr or train.lr
        for scale in recipe.lr_scales:
            scaled *= scale(train.batch_size)
        made = Training(
            model=self._model(recipe, "target"),
            classes=len(self.data.classes),
            head=self.layout(recipe).head,
            fresh=self._fresh(recipe) if pretrained else (),
            origin=self._origin(recipe) if pretrained else None,
            data=_unplaced(spec.data, self.data),
            data_content=self.data.content,
            train=train.model_copy(update={"lr": scaled}),
            recipe=self._effective(recipe),
            phases=resolve(policy, self.layout(recipe), train.weight_decay, recipe.param_rules),
            seed=seed,
            codes=resolve_codes(policy, self.layout(recipe)),
            diagnose=spec.diagnostics.batch_norm,
            data_root=spec.data.root,
        )
        return replace(made, teacher=self._teacher(recipe.teacher, seed)) if recipe.teacher else made

    def _model(self, recipe: Recipe, task: Task) -> Model:
        model = self.spec.model
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
                return Origin(weights.file_digest(Path(given.checkpoint)), given.checkpoint)
            if given.torchvision:
                entry = weights.torchvision_weights(model.name, given.torchvision)
                # The file's name ends in a part of its sha256.
                return Origin(digest(entry.url), str(weights.torchvision_path(entry)))
            return self._trained_first(self._pretraining(recipe), "pretraining")

    def _pretraining(self, recipe: Recipe) -> tuple[Training, Survey]:
        source = self.spec.weights.pretrain if self.spec.weights else None
        assert source is not None  # the spec allows exactly one of three
        found = self._survey(source.data, source.train, "weights", "pretrain")
        shared = set(found.classes) & set(self.data.classes)
        if shared and (source.data.name, source.data.root) == (self.spec.data.name, self.spec.data.root):
            raise HarnessError(
                f"source and target share the images of class {', '.join(sorted(shared))}, so test images of the "
                "target would be trained on; give each task classes of its own"
            )
        model = self._model(recipe, "source")
        training = Training(
            model=model,
            classes=len(found.classes),
            head=layout_of(model, len(found.classes)).head,
            origin=None,
            data=_unplaced(source.data, found),
            data_content=found.content,
            train=source.train,
            recipe=Recipe(inits=tuple(("both", init) for init in _of("source", recipe.inits))),
            phases=resolve(EVERYTHING, layout_of(model, len(found.classes)), source.train.weight_decay),
            seed=source.seed,
            data_root=source.data.root,
        )
        return training, found

    def _teacher(self, wanted: TeacherSpec, seed: int) -> Teacher:
        """Return the teacher of a training, fine-tuned as a whole on the same images, or read from a file.

        Where seeds draw their training images each has a teacher of its own, which saw no other images.
        """
        if wanted.model and wanted.model not in MODELS:
            raise HarnessError(unknown("model of the teacher", wanted.model, MODELS))
        model = Model(name=wanted.model) if wanted.model else self.spec.model
        if wanted.checkpoint:
            path = self._study.path.resolve().parent / wanted.checkpoint
            return Teacher(model, Origin(weights.file_digest(path), str(path)))
        check_image_size(model, len(self.data.classes), self.spec.data.image_size)
        own = model == self.spec.model
        train = self.spec.train.model_copy(update={"epochs": wanted.epochs} if wanted.epochs else {})
        training = Training(
            model=model,
            classes=len(self.data.classes),
            head=layout_of(model, len(self.data.classes)).head,
            origin=self._origin(Recipe()) if own else None,
            data=_unplaced(self.spec.data, self.data),
            data_content=self.data.content,
            train=train,
            recipe=Recipe(),
            phases=resolve(EVERYTHING, layout_of(model, len(self.data.classes)), train.weight_decay),
            seed=seed if self.spec.data.train_per_class else 0,
            data_root=self.spec.data.root,
        )
        return Teacher(model, self._trained_first((training, self.data), "teacher"))

    def _trained_first(self, made: tuple[Training, Survey], role: Role) -> Origin:
        training, data = made
        path = str(self._workspace.checkpoints / f"{training.digest}-{version_mark()}.pt")
        self.prerequisites.setdefault(training.digest, Prerequisite(replace(training, save_to=path), data, role))
        return Origin(training.digest, path)

    def _survey(self, data: Data, train: Train, *section: str) -> Survey:
        """Look through the data of the spec or of its `section`; raises HarnessError where no batch could be filled."""
        if data not in self._surveys:
            with self._study.placing(*section, "data", *(("root",) if data.root else ("classes",))):
                self._surveys[data] = survey(data, self._workspace.cache)
        found = self._surveys[data]
        with self._study.placing(*section, "data", "image_size"):
            check_image_size(self.spec.model, len(found.classes), data.image_size)
        if found.train_size < train.batch_size:
            with self._study.placing(*section, "train", "batch_size"):
                raise HarnessError(f"{train.batch_size} is more than the {found.train_size} training images")
        return found


def _of(task: Task, seam: tuple[tuple[Where, T], ...]) -> list[T]:
    return [item for where, item in seam if where in (task, "both")]


def _unplaced(data: Data, found: Survey) -> Data:
    """Return a data section by content: its classes named, its folder left out."""
    return data.model_copy(update={"root": None, "classes": found.classes})
