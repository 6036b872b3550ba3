"""Optimizers by their names in torch.optim."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

import torch
from torch.optim import Optimizer

from harness.errors import HarnessError, unknown
from harness.spec import OptimizerSpec

_OURS = {"params", "lr", "weight_decay"}
"""Arguments that the training sets itself."""
_SWITCHES = {"foreach", "fused", "capturable", "differentiable", "maximize"}
"""Arguments that are no part of the algorithm, or would turn it around."""
_UNFIT = {"LBFGS", "SparseAdam", "Muon", "ASGD", "Optimizer"}
"""Those that need a closure, sparse gradients or matrices alone, or whose point is an average nobody would evaluate."""
_NESTEROV = {"momentum": 0.9, "nesterov": True}
"""The paper's SGD."""


def names() -> list[str]:
    """Return the optimizers of this torch that can train a network by learning rate and weight decay."""
    found = {name: kind for name, kind in vars(torch.optim).items() if isinstance(kind, type)}
    return sorted(
        name
        for name, kind in found.items()
        if issubclass(kind, Optimizer) and name not in _UNFIT and set(inspect.signature(kind).parameters) >= _OURS
    )


def options(spec: OptimizerSpec) -> dict[str, Any]:
    """Return the arguments of an optimizer: the paper's Nesterov momentum for SGD unless the spec says otherwise."""
    given = {key: tuple(value) if isinstance(value, list) else value for key, value in spec.options.items()}
    return {**(_NESTEROV if spec.name == "SGD" else {}), **given}


def check(spec: OptimizerSpec, fused: bool = False) -> None:
    """Raise HarnessError for an optimizer, an option, a value or a fused step that torch does not have."""
    if spec.name not in names():
        raise HarnessError(unknown("optimizer", spec.name, names()))
    legal = [key for key in _parameters(spec.name) if key not in _OURS | _SWITCHES]
    if fused and spec.name not in (having := [name for name in names() if "fused" in _parameters(name)]):
        raise HarnessError(f"train.fused: {spec.name} has no fused step; {', '.join(having)} have one")
    if fused and spec.options.get("dampening"):
        raise HarnessError("train.fused: a fused SGD damps its first gradient too, as no other; leave `dampening` out")
    for key in spec.options:
        if key not in legal:
            raise HarnessError(unknown(f"option of {spec.name}", key, legal))
    try:
        make(spec, [{"params": [torch.nn.Parameter(torch.zeros(1))]}], 1e-3)
    except (TypeError, ValueError) as error:
        raise HarnessError(f"{spec.name} refuses {options(spec)}: {error}") from None


def make(spec: OptimizerSpec, groups: Iterable[dict[str, Any]], lr: float, fused: bool = False) -> Optimizer:
    """Make the optimizer over parameter groups, each with its weight decay; `fused` takes a step in one kernel."""
    switches = {"fused": True} if fused else {}
    made: Optimizer = getattr(torch.optim, spec.name)(groups, lr=lr, **options(spec), **switches)
    if fused and spec.name == "SGD":
        _begin_momentum(made)
    return made


def _begin_momentum(sgd: Optimizer) -> None:
    """Let momentum begin at 0, which is where it begins anyway.

    torch's fused SGD makes it in the first step: for all parameters of a group at once, so that none could begin to
    learn later than another, and of memory as it is found where float16 overflows in that step and it is skipped.
    """
    for group in sgd.param_groups:
        if group["momentum"]:
            for parameter in group["params"]:
                sgd.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


def _parameters(name: str) -> Iterable[str]:
    return inspect.signature(getattr(torch.optim, name)).parameters
