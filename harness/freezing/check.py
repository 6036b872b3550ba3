"""Frozen really means frozen: a phase is checked bit by bit against its start."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from harness.freezing.resolve import ResolvedPhase

State = dict[str, Tensor]

_ADAPTIVE_STEP = 10.0
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


class FreezeViolation(RuntimeError):
    """Something frozen moved, or something meant to learn did not."""


def snapshot(module: nn.Module) -> State:
    """Return a copy of every parameter and buffer, those that are not saved included."""
    named = [*module.named_parameters(), *module.named_buffers()]
    return {name: tensor.detach().clone() for name, tensor in named}


def verify(module: nn.Module, before: State, phase: ResolvedPhase, optimizer: Optimizer) -> None:
    """Compare the module with its `snapshot` from the start of `phase`; raises FreezeViolation naming what is wrong.

    A parameter meant to learn may stand still where its updates are too small for its floats: a γ of 1 at a tiny rate.
    """
    meant = set(phase.trainable) | {f"{norm}.{name}" for norm in phase.bn_stats for name in _STATISTICS}
    moved = {name for name, tensor in snapshot(module).items() if not same_bits(tensor, before[name])}
    stray = sorted(moved - meant)
    stuck = sorted((meant & set(before)) - moved - _too_small_to_see(module, optimizer))
    if stray:
        raise FreezeViolation(f"frozen but moved: {', '.join(stray)}")
    if stuck:
        raise FreezeViolation(f"meant to learn but did not move: {', '.join(stuck)}")


def _too_small_to_see(module: nn.Module, optimizer: Optimizer) -> set[str]:
    """Return the parameters whose updates, at the highest rate they had, lie below the resolution of their floats."""
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    found = set()
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            step = _largest_step(group, optimizer.state.get(parameter, {}))
            resolution = torch.finfo(parameter.dtype).eps * parameter.abs()
            if step is None or (group["peak_lr"] * step <= resolution).all():
                found.add(names[id(parameter)])
    return found


def _largest_step(group: dict[str, Any], state: dict[str, Any]) -> Tensor | float | None:
    """Return a bound on the steps a parameter took, per unit of learning rate; None where nothing is kept to tell by.

    Infinite where no gradient ever reached it: that is no matter of resolution.
    """
    if "momentum_buffer" in state or ("momentum" in group and not state):
        if not group["momentum"]:
            return None
        buffer = state.get("momentum_buffer")
        return buffer.abs() if buffer is not None and buffer.any() else math.inf
    # Optimizers that divide a gradient by its own size step by about the rate.
    return _ADAPTIVE_STEP if any(tensor.any() for tensor in state.values() if isinstance(tensor, Tensor)) else math.inf


def same_bits(left: Tensor, right: Tensor) -> bool:
    """Whether two tensors of one shape hold the same bits: NaN equals itself, 0 is not −0."""
    flat = (tensor.contiguous().reshape(-1).view(torch.uint8) for tensor in (left, right))
    return torch.equal(*flat)
