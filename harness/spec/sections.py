"""The sections that describe one training beside its images: network, weights and optimization."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from harness.errors import unknown
from harness.models.zoo import MODELS, Head, Part, refusal, refusal_of_head
from harness.spec.data import SCENES, Data
from harness.spec.section import Positive, Rate, Section, setting

Compile = Literal["none", "default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"]
"""Modes of torch.compile, and none."""
_SELECTIONS = ("all", "none", "bn")
"""What policies select besides stages."""


class Augment(Section):
    """What is drawn for each training image anew, in every cell alike."""

    flip: bool = False
    """Mirror half of the images."""
    crop_padding: Annotated[int, Field(ge=0)] = 0
    """Pixels of reflected border that random crops may reach into; 0 is none."""
    resized_crop: bool = False
    """Cut a window of 8–100 % of the area, 3:4 to 4:3, and enlarge it to the old size: the paper's, for photographs."""
    color_jitter: Annotated[float, Field(ge=0, le=1)] = 0.0
    """How far factors on brightness, contrast and saturation may be from 1; the paper's is 0.4, 0 is none."""

    rescale: tuple[Rate, Rate] | None = setting(None)
    """Range of the factor by which an image and its mask are scaled before a square of `image_size` is cut, filled up
    with what no loss counts; torchvision's, for segmentation, is [0.5, 2]."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.rescale and self.rescale[0] > self.rescale[1]:
            raise ValueError(f"rescale: the lower end comes first, not {self.rescale[0]} before {self.rescale[1]}")
        if self.crop_padding and self.resized_crop:
            raise ValueError("crop_padding and resized_crop are two kinds of random crop; choose one")
        return self


class StepDecay(Section):
    """The paper's baseline: the learning rate falls by `factor` at each milestone, a fraction of training."""

    milestones: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = (0.25, 0.5, 0.75)
    """Where the rate falls, as fractions of training."""
    factor: Annotated[float, Field(gt=0, le=1)] = 0.1
    """By what it is multiplied there."""

    def __call__(self, progress: float, warmup_end: float) -> float:  # noqa: ARG002 - steps fall where they fall
        """Return the factor at `progress` (He et al. 2018, §2.1: ×0.1 at epochs 30, 60 and 90 of 120)."""
        return float(self.factor ** sum(progress >= milestone for milestone in self.milestones))


class OptimizerSpec(Section):
    """How gradients become steps."""

    name: str = "SGD"
    """A class of torch.optim that takes a learning rate and a weight decay."""
    options: dict[str, bool | float | tuple[float, ...]] = Field(default_factory=dict)
    """Its other arguments; SGD has Nesterov momentum of 0.9 unless they say otherwise."""


def _from_name(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


class Train(Section):
    """How a network is trained, before any trick."""

    epochs: Positive
    """How often the training images are gone through."""
    batch_size: Positive
    """Images of a step."""
    accumulate: int = setting(1, ge=1)
    """Parts of a batch, one after another, their gradients added up before a step; batch norm sees a part at a time."""
    lr: Rate
    """Base learning rate, by which every factor is multiplied."""
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1e-4
    """The optimizer's; of all parameters that learn, unless a trick says otherwise."""
    optimizer: Annotated[OptimizerSpec, BeforeValidator(_from_name)] = OptimizerSpec()
    """A name in torch.optim, or a mapping with `name` and `options`; the paper's Nesterov SGD by default."""
    decay: StepDecay = StepDecay()
    augment: Augment = Augment()
    threads: Positive = 1
    """Processor threads of each training; more than one changes bits, so it belongs to the spec."""
    channels_last: bool = setting(False)
    """Let the values of a pixel lie side by side in memory, where 16-bit convolutions on a GPU are fastest."""
    fused: bool = setting(False)
    """Take each optimizer step in one kernel; SGD, Adam, AdamW and Adagrad have one."""
    compile: Compile = setting("none")
    """How torch.compile makes the network of a training step into kernels; evaluation is never compiled."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.accumulate > 1 and self.batch_size < 2 * self.accumulate:
            raise ValueError(
                f"accumulate: batches of {self.batch_size} in {self.accumulate} parts leave parts of one image, which "
                f"batch norm cannot do with; at most {max(1, self.batch_size // 2)}"
            )
        if self.accumulate > 1 and self.records_graphs:
            raise ValueError(
                f"compile: {self.compile} records CUDA graphs, and gradients of {self.accumulate} parts of a batch "
                "(`accumulate`) cannot be added up over those; use default or max-autotune-no-cudagraphs"
            )
        return self

    @property
    def records_graphs(self) -> bool:
        """Whether steps are CUDA graphs, recorded once and replayed."""
        return self.compile in ("reduce-overhead", "max-autotune")


def _pairs(value: Any) -> Any:
    """Read a mapping as pairs, which have an order and a hash."""
    if not isinstance(value, dict):
        return value
    return tuple((key, tuple(item) if isinstance(item, list) else item) for key, item in value.items())


class Model(Section):
    """The network; torchvision's own where nothing else is said."""

    name: str
    """One of those the harness knows, or with `stages` any other classification model of torchvision."""
    variant: Literal["a", "b"] = "b"
    """Where a downsampling bottleneck strides: in its first 1×1 convolution (a, as published) or in its 3×3 (b)."""
    deep_stem: bool = False
    """Whether three 3×3 convolutions stand in place of the 7×7 stem (ResNet-C)."""
    avg_down: bool = False
    """Whether downsampling shortcuts average 2×2 pixels before a 1×1 convolution without stride (ResNet-D)."""
    stages: Annotated[
        tuple[tuple[str, Annotated[tuple[str, ...], Field(min_length=1)]], ...] | None, BeforeValidator(_pairs)
    ] = None
    """A mapping from each stage, the last being `head`, to prefixes or globs of the names in it, in forward order."""
    head: Head | None = setting(None)
    """What finds boxes or masks on the network as its backbone; None leaves it a classifier."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.stages is None and self.name not in MODELS:
            raise ValueError(
                f"{unknown('model', self.name, MODELS)} Other classification models of torchvision need `stages`"
            )
        if self.stages is not None:
            _check_stages(self.name, [stage for stage, _ in self.stages])
        other: dict[Part, bool] = {
            "variant": self.variant != "b",
            "deep_stem": self.deep_stem,
            "avg_down": self.avg_down,
        }
        for part, wanted in other.items():
            if wanted and (reason := refusal(self.name, part)):
                raise ValueError(reason)
        if self.head and (reason := refusal_of_head(self.name, self.head)):
            raise ValueError(reason)
        return self

    def edited(self, part: Part, value: str | bool) -> Self:
        """Return the network with one part another; raises ValueError where it has no such part."""
        if reason := refusal(self.name, part):
            raise ValueError(reason)
        return self.model_copy(update={part: value})


def _check_stages(model: str, stages: list[str]) -> None:
    if model in MODELS:
        raise ValueError(f"{model} has stages of its own: {', '.join(stage for stage, _ in MODELS[model].stages)}")
    if stages[-1:] != ["head"]:
        raise ValueError(f"the last of the stages must be `head`, not {', '.join(stages[-1:]) or 'missing'}")
    for stage in stages:
        if not stage.isidentifier() or stage in _SELECTIONS:
            raise ValueError(f"{stage!r} cannot name a stage; use letters, digits and '_', and none of {_SELECTIONS}")


def augment_fits(train: Train, info: ValidationInfo) -> Train:
    """Return `train`; raises ValueError where its augmentation cannot be done with the data beside it."""
    data = info.data.get("data")
    augment = train.augment
    if data and data.name in SCENES and (augment.crop_padding or augment.resized_crop):
        raise ValueError(
            f"augment: {'crop_padding' if augment.crop_padding else 'resized_crop'} moves images without their boxes "
            "and masks; with scenes use flip, color_jitter and, with masks, rescale"
        )
    if data and data.name not in SCENES and augment.rescale:
        raise ValueError(f"augment: rescale is for images with masks, and not for {data.name}; use resized_crop")
    if data and train.augment.crop_padding >= data.image_size:
        raise ValueError(
            f"crop_padding must be below image_size = {data.image_size}: a border is reflected from inside"
        )
    return train


class TrickSpec(BaseModel):
    """One factor of the grid: a trick at one level of its parameters."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    trick: str | None = None
    """The trick, where the label is not its name (several levels of one trick)."""


def from_list(value: Any) -> Any:
    """Read a list of names as a mapping from each to nothing, so both forms may be written."""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        twice = {item for item in value if value.count(item) > 1}
        if twice:
            raise ValueError(f"named twice: {', '.join(sorted(twice))}")
        return dict.fromkeys(value)
    return value


class Pretrain(Section):
    """A source task on which the plan trains the pretrained weights, once."""

    data: Data
    train: Train
    tricks: Annotated[dict[str, TrickSpec | None], BeforeValidator(from_list)] = Field(default_factory=dict)
    """Tricks of this training, as those of the study are written; they are no factors of the grid."""
    seed: int = 0
    """Which network of this recipe: initial weights, order of the data and what tricks draw."""

    @field_validator("data")
    @classmethod
    def _check_data(cls, data: Data) -> Data:
        if data.name in SCENES:
            raise ValueError(f"{data.name} has boxes or masks; a source task has images with one class")
        return data

    @field_validator("train")
    @classmethod
    def _check_train(cls, train: Train, info: ValidationInfo) -> Train:
        return augment_fits(train, info)


class Weights(Section):
    """Where the pretrained weights come from: exactly one of these."""

    pretrain: Pretrain | None = None
    torchvision: str | None = None
    """One of torchvision's weights of the model, such as IMAGENET1K_V2."""
    checkpoint: str | None = None
    """A file with a state dict of the model, relative to the spec's own folder."""
    allow_mismatch: bool = False
    """Whether weights may be missing, left over or of another shape: what they do not fit begins at random."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if sum(value is not None for value in (self.pretrain, self.torchvision, self.checkpoint)) != 1:
            raise ValueError("give exactly one of `pretrain`, `torchvision` and `checkpoint`")
        return self
