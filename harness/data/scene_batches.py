"""Batches of scenes for training and for evaluation, as networks for detection and segmentation take them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from harness.data.augment import color_jitter
from harness.data.batches import Passes
from harness.data.normalise import Normalise
from harness.data.scene_augment import mirrored, padded, rescaled
from harness.data.scene_sets import Scenes, Target
from harness.seeds import stream
from harness.training import Training

SceneBatch = tuple[Tensor | list[Tensor], list[dict[str, Tensor]] | Tensor]
"""Images [N, 3, H, W], or each [3, h, w] where those of detection differ; objects of each, or masks [N, H, W]."""


class SceneBatches(Passes):
    """The batches of a training on scenes."""

    def __init__(self, training: Training, scenes: Scenes, device: torch.device) -> None:
        """Raises ValueError where a step of the training has no meaning for targets like these."""
        recipe, augment = training.recipe, training.train.augment
        if recipe.augments or recipe.mixes or recipe.target_maps:
            raise ValueError("augmentations and mixes of tricks, and smooth targets, are for classification alone")
        if augment.rescale and scenes.task == "detection":
            raise ValueError("augment: rescale is for masks; detectors scale images themselves")
        self._augment, self._scenes, self._size = augment, scenes, training.data.image_size
        self._normalise = Normalise(training.data, device)
        self._flip, self._rescale, self._colour = drawn = [
            stream(training.seed, name) for name in ("flip", "rescale", "colour")
        ]
        super().__init__(training, len(scenes), *drawn)

    def epoch(self) -> Iterator[SceneBatch]:
        """Yield the batches of one pass; a last batch that is not full is left out."""
        for images, targets in self._scenes.batches(self.order(), self._batch_size):
            yield as_batch(*self._augmented(images, targets), self._normalise)

    def _augmented(self, images: Sequence[Tensor], targets: Sequence[Target]) -> tuple[list[Tensor], list[Target]]:
        count = len(images)
        pairs = list(zip(images, targets, strict=True))
        if self._augment.flip:
            flips = self._flip.random(count) < 0.5
            pairs = [mirrored(*pair) if flip else pair for pair, flip in zip(pairs, flips, strict=True)]
        if self._augment.color_jitter:  # before an image is filled up, which would change its mean
            strength = self._augment.color_jitter
            pairs = [(color_jitter(image[None], strength, self._colour)[0], target) for image, target in pairs]
        if self._augment.rescale:
            low, high = self._augment.rescale
            draws = self._rescale.random((count, 3)).tolist()
            pairs = [
                rescaled(image, mask, low + (high - low) * factor, (top, left), self._size)
                for (image, mask), (factor, top, left) in zip(pairs, draws, strict=True)
                if isinstance(mask, Tensor)
            ]
        return [image for image, _ in pairs], [target for _, target in pairs]


def evaluation_batches(scenes: Scenes, batch_size: int, normalise: Callable[[Tensor], Tensor]) -> Iterator[SceneBatch]:
    """Yield all scenes in their order, as they are."""
    for images, targets in scenes.batches(torch.arange(len(scenes)), batch_size):
        yield as_batch(images, targets, normalise)


def as_batch(images: Sequence[Tensor], targets: Sequence[Target], normalise: Callable[[Tensor], Tensor]) -> SceneBatch:
    """Return images, normalised, and targets as one batch.

    Images of several sizes stay a list beside objects; with masks they are filled up, right and below, to the largest
    height and width of the batch: with 0 once normalised, and with 255, which nothing counts.
    """
    inputs = [normalise(image[None])[0] for image in images]
    masks = [target for target in targets if isinstance(target, Tensor)]
    sizes = np.array([image.shape[1:] for image in images])
    if masks:
        height, width = sizes.max(axis=0).tolist()
        filled = [padded(image, mask, height, width) for image, mask in zip(inputs, masks, strict=True)]
        return torch.stack([image for image, _ in filled]), torch.stack([mask for _, mask in filled])
    objects = [target for target in targets if isinstance(target, dict)]
    return (torch.stack(inputs) if (sizes == sizes[0]).all() else inputs), objects
