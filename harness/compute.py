"""Settings that make a training step faster and may change bits: how weights lie in memory, and what is compiled."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import nn

from harness.errors import NotThere
from harness.spec import Compile, Train

Forward = Callable[..., Any]
"""Maps a network and what it takes, images [N, 3, H, W] for one, to what it makes of that."""


def memory_format(train: Train) -> torch.memory_format:
    """Return how the weights of convolutions lie; their images and what they make of them follow."""
    return torch.channels_last if train.channels_last else torch.preserve_format


def forward_of(train: Train, device: torch.device) -> Forward:
    """Return what computes a network in a training step; raises as `check`."""
    check(train, device)
    return _plain if train.compile == "none" else _compiled(train.compile)


def check(train: Train, device: torch.device | str) -> None:
    """Raise NotThere where the device has no CUDA graphs to record, or its machine no compiler."""
    if train.compile == "none" or str(device).startswith("cuda"):
        return
    if train.records_graphs:
        raise NotThere(
            f"train.compile: {train.compile} records CUDA graphs, and there are none on {device}; "
            "legal there: none, default, max-autotune-no-cudagraphs"
        )
    from torch._inductor import config  # here, since it takes a second

    compilers = [name for name in config.cpp.cxx if name]
    if not any(map(shutil.which, compilers)):
        raise NotThere(
            f"train.compile: {train.compile} on {device} needs a C++ compiler, and there is no {compilers[0]}: "
            "install it, name another by CXX, or leave `compile` out"
        )


def _plain(module: nn.Module, *taken: Any) -> Any:
    return module(*taken)


@cache
def _compiled(mode: Compile) -> Forward:
    """Return `_plain` compiled: anew for each network, phase, precision and shape, and once for all trainings of it.

    A graph is that of a network's structure: weights come in as arguments, so that another seed finds it again. torch
    keeps what is made on disk too, for other processes.
    """
    import torch._dynamo

    # Beyond these torch would give up, and which training that hits would depend on those before it in its process.
    torch._dynamo.config.recompile_limit = torch._dynamo.config.accumulated_recompile_limit = 1_000_000
    # Kernels that are timed against each other are those of a moment: only the modes that are named for it may do so.
    options = {**torch._inductor.list_mode_options(mode), "deterministic": not mode.startswith("max-autotune")}
    # Sizes that vary are compiled one by one: a kernel for any size would have other bits than one for its own.
    return torch.compile(_plain, fullgraph=True, dynamic=False, options=options)
