"""The models by name: plain data, importable without torch."""

from dataclasses import dataclass

Stages = tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True)
class Architecture:
    """How a model is built and which names make up its stages, stem to head."""

    family: str
    """`cifar_resnet` or `torchvision`."""
    stages: Stages
    depth: int = 0
    """Layers, where the family is built by depth."""


_RESNET: Stages = (
    ("stem", ("conv1", "bn1")),
    *((f"stage{i}", (f"layer{i}",)) for i in (1, 2, 3, 4)),
    ("head", ("fc",)),
)
_CIFAR: Stages = tuple(stage for stage in _RESNET if stage[0] != "stage4")

MODELS: dict[str, Architecture] = {
    **{f"cifar_resnet{depth}": Architecture("cifar_resnet", _CIFAR, depth) for depth in (8, 20, 32, 56)},
    **{f"resnet{depth}": Architecture("torchvision", _RESNET) for depth in (18, 34, 50, 101, 152)},
}
