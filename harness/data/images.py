"""The images of one split, as training and evaluation ask for them: batches of given rows, uint8, on the device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from harness.bits import content_sha256
from harness.data.decoding import Undecoded
from harness.devices import sent


class Images(Protocol):
    """Images and their labels. Where they come from changes no bit of them."""

    @property
    def labels(self) -> Tensor:
        """Label [N] of each image, int64, on the device."""

    def __len__(self) -> int: ...

    def batches(self, rows: Tensor, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images [n, 3, H, W], uint8, and labels [n] of `rows` [M] in their order, `batch_size` at a time."""


@dataclass(frozen=True)
class ImageSet:
    """Images [N, 3, H, W] as uint8 and labels [N] as int64, on one device."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def content(self) -> str:
        """A digest of the images."""
        return content_sha256([self.images])

    def batches(self, rows: Tensor, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images and labels of `rows`, `batch_size` at a time."""
        for index in sent(rows, self.labels.device).split(batch_size):
            yield self.images[index], self.labels[index]


class Stream:
    """Batches decoded by worker processes while the device trains on those before them."""

    def __init__(self, undecoded: Any, workers: int, device: torch.device) -> None:
        """`undecoded[rows]` is a whole batch; no `workers` decode in this process. They start with the first batch."""
        self._asked: list[list[int]] = []
        self._pass = 0
        self._loader: DataLoader[Any] = DataLoader(
            undecoded,
            sampler=self._asked,
            batch_size=None,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=device.type == "cuda",
            # Its own, or each pass would draw from the global generator, which layers draw from.
            generator=torch.Generator(),
        )

    def __call__(self, batches: list[list[int]]) -> Iterator[Any]:
        """Yield the batch of each of these lists of rows; a new pass ends the one before it."""
        self._pass += 1
        mine = self._pass
        self._asked[:] = batches
        for batch in self._loader:
            yield batch
            if mine != self._pass:
                raise RuntimeError("another pass over these images has begun, which ended this one")


class StreamedImages:
    """Images decoded whenever they are asked for."""

    def __init__(
        self, images: Undecoded, rows: np.ndarray, labels: np.ndarray, workers: int, device: torch.device
    ) -> None:
        """`rows` [N] of `images` are this set."""
        self.labels = torch.from_numpy(labels).to(device)
        self._rows, self._device = rows, device
        self._stream = Stream(images, workers, device)

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, rows: Tensor, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images and labels of `rows`, `batch_size` at a time; a new pass ends the one before it."""
        decoded = self._stream([self._rows[index.numpy()].tolist() for index in rows.split(batch_size)])
        labels = self.labels[sent(rows, self._device)].split(batch_size)
        for images, batch_labels in zip(decoded, labels, strict=True):
            yield images.to(self._device, non_blocking=True), batch_labels
