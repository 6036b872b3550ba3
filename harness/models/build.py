"""Building a model, and its layout."""

from functools import lru_cache

import torch
import torchvision
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

from harness.models.cifar import CifarResNet
from harness.models.layout import Layout
from harness.models.zoo import MODELS
from harness.seeds import derive
from harness.spec import Model


def build_model(model: Model, classes: int, seed: int) -> nn.Module:
    """Build `model` with a head for `classes`, its initial weights drawn from `seed` alone.

    Constructors draw from torch's global generator and offer no other; it is put back as it was.
    """
    architecture = MODELS[model.name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "init"))
        if architecture.family == "cifar_resnet":
            return CifarResNet(architecture.depth, classes)
        return torchvision.models.get_model(model.name, weights=None, num_classes=classes)  # type: ignore[no-any-return]


@lru_cache
def layout_of(model: Model, classes: int) -> Layout:
    """Return the layout of `model`; no weights are made."""
    with torch.device("meta"):
        module = build_model(model, classes, seed=0)
    return Layout(
        parameters=tuple((key, tuple(value.shape)) for key, value in module.named_parameters()),
        norms=tuple(
            key for key, child in module.named_modules() if isinstance(child, BatchNorm) and child.track_running_stats
        ),
        stages=MODELS[model.name].stages,
    )
