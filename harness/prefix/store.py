"""Tensors that networks made of images, kept for every training that asks for the same: computed once, and checked."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.digest import digest
from harness.models import weights

_SHARE_OF_MEMORY = 0.25
"""Most of this machine's memory that the tensors of one file may take."""


_SHARE_OF_DISK = 0.25
"""Most of what is free on the disk that they may take: checkpoints and records need it too."""


class Refused(Exception):
    """Why nothing can be kept, as a clause; whoever asks again is told the same."""


@dataclass(frozen=True)
class Wanted:
    """Tensors to keep."""

    key: Mapping[str, Any]
    """Plain data that stands for all that their bits depend on."""
    compute: Callable[[], dict[str, Tensor]]
    """Makes them; raises Refused."""
    check: Callable[[Mapping[str, Tensor]], None]
    """Raises Refused where they have other bits than on the plain path."""

    def path(self, folder: Path) -> Path:
        """Return where they are kept, if they are."""
        return folder / f"{digest(self.key)}.pt"


def kept(wanted: Wanted, folder: Path) -> dict[str, Tensor]:
    """Return tensors from `folder`, mapped into memory; made and checked first where they are not there.

    Processes that want the same wait for the first of them. Raises Refused, and whatever making them raises.
    """
    path = wanted.path(folder)
    refusal = path.with_suffix(".refused")
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(path.with_suffix(".lock")):
        if refusal.exists():
            raise Refused(refusal.read_text(encoding="utf-8"))
        if not path.exists():
            try:
                made = wanted.compute()
                wanted.check(made)
            except Refused as why:
                refusal.write_text(str(why), encoding="utf-8")
                raise
            weights.save(made, path)
    return load(path)


def load(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file, mapped into memory."""
    return dict(torch.load(path, map_location="cpu", mmap=True, weights_only=True))


def require_room(rows: int, row: Tensor, folder: Path) -> None:
    """Raise Refused where so many of such rows are more than may be kept in a folder."""
    needed = rows * row.numel() * row.element_size()
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for share, limit, what in (
        (_SHARE_OF_MEMORY, memory, "this machine's memory"),
        (_SHARE_OF_DISK, shutil.disk_usage(folder).free, "what is free on the disk"),
    ):
        if needed > share * limit:
            raise Refused(f"it would take {needed / 2**30:.1f} GiB, more than {share:.0%} of {what}")


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
