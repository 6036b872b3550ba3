"""Pretrained weights: where they come from, and how they enter a model."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse
from uuid import uuid4

import torch
import torchvision
from torch import Tensor, nn

from harness.digest import file_digest
from harness.errors import HarnessError, unknown
from harness.freezing.check import same_bits
from harness.models.stages import is_under

if TYPE_CHECKING:
    from harness.training import Training

State = dict[str, Tensor]
_NESTED = ("state_dict", "model")
"""Where checkpoints keep a state dict beside epochs and optimizers."""
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])(?=\.)")
"""Names as `denselayer1.norm.1.weight`, which today is `denselayer1.norm1.weight`."""


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


def saved(training: Training) -> bool:
    """Whether the weights that a training keeps, if it keeps any, are there."""
    return training.save_to is None or Path(training.save_to).exists()


def save(state: Mapping[str, Any], path: Path) -> None:
    """Write a state dict whole or not at all: a reader never sees half a file, not even after a loss of power.

    Raises OSError naming the file, on a full disk too, which torch's writer tells otherwise.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(f".{uuid4().hex}.part")  # a process of another node may have the same id
    try:
        with draft.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except BaseException as error:
        draft.unlink(missing_ok=True)
        cause = error.__context__ if isinstance(error, RuntimeError) else error
        if isinstance(cause, OSError) and cause.errno:
            raise OSError(cause.errno, cause.strerror, str(path)) from error
        raise


def read(path: Path) -> State:
    """Read a state dict, tensors only; raises HarnessError for anything else.

    It may lie under `state_dict` or `model` in a checkpoint, its names may begin with DataParallel's `module.`, and
    those of a DenseNet may be the old ones that torchvision's own files have.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise HarnessError(f"cannot read a state dict from {path}: {error}") from error
    state = next((content[key] for key in _NESTED if _is_nested(content, key)), content)
    if not isinstance(state, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()
    ):
        raise HarnessError(
            f"{path} holds no state dict: a mapping from names to tensors, flat or under {' or '.join(_NESTED)}"
        )
    prefix = "module." if all(key.startswith("module.") for key in state) else ""
    return {_OLD_DENSENET.sub(r"\1\2", key.removeprefix(prefix)): value for key, value in state.items()}


def _is_nested(content: Any, key: str) -> bool:
    return isinstance(content, dict) and isinstance(content.get(key), dict)


def changed(state: State, source: State) -> tuple[str, ...]:
    """Return the names in `state` of what is not, bit for bit, in the weights that it was trained from."""
    return tuple(
        name
        for name, tensor in state.items()
        if name not in source
        or (source[name].dtype, source[name].shape) != (tensor.dtype, tensor.shape)
        or not same_bits(source[name], tensor)
    )


@dataclass(frozen=True)
class Fit:
    """How a state dict fits a network outside its new head."""

    entering: State
    """What goes in, by its names in the network."""
    missing: frozenset[str]
    unexpected: frozenset[str]
    misshapen: frozenset[str]
    """Names with the shape that is there and the shape there should be."""

    @property
    def left_out(self) -> str:
        """What does not fit, in words; empty where all does."""
        kinds = {"missing": self.missing, "unexpected": self.unexpected, "of another shape": self.misshapen}
        return "; ".join(f"{kind}: {_some(names)}" for kind, names in kinds.items() if names)


def _some(names: Set[str]) -> str:
    shown = sorted(names)[:5]
    return ", ".join(shown) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def fit_backbone(module: nn.Module, state: State, head: tuple[str, ...]) -> Fit:
    """Compare `state` with `module` outside its head, whose name prefixes are `head`.

    Where a new classifier is appended to an old one (see `build_model`), the old one counts as backbone.
    """
    appended = [name for name, child in module.named_modules() if _children(child) == ["old", "new"]]
    if appended:
        head = tuple(f"{name}.new" for name in appended)
        names = {f"{name}.{kind}": f"{name}.old.{kind}" for name in appended for kind in ("weight", "bias")}
        state = {names.get(key, key): value for key, value in state.items()}
    own = {key: value for key, value in module.state_dict().items() if not _is_in(key, head)}
    given = {key: value for key, value in state.items() if not _is_in(key, head)}
    fitting = {key for key in given if key in own and given[key].shape == own[key].shape}
    return Fit(
        entering={key: value for key, value in given.items() if key in fitting},
        # torch before 0.4.1 had no counters, and loads state dicts without them.
        missing=frozenset(key for key in own if key not in given and not key.endswith("num_batches_tracked")),
        unexpected=frozenset(given.keys() - own.keys()),
        misshapen=frozenset(
            f"{key} {tuple(given[key].shape)} for {tuple(own[key].shape)}"
            for key in given.keys() & own.keys() - fitting
        ),
    )


def classes_of(path: Path, head: tuple[str, ...]) -> int:
    """Return the classes of the classifier in a checkpoint; raises HarnessError where it has none."""
    matrices = [tensor for name, tensor in read(path).items() if _is_in(name, head) and tensor.ndim == 2]
    if not matrices:
        raise HarnessError(f"{path} has no classifier: nothing in it is named {' or '.join(head)}")
    return len(matrices[-1])


def _children(module: nn.Module) -> list[str]:
    return [name for name, _ in module.named_children()]


def _is_in(name: str, prefixes: tuple[str, ...]) -> bool:
    return any(is_under(name, prefix) for prefix in prefixes)


def check_backbone(module: nn.Module, state: State, head: tuple[str, ...], allow_mismatch: bool = False) -> Fit:
    """Return how `state` fits `module` outside its head, as `fit_backbone` does.

    Raises HarnessError for keys that are missing, unexpected or of another shape; with `allow_mismatch` only where no
    key fits.
    """
    fit = fit_backbone(module, state, head)
    if fit.left_out and not (allow_mismatch and fit.entering):
        raise HarnessError(f"the weights do not fit the model; {fit.left_out}")
    return fit


def load_backbone(module: nn.Module, state: State, head: tuple[str, ...], allow_mismatch: bool = False) -> Fit:
    """Load what fits of `state` into all of `module` but its head; raises HarnessError as `check_backbone`."""
    fit = check_backbone(module, state, head, allow_mismatch)
    module.load_state_dict(fit.entering, strict=False)
    return fit
