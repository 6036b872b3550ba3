"""What is trained once, before the cells of a scenario: the networks they begin with, and teachers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeVar, get_args

from harness.data import Survey
from harness.digest import digest, file_digest
from harness.errors import HarnessError, unknown
from harness.facts import Facts
from harness.freezing.policies import Phase, Policy
from harness.freezing.resolve import resolve
from harness.models.zoo import MODELS
from harness.recipe import Recipe, TeacherSpec, Where
from harness.schedule import lr_factors
from harness.spec import Data, Model, Pretrain, Spec, Train
from harness.specfile import Scenario, Study
from harness.training import Origin, Teacher, Training
from harness.tricks import Trick, compose
from harness.versions import version_mark
from harness.workspace import Workspace

T = TypeVar("T")
Side = Literal["source", "target"]
Role = Literal["source teacher", "pretraining", "teacher"]
ROLES: tuple[Role, ...] = get_args(Role)
"""In an order in which each finds what it needs."""
EVERYTHING = Policy(phases=(Phase(trainable=("all",), bn_stats=("all",)),), init="random")


@dataclass(frozen=True)
class Prerequisite:
    """A training that others need, done once before them."""

    training: Training
    data: Survey
    role: Role
    tricks: tuple[str, ...] = ()
    """Labels of the tricks it is trained with, and the parameters that are not their defaults."""

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


class Earlier:
    """What the trainings of a scenario's cells need to be trained before them."""

    def __init__(
        self,
        study: Study,
        scenario: Scenario,
        workspace: Workspace,
        facts: Facts,
        survey: Callable[..., Survey],
    ) -> None:
        """`survey` looks through the data of the spec, or of a section of it that is named after it."""
        self._study, self._workspace, self._facts, self._survey = study, workspace, facts, survey
        self._spec: Spec = scenario.spec
        self._tricks = scenario.source_tricks
        self._sources: dict[tuple[object, ...], Prerequisite] = {}
        self._origins: dict[tuple[object, ...], Origin | None] = {}
        self.prerequisites: dict[str, Prerequisite] = {}
        """By digest: those of all that was asked for so far."""

    def origin(self, recipe: Recipe) -> Origin | None:
        """Return the pretrained weights of a cell; raises HarnessError where a file is missing or means nothing."""
        edits = (tuple(seam(recipe.surgeries, "source")), tuple(seam(recipe.inits, "source")))
        if edits not in self._origins:
            self._origins[edits] = self._find_origin(recipe)
        return self._origins[edits]

    def classes(self, recipe: Recipe) -> int:
        """Return how many classes the pretrained network tells, where the spec has weights."""
        given, model = self._spec.weights, self._spec.model
        assert given is not None
        if given.pretrain:
            return len(self._pretraining(recipe).data.classes)
        if given.torchvision:
            return self._facts.torchvision(model.name, given.torchvision).classes
        return self._facts.classes_of(Path(str(given.checkpoint)), model)

    def teacher(self, wanted: TeacherSpec, seed: int, target: Survey) -> Teacher:
        """Return the teacher of a training: read from a file, or trained as a whole on the same images.

        One of the study's own model begins with the study's weights, one of another with random ones.
        Where seeds draw their training images each has a teacher of its own, which saw no other images.
        """
        spec = self._spec
        seed = seed if spec.data.drawn_by_seed else 0
        origin = self.origin if wanted.model is None else None
        return self._taught(wanted, spec.data, spec.train, target, "teacher", seed, spec.model, origin)

    def kept(self, training: Training) -> Training:
        """Return a training that keeps its weights."""
        return training.saved_to(self._workspace.weights(training.digest, version_mark()))

    def _find_origin(self, recipe: Recipe) -> Origin | None:
        given, model = self._spec.weights, self._spec.model
        with self._study.placing("weights"):
            if given is None:
                return None
            if given.checkpoint:
                return Origin(file_digest(Path(given.checkpoint)), given.checkpoint)
            if given.torchvision:
                if model.variant == "a":
                    raise HarnessError("torchvision's weights are of variant b; variant a has its strides elsewhere")
                entry = self._facts.torchvision(model.name, given.torchvision)
                # The file's name ends in a part of its sha256.
                return Origin(digest(entry.url), entry.path)
            return self._first(self._pretraining(recipe))

    def _pretraining(self, recipe: Recipe) -> Prerequisite:
        edits = (tuple(seam(recipe.surgeries, "source")), tuple(seam(recipe.inits, "source")))
        if edits not in self._sources:
            self._sources[edits] = self._make_pretraining(recipe)
        return self._sources[edits]

    @property
    def _pretrain(self) -> Pretrain:
        source = self._spec.weights.pretrain if self._spec.weights else None
        assert source is not None  # the spec allows exactly one of three
        return source

    @cached_property
    def _images(self) -> Survey:
        """The images of the source task."""
        source, target = self._pretrain, self._survey(self._spec.data, self._spec.train)
        found = self._survey(source.data, source.train, "weights", "pretrain")
        shared = set(found.classes) & set(target.classes)
        if shared and source.data.taken_from == self._spec.data.taken_from:
            raise HarnessError(
                f"source and target share the images of class {', '.join(sorted(shared))}, so test images of the "
                "target would be trained on; give each task classes of its own"
            )
        with self._study.placing("weights", "pretrain", "train", "optimizer"):
            self._facts.check_optimizer(source.train.optimizer, source.train.fused)
        return found

    def _make_pretraining(self, recipe: Recipe) -> Prerequisite:
        source, found, tricks = self._pretrain, self._images, self._tricks
        model, steps = model_of(self._spec, recipe, "source"), found.train_size // source.train.batch_size
        layout = self._facts.layout(model, len(found.classes))
        with self._study.placing("weights", "pretrain", "tricks"):
            try:
                own = compose(tricks)
                phases = resolve(EVERYTHING, layout, source.train.weight_decay, own.param_rules)
                lr_factors(phases, own.warmups, source.train.decay, source.train.epochs, steps)
            except ValueError as error:
                raise HarnessError(str(error)) from None
            if own.surgeries:
                raise HarnessError("what edits the network is a trick of the study, or a setting of `model`")
            teacher = (
                self._taught(own.teacher, source.data, source.train, found, "source teacher", source.seed, model)
                if own.teacher
                else None
            )
        made = effective(own, steps, "source")
        training = Training(
            model=model,
            classes=len(found.classes),
            head=layout.head,
            origin=None,
            data=by_content(source.data, found),
            data_content=found.content,
            train=scaled(source.train, own),
            recipe=replace(made, inits=(*made.inits, *(("both", init) for init in seam(recipe.inits, "source")))),
            phases=phases,
            seed=source.seed,
            teacher=teacher,
            data_root=source.data.root,
        )
        return Prerequisite(training, found, "pretraining", tuple(map(_named, tricks.items())))

    def _taught(
        self,
        wanted: TeacherSpec,
        data: Data,
        train: Train,
        found: Survey,
        role: Role,
        seed: int,
        own: Model,
        origin: Callable[[Recipe], Origin | None] | None = None,
    ) -> Teacher:
        """Return a teacher on images of `data`: of another model than `own` where one is wanted."""
        if wanted.model and wanted.model not in MODELS:
            raise HarnessError(unknown("model of the teacher", wanted.model, MODELS))
        model = Model(name=wanted.model) if wanted.model else own
        if wanted.checkpoint:
            path = self._study.path.resolve().parent / wanted.checkpoint
            return Teacher(model, Origin(file_digest(path), str(path)))
        self._facts.check_image_size(model, len(found.classes), data.image_size)
        layout = self._facts.layout(model, len(found.classes))
        training = Training(
            model=model,
            classes=len(found.classes),
            head=layout.head,
            origin=origin(Recipe()) if origin else None,
            data=by_content(data, found),
            data_content=found.content,
            train=train.model_copy(update={"epochs": wanted.epochs} if wanted.epochs else {}),
            recipe=Recipe(),
            phases=resolve(EVERYTHING, layout, train.weight_decay),
            seed=seed,
            data_root=data.root,
        )
        return Teacher(model, self._first(Prerequisite(training, found, role)))

    def _first(self, needed: Prerequisite) -> Origin:
        training = self.kept(needed.training)
        self.prerequisites.setdefault(training.digest, replace(needed, training=training))
        return Origin(training.digest, str(training.save_to))


def _named(labelled: tuple[str, Trick]) -> str:
    label, trick = labelled
    usual, given = asdict(type(trick)()), asdict(trick)  # type: ignore[call-overload]
    return " ".join([label, *(f"{name} {value}" for name, value in given.items() if value != usual[name])])


def model_of(spec: Spec, recipe: Recipe, side: Side) -> Model:
    """Return the edited network; that of the source is a classifier, whatever the study is for."""
    model = spec.model if side == "target" else spec.model.model_copy(update={"head": None})
    for surgery in seam(recipe.surgeries, side):
        model = surgery(model)
    return model


def effective(recipe: Recipe, steps_per_epoch: int, side: Side) -> Recipe:
    """Return a recipe without what leaves no trace in a training, so that cells alike have one digest.

    Edits of the network stand in its description, parameter rules in the phases, where those without effect are not
    seen, and factors on the learning rate in the rate; a ramp of one step is none. All tricks of the source are its.
    """
    return replace(
        recipe,
        surgeries=(),
        inits=tuple(("both", init) for where, init in recipe.inits if side == "source" or where != "source"),
        param_rules=(),
        lr_scales=(),
        warmups=tuple(warmup for warmup in recipe.warmups if warmup.steps(steps_per_epoch) > 1),
        teacher=None,
    )


def scaled(train: Train, recipe: Recipe, lr: float | None = None) -> Train:
    """Return a training's settings at its learning rate or at `lr`, times the factors of a recipe."""
    rate = lr or train.lr
    for scale in recipe.lr_scales:
        rate *= scale(train.batch_size)
    return train.model_copy(update={"lr": rate})


def seam(items: tuple[tuple[Where, T], ...], side: Side) -> list[T]:
    """Return the edits that are made to one of the two networks."""
    return [item for where, item in items if where in (side, "both")]


def by_content(data: Data, found: Survey) -> Data:
    """Return a data section by content: its classes named, its folder left out."""
    return data.model_copy(update={"root": None, "classes": found.classes})
