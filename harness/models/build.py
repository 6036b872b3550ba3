"""Building a model, and its layout."""

from functools import lru_cache

import torch
import torchvision
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm
from torchvision.models.efficientnet import FusedMBConv, MBConv
from torchvision.models.mobilenetv2 import InvertedResidual as InvertedResidualV2
from torchvision.models.mobilenetv3 import InvertedResidual as InvertedResidualV3
from torchvision.models.regnet import ResBottleneckBlock
from torchvision.models.resnet import BasicBlock, Bottleneck

from harness.errors import HarnessError, unknown
from harness.models import dense, edits
from harness.models.cifar import CifarResNet
from harness.models.layout import Layout
from harness.models.mini import MiniResNet
from harness.models.stages import is_under, stages_of
from harness.models.zoo import HEADS, MODELS
from harness.seeds import derive
from harness.spec import Model

_BRANCHES: dict[type[nn.Module], str] = {
    BasicBlock: "bn2",
    Bottleneck: "bn3",
    InvertedResidualV2: "conv",
    InvertedResidualV3: "block",
    MBConv: "block",
    FusedMBConv: "block",
    ResBottleneckBlock: "f",
}
"""torchvision's residual blocks, each with the child that the residual branch ends in."""


def build_model(
    model: Model, classes: int, seed: int, kept_classes: int | None = None, image_size: int | None = None
) -> nn.Module:
    """Build `model` with a head for `classes`, its initial weights drawn from `seed` alone.

    With `kept_classes`, the head is one for so many classes with a linear layer over their logits: it holds the
    children `old` and `new`. Detectors are made for images of `image_size` pixels (see `dense.with_head`).
    Raises HarnessError where the model is none of torchvision's, or has no linear head.
    Constructors draw from torch's global generator and offer no other; it is put back as it was.
    """
    return _built(model, classes, seed, kept_classes, image_size)[1]


def _built(
    model: Model, classes: int, seed: int, kept_classes: int | None = None, image_size: int | None = None
) -> tuple[nn.Module, nn.Module]:
    """Return a classification network, and the network of `model` that is it or is made of it."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(derive(seed, "init"))
        network = _construct(model, kept_classes or classes)
        if model.variant == "a":
            edits.stride_first(network)
        if model.head and HEADS[model.head].task == "segmentation" and hasattr(network, "layer4"):
            edits.dilate(network)  # now, so that shortcuts without a stride have nothing to average
        # After all else is drawn, so that edited networks share the weights of what they have in common.
        if model.deep_stem:
            edits.deepen_stem(network)
        if model.avg_down:
            edits.average_shortcuts(network)
        edits.pool_deterministically(network)
        if kept_classes:
            _append_head(model, network, kept_classes, classes)
        if model.head is None:
            return network, network
        small = MODELS[model.name].family != "torchvision"
        return network, dense.with_head(model.head, network, classes, image_size, small)


def _construct(model: Model, classes: int) -> nn.Module:
    family = MODELS[model.name].family if model.name in MODELS else "torchvision"
    if family == "cifar_resnet":
        return CifarResNet(MODELS[model.name].depth, classes)
    if family == "mini_resnet":
        return MiniResNet(classes)
    legal = torchvision.models.list_models(module=torchvision.models)
    if model.name not in legal:
        raise HarnessError(unknown("classification model of torchvision", model.name, legal))
    # Their pretrained weights want images in [−1, 1], to which they map those normalised as ImageNet's.
    options = {
        "inception_v3": {"init_weights": True, "transform_input": True},
        "googlenet": {"init_weights": True, "transform_input": True},
    }
    device = torch.get_default_device()
    # RegNets compute their widths with tensors, which on the meta device have no values.
    with torch.device("cpu" if model.name.startswith("regnet") else device):
        module = torchvision.models.get_model(
            model.name, weights=None, num_classes=classes, **options.get(model.name, {})
        )
    return module.to(device)  # type: ignore[no-any-return]


def _append_head(model: Model, module: nn.Module, kept_classes: int, classes: int) -> None:
    head = dict(stages_of(model, module))["head"]
    linear = [
        name
        for name, child in module.named_modules()
        if isinstance(child, nn.Linear)
        and child.out_features == kept_classes
        and any(is_under(name, prefix) for prefix in head)
    ]
    if not linear:
        raise HarnessError(f"the head of {model.name} ends in no linear layer, over which another could be put")
    for name in linear:
        edits.append_classifier(module, name, classes)


@lru_cache
def layout_of(model: Model, classes: int, kept_classes: int | None = None) -> Layout:
    """Return the layout of `model`; no weights are made. Raises HarnessError as `build_model`, or for odd stages."""
    with torch.device("meta"):
        network, module = _built(model, classes, seed=0, kept_classes=kept_classes)
    stages, backbone = stages_of(model, network), []
    if model.head:
        placed = dense.places_in(module, network, stages)
        backbone = [pair for _, pairs in placed for pair in pairs]
        here = [(stage, tuple(new for _, new in pairs if new)) for stage, pairs in placed]
        stages = (*((stage, prefixes) for stage, prefixes in here if prefixes), ("head", HEADS[model.head].parts))
    return Layout(
        parameters=tuple((key, tuple(value.shape)) for key, value in module.named_parameters()),
        norms=tuple(
            key for key, child in module.named_modules() if isinstance(child, BatchNorm) and child.track_running_stats
        ),
        stages=stages,
        last_norms=_last_norms(module),
        backbone=tuple(backbone),
    )


def _last_norms(module: nn.Module) -> tuple[str, ...]:
    found = []
    for name, block in module.named_modules():
        # Inverted residuals that change shape have no shortcut, and so no branch beside one.
        if type(block) in _BRANCHES and getattr(block, "use_res_connect", True):
            branch = f"{name}.{_BRANCHES[type(block)]}"
            below = module.get_submodule(branch).named_modules(prefix=branch)
            found.append([key for key, child in below if isinstance(child, BatchNorm)][-1])
    return tuple(found)


@lru_cache
def check_image_size(model: Model, classes: int, image_size: int) -> None:
    """Raise HarnessError where `model` cannot be trained on images of `image_size` pixels on a side."""
    with torch.device("meta"):
        module, images = build_model(model, classes, 0, None, image_size), torch.empty(2, 3, image_size, image_size)
    try:
        dense.run_on_shapes(module, images)
    except Exception as error:  # assertions, shapes that vanish, statistics of one value: each network fails in its own
        known = MODELS.get(model.name) if model.head is None else None
        why = f"it takes {known.min_size} and more" if known else str(error)
        raise HarnessError(f"{model.name} cannot be trained on images of {image_size} pixels: {why}") from error
