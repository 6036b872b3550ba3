"""The study: the grid of policies × trick sets × seeds over one training."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from harness.artifacts import finals
from harness.errors import unknown
from harness.freezing.policies import POLICIES, Policy
from harness.models.zoo import HEADS
from harness.spec import axes as axis
from harness.spec.data import SCENES, Data
from harness.spec.designs import Design, Exclusion, Fault, Requirement, faults
from harness.spec.execution import Execution
from harness.spec.primary import Primary
from harness.spec.section import Positive, Rate, Section
from harness.spec.sections import Model, Train, TrickSpec, Weights, augment_fits, from_list
from harness.tasks.metrics import METRICS, Task, score_of

_MOST_SEEDS = 10_000
_FIRST_TUNING_SEED = 1_000_000
_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]*"


def _check_name(name: str) -> str:
    if not re.fullmatch(_NAME, name):
        raise ValueError(f"{name!r} cannot name a folder of results; use letters, digits, '.', '_' and '-'")
    return name


_COLUMNS = (
    "policy",
    "seed",
    "cell",
    "status",
    "reason",
    "baseline",
    "run_id",
    "trained_by",
    "n",
    "failed",
    "diverged",
    "missing",
    "parts",
)
_LONG_COLUMNS = (
    "kind",
    "trick",
    "metric",
    "estimate",
    "low",
    "high",
    "interval",
    "epoch",
    "step",
    "train_loss",
    "figure",
    "layer",
    "value",
    "scenario",
    "tricks",
    "data_sets",
    "iqm",
    "gain",
    "gain_low",
    "gain_high",
    "p_improvement",
)
_PARAMS = ("model", "data", "epochs", "batch_size", "lr", "weight_decay", "optimizer")
_METRICS = tuple(name for task in METRICS for name in finals(task))
_MEANS = tuple(
    f"{metric}_{figure}" for s in map(score_of, METRICS) for metric in (s.test, s.val) for figure in ("mean", "sd")
)
RESERVED = frozenset((*_COLUMNS, *_PARAMS, *_METRICS, *_MEANS))
"""Params of a run and columns of its tables, which no trick's label may take."""
RESERVED_OF_AXES = (RESERVED - {*_PARAMS}) | {*_LONG_COLUMNS}
"""Columns of the tables that have one for each axis, curves and what is pooled over data sets too.

Params are none of them: they may vary.
"""


def _check_labels(labels: dict[str, Any]) -> dict[str, Any]:
    for label in labels:
        if not re.fullmatch(_NAME, label):
            raise ValueError(f"{label!r} cannot name a column; use letters, digits, '.', '_' and '-'")
        if label in RESERVED:
            raise ValueError(f"{label!r} is a column of every table already; choose another label")
    return labels


def _seed_list(value: Any) -> Any:
    if type(value) is int:
        if value > _MOST_SEEDS:
            raise ValueError(f"{value} seeds are more than {_MOST_SEEDS}; list those you want")
        return tuple(range(value))
    return tuple(value) if isinstance(value, list) else value


def _tuning_seeds(value: Any) -> Any:
    seeds = _seed_list(value)
    return tuple(_FIRST_TUNING_SEED + seed for seed in seeds) if type(value) is int else seeds


WARM_UP = 3
"""Untimed steps of a probe, at the most: by then kernels are chosen and compiled, graphs recorded, states made."""


class Throughput(Section):
    """The exclusive probe of training speed and memory."""

    rounds: Positive = 5
    """Interleaved rounds over all cells."""
    steps: Positive = 10
    """Timed training steps of each cell in a round, after at most three untimed ones."""


class Tune(Section):
    """Learning rates tried for every cell with equal budget, before the study, on seeds outside it."""

    lr: Annotated[tuple[Rate, ...], Field(min_length=2)]
    """The rates, ascending; the one with the best mean score on validation serves all seeds of its cell."""
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], BeforeValidator(_tuning_seeds), Field(min_length=1)] = (
        _FIRST_TUNING_SEED,
        _FIRST_TUNING_SEED + 1,
    )
    """A number of seeds, counted from a million, or a list of them."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if list(self.lr) != sorted(set(self.lr)):
            raise ValueError(f"lr: list the rates ascending, each once, not {list(self.lr)}")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"a seed is named twice: {list(self.seeds)}")
        return self


class Diagnostics(Section):
    """What is measured of each trained network besides its top-1."""

    batch_norm: bool = False
    """Top-1 by batch statistics and over the source backbone; how far running statistics are from the images."""


class Spec(Section):
    """A study: the grid of policies × trick sets × seeds on one model and one data set."""

    name: Annotated[str, AfterValidator(_check_name)]
    """Of the study: its folder under `results/`, its experiment in MLflow."""
    about: str = ""
    """What the study asks and what answer is expected."""
    task: Task = "classification"
    """What the networks are trained for; detection and segmentation want a `head` of the model."""
    model: Model
    weights: Weights | None = None
    """None starts from random weights."""
    data: Data
    train: Train
    policies: Annotated[
        dict[str, Policy | None], BeforeValidator(from_list), AfterValidator(_check_labels), Field(min_length=1)
    ]
    """Names of known policies, or a mapping from a name to a policy written out."""
    tricks: Annotated[
        dict[str, TrickSpec | None], BeforeValidator(from_list), AfterValidator(_check_labels), Field(max_length=64)
    ] = Field(default_factory=dict)
    """Names of tricks, or a mapping from a label to parameters."""
    designs: Annotated[tuple[Design, ...], Field(min_length=1)] = ("one_in", "all")
    """Which trick sets are tried, the baseline always among them."""
    exclude: tuple[Exclusion, ...] = ()
    """Cells that are left out: those where one of these conditions holds."""
    require: tuple[Requirement, ...] = ()
    """Cells that are left out: those where one of these conditions holds and a trick that it needs is off."""
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], BeforeValidator(_seed_list)]
    """A number of seeds, or a list of them."""
    axes: Annotated[axis.Axes, AfterValidator(axis.check)] = Field(default_factory=dict)
    """What else the grid varies: a setting with a list of values, or a name with levels that set several."""
    primary: Primary | None = None
    """None leaves every effect exploratory: nothing is claimed."""
    tune: Tune | None = None
    """None gives every cell the learning rate of `train`."""
    destructive: Literal["skip", "run"] = "skip"
    """Whether cells run whose trick destroys what was pretrained."""
    throughput: Throughput | None = Throughput()
    """None measures neither speed nor memory."""
    diagnostics: Diagnostics = Diagnostics()
    execution: Execution = Execution()
    keep_weights: bool = False
    """Whether the weights of every training are kept for `harness export`; each takes as much disk as the network."""

    @field_validator("model")
    @classmethod
    def _check_head(cls, model: Model, info: ValidationInfo) -> Model:
        task = info.data.get("task")
        if task and task != (HEADS[model.head].task if model.head else "classification"):
            legal = ", ".join(name for name, head in HEADS.items() if head.task == task) or "none"
            raise ValueError(f"task {task} does not fit `head: {model.head or 'none'}` of the model; legal: {legal}")
        return model

    @field_validator("data")
    @classmethod
    def _check_data(cls, data: Data, info: ValidationInfo) -> Data:
        task = info.data.get("task")
        if task and task not in SCENES.get(data.name, ("classification",)):
            legal = (
                ", ".join(name for name, tasks in SCENES.items() if task in tasks) or "sets of images with one class"
            )
            raise ValueError(f"task {task} cannot be trained on {data.name}; legal: {legal}")
        return data

    @field_validator("train")
    @classmethod
    def _check_train(cls, train: Train, info: ValidationInfo) -> Train:
        if train.augment.rescale and info.data.get("task") == "detection":
            raise ValueError("augment: rescale is for masks; detectors scale images themselves")
        if train.compile != "none" and info.data.get("task") == "detection":
            raise ValueError("compile: what a detector does depends on what it finds, which is no graph; leave it out")
        return augment_fits(train, info)

    @field_validator("diagnostics")
    @classmethod
    def _check_diagnostics(cls, diagnostics: Diagnostics, info: ValidationInfo) -> Diagnostics:
        task = info.data.get("task")
        if diagnostics.batch_norm and task not in (None, "classification"):
            raise ValueError(f"batch_norm is inspected by top-1, which {task} has not; leave it out")
        return diagnostics

    @field_validator("policies")
    @classmethod
    def _check_policies(cls, policies: dict[str, Policy | None]) -> dict[str, Policy | None]:
        for name, policy in policies.items():
            if policy is None and name not in POLICIES:
                raise ValueError(unknown("policy", name, POLICIES))
            if policy is not None and name in POLICIES:
                raise ValueError(f"policy {name!r} is already defined; give yours another name")
        return policies

    @field_validator("seeds")
    @classmethod
    def _check_seeds(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if not seeds:
            raise ValueError("a study needs at least one seed")
        if len(set(seeds)) < len(seeds):
            raise ValueError(f"a seed is named twice: {list(seeds)}")
        return seeds

    @field_validator("axes")
    @classmethod
    def _check_axes(cls, axes: axis.Axes, info: ValidationInfo) -> axis.Axes:
        for name in axis.names_of(axes):
            _check_name(name)
            if name in info.data.get("tricks", {}) or name in RESERVED_OF_AXES:
                raise ValueError(f"{name!r} names a column already; name the axis yourself, with levels that set it")
        return axes

    @field_validator("tune")
    @classmethod
    def _check_tune(cls, tune: Tune | None, info: ValidationInfo) -> Tune | None:
        shared = set(info.data.get("seeds", ())) & set(tune.seeds if tune else ())
        if shared:
            raise ValueError(f"a rate chosen on a seed of the study flatters it; choose others than {sorted(shared)}")
        if tune and any("train.lr" in axis.settings_of(*levels) for levels in info.data.get("axes", {}).items()):
            raise ValueError("the learning rate is chosen for every cell, so train.lr can be no axis")
        return tune

    @field_validator("primary")
    @classmethod
    def _check_primary(cls, primary: Primary | None, info: ValidationInfo) -> Primary | None:
        policies = info.data.get("policies", {})
        for name in [name for pair in primary.pairs for name in pair] if primary and policies else ():
            if name not in policies:
                raise ValueError(unknown("policy", name, policies))
        return primary

    @property
    def faults(self) -> Iterator[Fault]:
        """What is wrong with designs and constraints, each with its place: a validator could not say where."""
        levels = axis.levels_of(self.axes)
        yield from faults(self.designs, self.exclude, self.require, [*self.policies], [*self.tricks], levels)

    def policy(self, name: str) -> Policy:
        """Return the policy that `name` stands for in this spec."""
        return self.policies[name] or POLICIES[name]
