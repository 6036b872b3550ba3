"""The gates of what is kept: a network that begins at a cut must do, bit for bit, what it does on images."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from harness.freezing.check import same_bits
from harness.prefix.cut import Cut
from harness.prefix.splice import begun_at, prefix_output
from harness.prefix.store import Refused


def tried(module: nn.Module, cut: Cut, images: Tensor) -> Tensor:
    """Return what the stages before `cut` make of a few images; raises Refused where a network cannot begin there."""
    try:
        made = prefix_output(module, cut, images)
        with begun_at(module, cut):
            module(own(made, images.device))
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever a network does with what no image is
        raise Refused(f"the network cannot begin at {cut.entry}: {type(error).__name__}: {error}") from error
    if made.shape[0] != len(images):
        raise Refused("the frozen part does not hand on a tensor with a row for each image")
    return made


def require_same_training(
    whole: nn.Module, rest: nn.Module, cut: Cut, images: Tensor, kept: Tensor, learns: bool
) -> None:
    """Raise Refused where two equal networks, on images and on what is kept of them, differ in anything.

    In outputs, in statistics and, where they learn, in gradients.
    """
    if not _same(_run(rest, cut, kept, learns), _run(whole, None, images, learns)):
        raise Refused("in another batch the frozen part gives an image other bits")
    if not _same(whole.state_dict(), rest.state_dict()):
        raise Refused("what follows the frozen part moves otherwise on what is stored")


def require_same_evaluation(module: nn.Module, cut: Cut, images: Tensor, kept: Tensor) -> None:
    """Raise Refused where a network evaluates what is kept otherwise than its images."""
    if not _same(_run(module, cut, kept, learns=False), _run(module, None, images, learns=False)):
        raise Refused("evaluation gives other bits on what is stored")


def own(kept: Tensor, device: torch.device) -> Tensor:
    """Return a copy on the device: a network may work in place on what it is handed."""
    return kept.to(device, copy=True)


def _run(module: nn.Module, cut: Cut | None, inputs: Tensor, learns: bool) -> list[Any]:
    """Return outputs and gradients."""
    torch.manual_seed(0)  # dropout in what learns
    with torch.set_grad_enabled(learns), begun_at(module, cut):
        made = module(inputs)
        if not learns:
            return [made]
        squares = torch.stack([leaf.float().square().sum() for leaf in tree_leaves(made) if isinstance(leaf, Tensor)])
        learning = [parameter for parameter in module.parameters() if parameter.requires_grad]
        return [made, torch.autograd.grad(squares.sum(), learning, allow_unused=True)]


def _same(a: Any, b: Any) -> bool:
    pairs = zip(tree_leaves(a), tree_leaves(b), strict=True)
    return all(same_bits(x, y) if isinstance(x, Tensor) else x is y for x, y in pairs)
