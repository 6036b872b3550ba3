"""The only writer of requires_grad, of frozen gradients and of module modes."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.models.detection.ssd import SSD

from harness.freezing.resolve import ResolvedPhase

_LOSSES = (GeneralizedRCNN, RegionProposalNetwork, RoIHeads, SSD)
"""Detectors and their parts, whose training mode means nothing but that they compute losses."""


def begin_phase(module: nn.Module, phase: ResolvedPhase) -> None:
    """Let the phase's parameters learn, and no other.

    A gradient left on a frozen parameter would let momentum and weight decay go on moving it (pytorch#38581), so it
    goes.
    """
    trainable = phase.trainable
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name in trainable)
        parameter.grad = None


def restore_gradients(module: nn.Module, gradients: Mapping[str, Tensor]) -> None:
    """Give parameters their gradients by name, and the others none."""
    for name, parameter in module.named_parameters():
        parameter.grad = gradients[name].to(parameter.device) if name in gradients else None


def training_mode(module: nn.Module, phase: ResolvedPhase) -> None:
    """Put what learns in training mode and what is frozen in evaluation mode.

    Batch norm goes by its statistics alone: in training mode it normalises by the batch and its running statistics
    follow, in evaluation mode they stay, whether or not γ and β learn. Every other module trains where a parameter
    below it learns. One without parameters (dropout, stochastic depth) goes with the layer that it feeds in a
    `Sequential`, else with the module around it: so a frozen part drops nothing, and none of its inputs is dropped.
    A detector computes its losses whatever of it learns.
    """
    trainable, following = phase.trainable, set(phase.bn_stats)

    def visit(child: nn.Module, name: str, inherited: bool) -> None:
        below = [f"{name}.{key}" if name else key for key, _ in child.named_parameters()]
        learns = any(key in trainable for key in below) if below else inherited
        child.training = name in following if isinstance(child, BatchNorm) else learns or isinstance(child, _LOSSES)
        fed = learns
        for key, grandchild in reversed(list(child.named_children())):
            path = f"{name}.{key}" if name else key
            visit(grandchild, path, fed)
            if isinstance(child, nn.Sequential) and any(True for _ in grandchild.parameters()):
                fed = any(f"{path}.{inner}" in trainable for inner, _ in grandchild.named_parameters())

    visit(module, "", inherited=False)


def evaluation_mode(module: nn.Module) -> None:
    """Put everything in evaluation mode."""
    module.eval()


@contextmanager
def batch_statistics_mode(module: nn.Module) -> Iterator[None]:
    """Let batch norm normalise by the batch and everything else evaluate, until the block ends; then all evaluates.

    Running statistics are neither used nor moved: a batch norm in training mode that tracks none is handed none
    (`forward` in torch/nn/modules/batchnorm.py).
    """
    evaluation_mode(module)
    norms = [child for child in module.modules() if isinstance(child, BatchNorm) and child.track_running_stats]
    for norm in norms:
        norm.training, norm.track_running_stats = True, False
    try:
        yield
    finally:
        for norm in norms:
            norm.training, norm.track_running_stats = False, True
