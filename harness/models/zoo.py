"""The models by name: plain data, importable without torch."""

from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Literal

from harness.tasks.metrics import Task

Stages = tuple[tuple[str, tuple[str, ...]], ...]
"""Each stage with the prefixes of the names in it, ordered from stem to head.

The prefixes of a stage are in forward order: the output of the last one's module is the output of the stage.
"""
Part = Literal["variant", "deep_stem", "avg_down"]
"""What may vary in a residual network: where bottlenecks have their stride, the stem, the downsampling shortcuts."""
Head = Literal["faster_rcnn", "ssdlite", "fcn", "deeplabv3"]
"""What finds boxes or masks on top of a backbone, in place of its classifier."""


@dataclass(frozen=True)
class NewHead:
    """What is new in a network with such a head."""

    task: Task
    parts: tuple[str, ...]
    """Name prefixes of all of it, in forward order."""


HEADS: dict[Head, NewHead] = {
    "faster_rcnn": NewHead("detection", ("backbone.fpn", "rpn", "roi_heads")),
    "ssdlite": NewHead("detection", ("backbone.extra", "head")),
    "fcn": NewHead("segmentation", ("classifier", "aux_classifier")),
    "deeplabv3": NewHead("segmentation", ("classifier", "aux_classifier")),
}


@dataclass(frozen=True)
class Architecture:
    """How a model is built and which names make up its stages."""

    family: Literal["cifar_resnet", "mini_resnet", "torchvision"]
    stages: Stages
    parts: tuple[Part, ...] = ()
    """What may vary in it."""
    depth: int = 0
    """Layers, where the family is built by depth."""
    min_size: int = 1
    """Pixels on a side of the smallest images it can be trained on."""
    heads: tuple[Head, ...] = ()
    """What can find boxes or masks on top of it."""


def _features(*lengths: int) -> Stages:
    """Return a stem and further stages, of so many children of `features` each."""
    names = ("stem", *(f"stage{i}" for i in range(1, len(lengths))))
    bounds = pairwise(accumulate(lengths, initial=0))
    return tuple(
        (name, tuple(f"features.{i}" for i in range(start, end)))
        for name, (start, end) in zip(names, bounds, strict=True)
    )


def _classifier(hidden: int) -> Stages:
    """Return the stages of a classifier of so many hidden modules before the last."""
    return ("fc", tuple(f"classifier.{i}" for i in range(hidden))), ("head", (f"classifier.{hidden}",))


_RESNET: Stages = (
    ("stem", ("conv1", "bn1", "relu", "maxpool")),
    *((f"stage{i}", (f"layer{i}",)) for i in (1, 2, 3, 4)),
    ("head", ("fc",)),
)
_CIFAR: Stages = (("stem", ("conv1", "bn1", "relu")), *_RESNET[1:4], ("head", ("fc",)))
_DENSENET: Stages = (
    ("stem", ("features.conv0", "features.norm0", "features.relu0", "features.pool0")),
    *((f"stage{i}", (f"features.denseblock{i}", f"features.transition{i}")) for i in (1, 2, 3)),
    ("stage4", ("features.denseblock4", "features.norm5")),
    ("head", ("classifier",)),
)
_INCEPTION: Stages = (
    (
        "stem",
        ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "maxpool1", "Conv2d_3b_1x1", "Conv2d_4a_3x3", "maxpool2"),
    ),
    ("stage1", ("Mixed_5b", "Mixed_5c", "Mixed_5d")),
    # The auxiliary head branches off here; it stands before the last, whose output the next stage gets.
    ("stage2", ("Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d", "AuxLogits.conv0", "AuxLogits.conv1", "Mixed_6e")),
    ("stage3", ("Mixed_7a", "Mixed_7b", "Mixed_7c")),
    ("head", ("AuxLogits.fc", "fc")),
)
_LINEAR_HEAD: Stages = (("head", ("classifier.1",)),)
_MASKS: tuple[Head, ...] = ("fcn", "deeplabv3")
_PYRAMID: tuple[Head, ...] = ("faster_rcnn", *_MASKS)
_LIGHT: tuple[Head, ...] = ("ssdlite",)
# Stages end where a VGG pools, and where the width of a mobile network's blocks changes.
_TORCHVISION: dict[str, Architecture] = {
    "inception_v3": Architecture("torchvision", _INCEPTION, min_size=299),
    "vgg16": Architecture("torchvision", _features(5, 5, 7, 7, 7) + _classifier(6), min_size=32),
    "vgg16_bn": Architecture("torchvision", _features(7, 7, 10, 10, 10) + _classifier(6), min_size=32),
    "alexnet": Architecture("torchvision", _features(3, 3, 2, 2, 3) + _classifier(6), min_size=63),
    "densenet121": Architecture("torchvision", _DENSENET, min_size=29),
    "mobilenet_v2": Architecture("torchvision", _features(1, 1, 2, 3, 4, 3, 3, 2) + _LINEAR_HEAD, heads=_LIGHT),
    "mobilenet_v3_small": Architecture("torchvision", _features(1, 1, 2, 3, 2, 4) + _classifier(3), heads=_LIGHT),
    "mobilenet_v3_large": Architecture("torchvision", _features(1, 1, 2, 3, 4, 2, 4) + _classifier(3), heads=_LIGHT),
    "efficientnet_b0": Architecture("torchvision", _features(1, 1, 1, 1, 1, 1, 1, 2) + _LINEAR_HEAD),
}
_BASIC: tuple[Part, ...] = ("deep_stem", "avg_down")
_BOTTLENECK: tuple[Part, ...] = ("variant", *_BASIC)

MODELS: dict[str, Architecture] = {
    **{
        f"cifar_resnet{depth}": Architecture("cifar_resnet", _CIFAR, ("avg_down",), depth, heads=_MASKS)
        for depth in (8, 20, 32, 56)
    },
    "mini_resnet14": Architecture("mini_resnet", _RESNET, _BOTTLENECK, heads=_PYRAMID),
    **{f"resnet{depth}": Architecture("torchvision", _RESNET, _BASIC, heads=_PYRAMID) for depth in (18, 34)},
    **{f"resnet{depth}": Architecture("torchvision", _RESNET, _BOTTLENECK, heads=_PYRAMID) for depth in (50, 101, 152)},
    **_TORCHVISION,
}

_WITHOUT: dict[Part, str] = {
    "variant": "it has no bottleneck blocks, whose stride could lie in one convolution or another",
    "deep_stem": "it has no 7×7 stem, in whose place three 3×3 convolutions could stand",
    "avg_down": "it has no downsampling shortcuts, which could average instead of skipping pixels",
}

_WANTED: dict[Head, str] = {
    "faster_rcnn": "a residual network with outputs at strides 4, 8, 16 and 32",
    "ssdlite": "a MobileNet of torchvision's",
    "fcn": "a residual network with known stages",
    "deeplabv3": "a residual network with known stages",
}


def refusal(model: str, part: Part) -> str | None:
    """Return why `part` of a model cannot be another; None where it can."""
    if model not in MODELS:
        return f"{part} can be set for the residual networks that the harness knows, not for {model}"
    if part in MODELS[model].parts:
        return None
    return f"{part} means nothing for {model}: {_WITHOUT[part]}"


def refusal_of_head(model: str, head: Head) -> str | None:
    """Return why a model cannot be the backbone of `head`; None where it can."""
    if model in MODELS and head in MODELS[model].heads:
        return None
    legal = ", ".join(name for name, architecture in MODELS.items() if head in architecture.heads)
    return f"{model} cannot be the backbone of {head}, which wants {_WANTED[head]}; legal: {legal}"
