"""Digests of the bits of tensors."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from hashlib import _Hash


def state_sha256(state: Mapping[str, Tensor]) -> str:
    """Return a digest of the names and bits of a state dict on the CPU."""
    return hashed(state).hexdigest()


def hashed(state: Mapping[str, Tensor], begun: _Hash | None = None) -> _Hash:
    """Return the hash of the names and bits of a state dict on the CPU, after what was hashed of another before it."""
    sha = begun or hashlib.sha256()
    for name, tensor in state.items():
        sha.update(name.encode())
        sha.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return sha


def content_sha256(tensors: Iterable[Tensor]) -> str:
    """Return a digest of the shapes, kinds and bits of tensors, on whatever device."""
    sha = hashlib.sha256()
    for tensor in tensors:
        sha.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
        sha.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()
