"""Random erasing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from harness.recipe import Recipe

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

Byte = Annotated[int, Field(ge=0, le=255)]
Share = Annotated[float, Field(gt=0, lt=1)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]

_ATTEMPTS = 10
"""As many as torchvision makes before it leaves an image whole: a long box may not fit."""


@dataclass(frozen=True)
class EraseBoxes:
    """Each image loses, with probability p, a box of random area, aspect ratio and place (Zhong et al. 2020, Alg. 1).

    The aspect ratio is drawn log-uniformly, as torchvision's RandomErasing does, so that tall and wide are alike.
    """

    p: float
    scale: tuple[float, float]
    ratio: tuple[float, float]
    value: tuple[int, int, int]

    def boxes(self, count: int, height: int, width: int, generator: np.random.Generator) -> np.ndarray:
        """Return top, left, height and width of what each image loses, [count, 4]; 0 in size where it is nothing."""
        import numpy as np  # here, so that listing the tricks does not wait for it

        area = height * width * generator.uniform(*self.scale, (_ATTEMPTS, count))
        lowest, highest = np.log(self.ratio)
        ratio = np.exp(generator.uniform(lowest, highest, (_ATTEMPTS, count)))
        tall, wide = np.rint(np.sqrt(area * ratio)).astype(int), np.rint(np.sqrt(area / ratio)).astype(int)
        fits = (tall < height) & (wide < width)
        first = fits.argmax(0), np.arange(count)
        erased = fits[first] & (generator.random(count) < self.p)
        tall, wide = (np.where(erased, side[first], 0) for side in (tall, wide))
        top, left = generator.integers(0, (height - tall + 1, width - wide + 1))
        return np.stack([top, left, tall, wide], axis=1)

    def __call__(self, images: Tensor, generator: np.random.Generator) -> Tensor:
        """Map uint8 images [N, 3, H, W]."""
        import torch  # here, so that listing the tricks does not wait for it

        from harness.devices import sent

        value = sent(torch.tensor(self.value, dtype=images.dtype), images.device)[:, None, None]
        count, _, height, width = images.shape
        boxes = self.boxes(count, height, width, generator).tolist()
        erased = images.clone()
        for image, (top, left, tall, wide) in zip(erased, boxes, strict=True):
            image[:, top : top + tall, left : left + wide] = value
        return erased


@dataclass(frozen=True)
class RandomErasingTrick:
    """A random box of half of the images is painted over."""

    source: ClassVar[str] = "Zhong et al. 2020, Algorithm 1"
    p: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Probability for each image: the paper's, and torchvision's default."""
    scale: tuple[Share, Share] = (0.02, 0.33)
    """Least and largest share of the image; torchvision's default, where the paper goes up to 0.4."""
    ratio: tuple[Rate, Rate] = (0.3, 3.3)
    """Least and largest height over width; torchvision's default."""
    value: tuple[Byte, Byte, Byte] = (124, 116, 104)
    """The colour painted: ImageNet's mean, which is 0 once it is normalised, as in torchvision's reference training."""

    def __post_init__(self) -> None:
        """Raise ValueError for a range that ends before it begins."""
        for name, (least, largest) in (("scale", self.scale), ("ratio", self.ratio)):
            if not least <= largest:
                raise ValueError(f"{name} goes from {least} to {largest}: write the smaller first")

    def __call__(self, recipe: Recipe) -> Recipe:
        """Add the boxes to the recipe's augmentations."""
        return recipe.adding_one("augments", EraseBoxes(self.p, self.scale, self.ratio, self.value))
