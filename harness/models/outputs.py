"""What a network returns: logits, or in training a named tuple of logits and those of auxiliary heads."""

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from torchvision.models.googlenet import GoogLeNetOutputs
from torchvision.models.inception import InceptionOutputs

_AUXILIARY = {InceptionOutputs: 0.4, GoogLeNetOutputs: 0.3}
"""Weight of the loss of each auxiliary head: slim's training of Inception v3, and Szegedy et al. 2015, §5."""


def logits_of(outputs: Any) -> Tensor:
    """Return the logits [N, K] of the network itself, as float32: autocast leaves them in 16 bits."""
    return (outputs if isinstance(outputs, Tensor) else outputs.logits).float()


def loss(outputs: Any, targets: Tensor, criterion: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy) -> Tensor:
    """Return the criterion of the logits and targets [N, K], plus that of each auxiliary head at its weight."""
    main = criterion(logits_of(outputs), targets)
    if isinstance(outputs, Tensor):
        return main
    weight = _AUXILIARY[type(outputs)]
    return main + weight * sum(criterion(logits.float(), targets) for logits in outputs[1:])
