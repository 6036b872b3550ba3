"""The network that trainings begin from, and what is known of its bits: worked out once for all of them."""

from __future__ import annotations

from collections.abc import Set
from copy import deepcopy
from typing import TYPE_CHECKING

from torch import nn

from harness.bits import content_sha256, hashed
from harness.freezing.check import State, named_tensors
from harness.models import weights
from harness.models.stages import is_under

if TYPE_CHECKING:
    from hashlib import _Hash


class Start:
    """A network before its first step. It is copied, and never changed."""

    def __init__(self, module: nn.Module, source: State) -> None:
        """`source` are the weights that it was made from, empty where they are random."""
        self._module, self._source = module, source
        own = {name: tensor.detach().cpu() for name, tensor in module.state_dict().items()}
        self._changed = frozenset(weights.changed(own, source))
        _hold(module, {name: tensor for name, tensor in source.items() if name in own and name not in self._changed})
        self.tensors = named_tensors(module)
        """Its parameters and buffers."""
        self._frozen: dict[tuple[str, ...], str] = {}
        self._hashed: dict[int, _Hash] = {}

    def copy(self) -> nn.Module:
        """Return a network to train."""
        return deepcopy(self._module)

    def content_of(self, prefixes: tuple[str, ...]) -> str:
        """Return a digest of the parameters and buffers under name prefixes."""
        if prefixes not in self._frozen:
            under = [tensor for name, tensor in self.tensors.items() if any(is_under(name, p) for p in prefixes)]
            self._frozen[prefixes] = content_sha256(under)
        return self._frozen[prefixes]

    def sha256(self, state: State, moving: Set[str]) -> str:
        """Return the digest of `state`, of which all but `moving` is known to be as it was, as `state_sha256` does.

        What was hashed of the names before the first that moves serves every training that moves no earlier one.
        """
        names = [*state]
        first = next((number for number, name in enumerate(names) if name in moving), len(names))
        if first not in self._hashed:
            self._hashed[first] = hashed({name: state[name] for name in names[:first]})
        sha = self._hashed[first].copy()
        return hashed({name: state[name] for name in names[first:]}, sha).hexdigest()

    def changed(self, state: State, moving: Set[str]) -> tuple[str, ...]:
        """Return the names in `state`, all but `moving` as it was, of what is not in the weights it was made from."""
        moved = weights.changed({name: tensor for name, tensor in state.items() if name in moving}, self._source)
        return tuple(name for name in state if name in (moved if name in moving else self._changed))


def _hold(module: nn.Module, same: State) -> None:
    """Have a network hold the tensors `same`, which have the bits of its own, so that memory holds them once."""
    for name, tensor in module.state_dict(keep_vars=True).items():
        if name in same and tensor.device == same[name].device and tensor.stride() == same[name].stride():
            tensor.data = same[name]
