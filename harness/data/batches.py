"""Training batches: shuffled, augmented and turned into targets on the device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from harness.data import Images
from harness.data.augment import color_jitter, random_crop, random_flip, random_resized_crop
from harness.data.normalise import Normalise
from harness.seeds import stream
from harness.training import Training


class Passes:
    """Passes over training images, each random step with a stream of its own, so that no trick shifts another's."""

    def __init__(self, training: Training, images: int, *streams: np.random.Generator) -> None:
        """`images` are counted; `streams` are all that is drawn from, but for the order."""
        self._batch_size, self._images_of_a_pass = training.train.batch_size, images
        self._order = stream(training.seed, "order")
        self._streams = (self._order, *streams)
        self.per_epoch = images // self._batch_size
        if not self.per_epoch:
            raise ValueError(f"{images} training images do not fill a batch of {self._batch_size}")

    def state(self) -> list[Any]:
        """Return how far each stream was drawn, for `restore` between two passes."""
        return [generator.bit_generator.state for generator in self._streams]

    def restore(self, state: list[Any]) -> None:
        """Go on where the batches of the same training had this `state`."""
        for generator, drawn in zip(self._streams, state, strict=True):
            generator.bit_generator.state = drawn

    def epoch(self) -> Iterator[tuple[Any, Any]]:
        """Yield inputs and targets of one pass; a last batch that is not full is left out."""
        raise NotImplementedError

    def order(self) -> Tensor:
        """Draw the rows of the images of one pass, batch after batch; what fills no batch is left out."""
        rows = torch.from_numpy(self._order.permutation(self._images_of_a_pass))
        return rows[: self.per_epoch * self._batch_size]


class Batches(Passes):
    """The batches of a training for classification."""

    def __init__(self, training: Training, images: Images, device: torch.device) -> None:
        self._training, self._images = training, images
        self._normalise = Normalise(training.data, device)
        self._crop, self._flip, self._window, self._colour, self._choice = drawn = [
            stream(training.seed, name) for name in ("crop", "flip", "window", "colour", "choice of mix")
        ]
        # Each of its own, by its kind: another trick beside it, or another order, shifts no draw.
        self._augments = [(augment, _own_stream(training, augment)) for augment in training.recipe.augments]
        self._mixes = [(mix, _own_stream(training, mix)) for mix in training.recipe.mixes]
        own = [generator for _, generator in (*self._augments, *self._mixes)]
        super().__init__(training, len(images), *drawn, *own)

    def epoch(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images [N, 3, H, W] and targets [N, K] of one pass; a last batch that is not full is left out."""
        for images, labels in self._images.batches(self.order(), self._training.train.batch_size):
            yield self._prepare(images, labels)

    def targets(self, labels: Tensor) -> Tensor:
        """Return targets [N, K] of images that are not mixed."""
        targets = F.one_hot(labels, self._training.classes).to(torch.float32)
        for target_map in self._training.recipe.target_maps:
            targets = target_map(targets)
        return targets

    def _prepare(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        augment = self._training.train.augment
        if augment.flip:
            images = random_flip(images, self._flip)
        if augment.crop_padding:
            images = random_crop(images, augment.crop_padding, self._crop)
        if augment.resized_crop:
            images = random_resized_crop(images, self._window)
        if augment.color_jitter:
            images = color_jitter(images, augment.color_jitter, self._colour)
        for augment_map, generator in self._augments:
            images = augment_map(images, generator)
        inputs, targets = self._normalise(images), self.targets(labels)
        if self._mixes:
            mix, generator = self._mixes[self._choice.integers(len(self._mixes))]
            inputs, targets = mix(inputs, targets, generator)
        return inputs, targets


def _own_stream(training: Training, item: object) -> np.random.Generator:
    return stream(training.seed, type(item).__name__)
