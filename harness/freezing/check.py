"""Frozen really means frozen: a phase is checked bit by bit against its start."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torchvision.models.detection.ssd import SSD

from harness.freezing.resolve import ResolvedPhase
from harness.models.zoo import HEADS

State = dict[str, Tensor]


class FreezeViolation(RuntimeError):
    """Something frozen moved, or something meant to learn did not."""


def named_tensors(module: nn.Module) -> State:
    """Return every parameter and buffer, those that are not saved included."""
    return {name: tensor.detach() for name, tensor in (*module.named_parameters(), *module.named_buffers())}


def snapshot(module: nn.Module) -> State:
    """Return a copy of every parameter and buffer."""
    return {name: tensor.clone() for name, tensor in named_tensors(module).items()}


def moved(module: nn.Module, before: State) -> set[str]:
    """Return the names of what differs from `before`."""
    return {name for name, tensor in named_tensors(module).items() if not same_bits(tensor, before[name])}


def verify(module: nn.Module, before: State, phase: ResolvedPhase, optimizer: Optimizer) -> None:
    """Compare the module with its `snapshot` from the start of `phase`; raises FreezeViolation naming what is wrong.

    A parameter meant to learn may stand still where its updates are too small for its floats: a γ of 1 at a tiny rate.
    One in the head of an SSD may where its gradients are 0: each part of it finds boxes of one size, and images may
    have none.
    """
    parameters = dict(module.named_parameters())
    changed = moved(module, before)
    stray = sorted(changed - phase.moving)
    still = (phase.moving & set(before)) - changed
    idle = {name for name in still & {*parameters} if _has_nothing_to_find(module, name, parameters[name])}
    stuck = sorted(name for name in still - idle if name not in parameters or _could_move(parameters[name], optimizer))
    if stray:
        raise FreezeViolation(f"frozen but moved: {', '.join(stray)}")
    if stuck:
        raise FreezeViolation(f"meant to learn but did not move: {', '.join(stuck)}")


def _has_nothing_to_find(module: nn.Module, name: str, parameter: Tensor) -> bool:
    """Whether a parameter belongs to a part of an SSD's head that no box came to, by its last gradient."""
    gradient = parameter.grad
    in_head = isinstance(module, SSD) and name.startswith(tuple(f"{part}." for part in HEADS["ssdlite"].parts))
    return in_head and gradient is not None and not gradient.any()


def _could_move(parameter: Tensor, optimizer: Optimizer) -> bool:
    """Whether a step with the last gradient, at the highest rate of the phase, is above the resolution of the floats.

    A copy of the optimizer takes that step on a copy of the parameter, so whatever the optimizer, it is its own step.
    """
    gradient = parameter.grad
    if gradient is None or not gradient.any():
        return True  # Nothing reached it: that is no matter of resolution.
    if not gradient.isfinite().all():
        return False  # In float16 an overflowing step is skipped.
    (group,) = (group for group in optimizer.param_groups if any(other is parameter for other in group["params"]))
    copy = nn.Parameter(parameter.detach().clone())
    kind: Any = type(optimizer)
    trial = kind([{**group, "params": [copy], "lr": group["peak_lr"]}])
    trial.state[copy] = deepcopy(optimizer.state.get(parameter, {}))
    # The gradient of a linear function is its factor, bit for bit.
    (gradient * copy).sum().backward()
    trial.step()
    resolution = torch.finfo(parameter.dtype).eps * parameter.abs()
    return not ((copy - parameter).abs() <= resolution).all()


def same_bits(left: Tensor, right: Tensor) -> bool:
    """Whether two tensors of one shape hold the same bits: NaN equals itself, 0 is not −0."""
    flat = (tensor.contiguous().reshape(-1).view(torch.uint8) for tensor in (left, right))
    return torch.equal(*flat)
