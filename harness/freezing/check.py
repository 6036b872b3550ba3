"""Frozen really means frozen: a phase is checked bit by bit against its start."""

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from harness.freezing.resolve import ResolvedPhase

State = dict[str, Tensor]

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
    """Return the parameters whose momentum, at the highest rate they had, lies below the resolution of their floats."""
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    found = set()
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if not group["momentum"]:  # nothing is kept by which to tell
                found.add(names[id(parameter)])
                continue
            momentum = optimizer.state[parameter].get("momentum_buffer") if parameter in optimizer.state else None
            resolution = torch.finfo(parameter.dtype).eps * parameter.abs()
            if momentum is not None and momentum.any() and (group["peak_lr"] * momentum.abs() <= resolution).all():
                found.add(names[id(parameter)])
    return found


def same_bits(left: Tensor, right: Tensor) -> bool:
    """Whether two tensors of one shape hold the same bits: NaN equals itself, 0 is not −0."""
    flat = (tensor.contiguous().reshape(-1).view(torch.uint8) for tensor in (left, right))
    return torch.equal(*flat)
