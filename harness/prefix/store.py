"""What the frozen prefix makes of each view of each image: computed once, checked, and kept for every training."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from harness.data import ImageSet
from harness.data.normalise import Normalise
from harness.digest import digest, plain
from harness.evaluate import BATCH
from harness.freezing.apply import evaluation_mode, training_mode
from harness.models import weights
from harness.models.bfloat16 import spare_strided_convolutions
from harness.prefix.cut import Cut
from harness.prefix.splice import begin_at, prefix_output
from harness.seeds import stream
from harness.start import Start
from harness.training import Training
from harness.versions import version_mark

_SHARE_OF_MEMORY = 0.25
"""Most of this machine's memory that what is kept of one training's images may take."""
_GATE_BATCHES = 2


@dataclass(frozen=True)
class Need:
    """One training's network, images and way of computing."""

    training: Training
    cut: Cut
    start: Start
    train: ImageSet
    val: ImageSet
    test: ImageSet
    device: torch.device
    device_name: str
    dtype: torch.dtype
    """That a training step computes in; evaluation is in float32."""

    @property
    def size(self) -> int:
        """Images that the network sees at a time in training."""
        return self.training.train.batch_size // self.training.train.accumulate

    @property
    def views(self) -> int:
        """Views of each training image."""
        return 2 if self.training.train.augment.flip else 1


@dataclass(frozen=True)
class Stored:
    """What a prefix made."""

    views: Tensor
    """[views × N, …]: of every training image, then of every one mirrored, where images are mirrored."""
    val: Tensor
    test: Tensor
    path: Path = Path()
    """Where it is kept."""


def stored(need: Need, folder: Path) -> Stored | str:
    """Return what the prefix makes of all images, from `folder` where it is there; or why it cannot be relied on.

    Processes that want the same wait for the first of them.
    """
    path = folder / f"{_key(need)}.pt"
    refusal = path.with_suffix(".refused")
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(path.with_suffix(".lock")):
        if refusal.exists():
            return refusal.read_text(encoding="utf-8")
        if not path.exists():
            with _random_numbers_kept(need.device):
                made = _compute(need)
                why = made if isinstance(made, str) else _difference(need, made)
            if why:
                refusal.write_text(why, encoding="utf-8")
                return why
            assert isinstance(made, Stored)
            weights.save({name: getattr(made, name) for name in ("views", "val", "test")}, path)
    return Stored(**torch.load(path, map_location="cpu", mmap=True, weights_only=True), path=path)


def _key(need: Need) -> str:
    """Return what stands for all that the bits of a prefix depend on."""
    training = need.training
    return digest(
        {
            "model": plain(training.model),
            "entry": need.cut.entry,
            "weights": need.start.content_of(need.cut.frozen),
            "images": [images.content for images in (need.train, need.val, need.test)],
            "normalised": [list(training.data.mean), list(training.data.std)],
            "views": need.views,
            "batch": [need.size, BATCH],
            "threads": torch.get_num_threads(),
            "dtype": str(need.dtype),
            "channels_last": training.train.channels_last,
            "device": need.device_name,
            "versions": version_mark(),
        }
    )


@torch.no_grad()
def _compute(need: Need) -> Stored | str:
    """Compute it as training and evaluation would: in batches of their size, precision and modes."""
    module, normalise = _copy(need), Normalise(need.training.data, need.device)
    count, size = len(need.train), need.size
    views: list[Tensor] = []
    with _precision(need):
        for mirrored in range(need.views):
            for rows in torch.arange(count, device=need.device).split(size):
                # A last batch that is not full is filled up: other sizes may have other kernels.
                full = torch.cat([rows, rows.new_zeros(size - len(rows))])
                images = need.train.images[full]
                made = prefix_output(module, need.cut, normalise(images.flip(3) if mirrored else images))
                if made.shape[0] != size:
                    return "the frozen part does not hand on a tensor with a row for each image"
                if not views and (why := _no_room(made, need)):
                    return why
                views.append(made[: len(rows)].cpu())
    evaluation_mode(module)
    val, test = (
        torch.cat([prefix_output(module, need.cut, normalise(batch)) for batch in images.images.split(BATCH)]).cpu()
        for images in (need.val, need.test)
    )
    return Stored(torch.cat(views), val, test)


def _copy(need: Need) -> nn.Module:
    """Return a copy of the network in the modes in which it begins to train."""
    module = need.start.copy()
    if need.dtype == torch.bfloat16 and need.device.type == "cpu":
        spare_strided_convolutions(module)
    training_mode(module, need.training.phases[0])
    return module


def _precision(need: Need) -> torch.autocast:
    return torch.autocast(need.device.type, need.dtype, enabled=need.dtype != torch.float32)


def _no_room(made: Tensor, need: Need) -> str:
    rows = len(need.train) * need.views + len(need.val) + len(need.test)
    needed = rows * made[0].numel() * made.element_size()
    limit = _SHARE_OF_MEMORY * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed <= limit:
        return ""
    return f"it would take {needed / 2**30:.1f} GiB, more than {_SHARE_OF_MEMORY:.0%} of this machine's memory"


def _difference(need: Need, made: Stored) -> str:
    """Return what differs between the plain path and the rest of the network on what is stored; empty for nothing.

    Batches are drawn anew, so images stand beside others than those beside which they were stored.
    """
    drawn = stream(0, "gate of the frozen prefix")
    normalise = Normalise(need.training.data, need.device)
    whole, rest = _copy(need), _copy(need)
    begin_at(rest, need.cut)
    for _ in range(_GATE_BATCHES):
        rows = torch.from_numpy(drawn.integers(len(need.train), size=need.size))
        mirrored = torch.from_numpy(drawn.random(need.size) < 0.5) & (need.views > 1)
        images = need.train.images[rows.to(need.device)]
        images = torch.where(mirrored.to(need.device)[:, None, None, None], images.flip(3), images)
        kept = made.views[rows + len(need.train) * mirrored].to(need.device)
        outputs = []
        for module, inputs in ((whole, normalise(images)), (rest, kept)):
            torch.manual_seed(0)  # dropout in what learns
            with _precision(need):
                outputs.append(module(inputs))
        if not _same(*outputs):
            return "in another batch the frozen part gives an image other bits"
    if not _same(whole.state_dict(), rest.state_dict()):
        return "what follows the frozen part moves otherwise on what is stored"
    return ""


def _same(a: Any, b: Any) -> bool:
    pairs = zip(tree_leaves(a), tree_leaves(b), strict=True)
    return all(torch.equal(x, y) for x, y in pairs if isinstance(x, Tensor))


@contextmanager
def _random_numbers_kept(device: torch.device) -> Iterator[None]:
    """Leave torch's generators as they were: training draws from them."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
