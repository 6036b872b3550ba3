"""Pretrained weights: where they come from, and how they enter a model."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlparse

import torch
import torchvision
from torch import Tensor, nn

from harness.errors import HarnessError, unknown
from harness.freezing.check import same_bits

if TYPE_CHECKING:
    from harness.training import Origin, Training

State = dict[str, Tensor]


def torchvision_weights(model: str, weights: str) -> torchvision.models.Weights:
    """Return torchvision's entry for `weights` of `model`; raises HarnessError with the legal names."""
    try:
        entries = torchvision.models.get_model_weights(model)
    except ValueError as error:
        raise HarnessError(f"torchvision has no weights for model {model!r}") from error
    if weights not in entries.__members__:
        raise HarnessError(unknown(f"torchvision weights of {model}", weights, entries.__members__))
    return entries[weights]


def torchvision_path(entry: torchvision.models.Weights) -> Path:
    """Return where torchvision keeps the file of `entry`, downloaded or not."""
    return Path(str(torch.hub.get_dir())) / "checkpoints" / os.path.basename(urlparse(str(entry.url)).path)


def fetch(entry: torchvision.models.Weights) -> None:
    """Download torchvision's `entry` where its file is missing; raises HarnessError naming the file and its address."""
    path = torchvision_path(entry)
    _, _, prefix = path.stem.rpartition("-")  # torchvision names a file by the first digits of its sha256
    if path.exists():
        if not file_digest(path).startswith(prefix):
            raise HarnessError(f"{path} is not torchvision's {entry}: its sha256 does not begin with {prefix}")
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(entry.url, str(path), hash_prefix=prefix, progress=False)
    except (OSError, RuntimeError) as error:  # RuntimeError: the hash is another
        raise HarnessError(
            f"torchvision weights {entry}: there is no file {path}, and downloading {entry.url} failed ({error}); "
            "put the file there, or set TORCH_HOME to the folder whose hub/checkpoints/ holds it"
        ) from error


def file_digest(path: Path) -> str:
    """Return the sha256 of a file; raises HarnessError where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise HarnessError(f"cannot read weights file {path}: {error.strerror}") from error


def saved(training: Training) -> bool:
    """Whether the weights that a training keeps, if it keeps any, are there."""
    return training.save_to is None or Path(training.save_to).exists()


def save(state: State, path: Path) -> None:
    """Write a state dict whole or not at all: a reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}.part")
    try:
        torch.save(state, draft)
        os.replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def read(path: Path) -> State:
    """Read a state dict, tensors only; raises HarnessError for anything else."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise HarnessError(f"cannot read a state dict from {path}: {error}") from error
    if not isinstance(state, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()
    ):
        raise HarnessError(f"{path} holds no state dict (a flat mapping from names to tensors)")
    return state


def check_backbone(module: nn.Module, state: State, head: tuple[str, ...]) -> set[str]:
    """Return the keys of `state` that belong in `module` outside its head, whose prefixes are `head`.

    Raises HarnessError for keys that are missing, unexpected or of another shape outside the head.
    """

    def outside_head(names: Iterable[str]) -> set[str]:
        return {name for name in names if not any(name.startswith(prefix + ".") for prefix in head)}

    own = module.state_dict()
    wanted, given = outside_head(own), outside_head(state)
    misshapen = {
        f"{name} {tuple(state[name].shape)} for {tuple(own[name].shape)}"
        for name in wanted & given
        if state[name].shape != own[name].shape
    }
    # torch before 0.4.1 had no counters, and loads state dicts without them.
    missing = {name for name in wanted - given if not name.endswith("num_batches_tracked")}
    problems = {"missing": missing, "unexpected": given - wanted, "of another shape": misshapen}
    if any(problems.values()):
        told = (f"{what}: {_some(keys)}" for what, keys in problems.items() if keys)
        raise HarnessError(f"the weights do not fit the model; {'; '.join(told)}")
    return wanted & given


def changed(state: State, origin: Origin | None) -> tuple[str, ...]:
    """Return the names in `state` of what is not, bit for bit, in the weights that it was trained from."""
    source = read(Path(origin.path)) if origin else {}
    return tuple(
        name
        for name, tensor in state.items()
        if name not in source
        or (source[name].dtype, source[name].shape) != (tensor.dtype, tensor.shape)
        or not same_bits(source[name], tensor)
    )


def _some(names: set[str]) -> str:
    shown = sorted(names)[:5]
    return ", ".join(shown) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def load_backbone(module: nn.Module, state: State, head: tuple[str, ...]) -> None:
    """Load `state` into all of `module` but its head; raises HarnessError where it does not fit."""
    wanted = check_backbone(module, state, head)
    module.load_state_dict({name: state[name] for name in wanted}, strict=False)
