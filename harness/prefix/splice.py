"""A network that begins at a cut: what comes in is what the frozen prefix would have made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from harness.prefix.cut import Cut


class _AtEntry(Exception):
    """The prefix has been computed."""


def prefix_output(module: nn.Module, cut: Cut, inputs: Tensor) -> Tensor:
    """Return what the rest of `module` gets from its frozen prefix on normalised images [N, 3, H, W].

    Raises TypeError where that is no single tensor.
    """
    made: list[Tensor] = []

    def stop(_: nn.Module, arrived: tuple[Any, ...]) -> None:
        if len(arrived) != 1 or not isinstance(arrived[0], Tensor):
            raise TypeError(f"{cut.entry} takes more than one tensor")
        made.append(arrived[0])
        raise _AtEntry

    handle = module.get_submodule(cut.entry).register_forward_pre_hook(stop)
    try:
        module(inputs)
    except _AtEntry:
        return made[0]
    finally:
        handle.remove()
    raise TypeError(f"{cut.entry} is never reached")


@contextmanager
def begun_at(module: nn.Module, cut: Cut | None) -> Iterator[None]:
    """Let `module` take the output of its frozen prefix, and begin there, until the block ends; None changes nothing.

    Its frozen modules hand on what they get, a few zeros; whatever stands between them has next to nothing to do.
    """
    if cut is None:
        yield
        return
    arrived: list[Tensor] = []

    def hold(_: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
        arrived[:] = inputs
        return torch.zeros(1, 3, 8, 8, device=inputs[0].device)

    def release(_: nn.Module, __: tuple[Any, ...]) -> Tensor:
        return arrived.pop()

    frozen = {module.get_submodule(name) for name in cut.frozen}
    handles = [
        module.register_forward_pre_hook(hold),
        module.get_submodule(cut.entry).register_forward_pre_hook(release),
    ]
    for child in frozen:
        child.forward = _hand_on
    try:
        yield
    finally:
        for child in frozen:
            del child.forward  # its class has its own
        for handle in handles:
            handle.remove()


def _hand_on(first: Tensor, *_: Any, **__: Any) -> Tensor:
    return first
