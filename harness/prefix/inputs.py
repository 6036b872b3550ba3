"""What a network is fed: images, or what its frozen prefix makes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from harness.data import Images, ImageSet, Splits
from harness.data.augment import flips
from harness.data.batches import Batches
from harness.data.normalise import Normalise
from harness.devices import device_name, sent
from harness.prefix.cut import cut_of, only_head_learns
from harness.prefix.splice import begin_at
from harness.prefix.store import Need, stored
from harness.start import Start
from harness.supplies import Supplies
from harness.training import Training

_SHARE_OF_DEVICE = 0.25
"""Most of a GPU's free memory that what is kept may take."""


@dataclass(frozen=True)
class Inputs:
    """Batches to train on and sets to evaluate, and what maps an evaluated batch to what the network takes."""

    batches: Batches
    val: Images
    test: Images
    normalise: Callable[[Tensor], Tensor]
    head: nn.Linear | None = None
    """All that is left of the network, where it is one linear layer that learns in float32 and whole batches."""
    note: str = ""
    """Why the frozen prefix is not computed once after all, where it should have been."""


def inputs_of(training: Training, start: Start, module: nn.Module, splits: Splits, supplies: Supplies) -> Inputs:
    """Return the inputs of a training; where its frozen prefix is computed once, `module` is changed to begin after it.

    Where the supplies have no folder for what is reused, every step computes it.
    """
    device, folder = supplies.device, supplies.reuse
    plain = Inputs(Batches(training, splits.train, device), splits.val, splits.test, Normalise(training.data, device))
    cut = cut_of(training)
    train, val, test = splits.train, splits.val, splits.test
    if folder is None or isinstance(cut, str):
        return plain
    if not (isinstance(train, ImageSet) and isinstance(val, ImageSet) and isinstance(test, ImageSet)):
        return plain  # streamed, since they are too many to keep anything of
    precision = training.recipe.precision
    dtype = precision.dtype(device.type) if precision else torch.float32
    try:
        kept = stored(Need(training, cut, start, train, val, test, device, device_name(device), dtype), folder)
    except Exception as error:  # a shortcut that fails, a full disk among other reasons, ends no training
        kept = f"{type(error).__name__}: {error}"
    if isinstance(kept, str):
        return replace(plain, note=f"its frozen part was computed at every step: {kept}")
    begin_at(module, cut)
    rest = module.get_submodule(cut.entry)
    return Inputs(
        StoredBatches(training, train, supplies.views(kept.path, lambda: _near(kept.views, device)), device),
        _StoredSet(kept.val, val.labels),
        _StoredSet(kept.test, test.labels),
        nn.Identity(),
        rest if only_head_learns(training) and isinstance(rest, nn.Linear) else None,
    )


class StoredBatches(Batches):
    """The batches of a training, of what its frozen prefix makes of each view: drawn as those of the images are."""

    def __init__(self, training: Training, images: ImageSet, views: Tensor, device: torch.device) -> None:
        """`views` are as in `Stored`."""
        super().__init__(training, images, device)
        self._labels, self._views, self._device = images.labels, views, device

    def epoch(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield inputs of the rest of the network, and targets [N, K], of one pass."""
        for rows in self.order().split(self._training.train.batch_size):
            at = rows
            if self._training.train.augment.flip:
                at = rows + len(self._labels) * flips(len(rows), self._flip)
            yield (
                _rows_of(self._views, at, self._device),
                self.targets(self._labels[sent(rows, self._device)]),
            )


@dataclass(frozen=True)
class _StoredSet:
    """What the prefix makes of the images of a set, in the place of those images."""

    made: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, rows: Tensor, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        for index in rows.split(batch_size):
            device = self.labels.device
            yield _rows_of(self.made, index, device), self.labels[sent(index, device)]


def _rows_of(kept: Tensor, rows: Tensor, device: torch.device) -> Tensor:
    """Return `rows` of what is kept, on the device where it does not lie there."""
    return kept[sent(rows, device)] if kept.device.type == device.type else sent(kept[rows], device)


def _near(views: Tensor, device: torch.device) -> Tensor:
    """Return them on the device where it has the room; else batches are copied to it one by one."""
    if device.type == "cuda" and views.nbytes < _SHARE_OF_DEVICE * torch.cuda.mem_get_info(device)[0]:
        return views.to(device)
    return views
