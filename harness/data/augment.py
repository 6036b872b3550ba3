"""Augmentations of uint8 batches on the device, drawn per image from their own generator."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from harness.devices import sent


def random_flip(images: Tensor, generator: np.random.Generator) -> Tensor:
    """Mirror each of images [N, C, H, W] left to right with probability ½."""
    return mirror(images, sent(flips(len(images), generator), images.device))


def mirror(images: Tensor, which: Tensor) -> Tensor:
    """Mirror those of images [N, C, H, W] that `which` [N] names, left to right."""
    return torch.where(which[:, None, None, None], images.flip(3), images)


def flips(count: int, generator: np.random.Generator) -> Tensor:
    """Draw whether each of `count` images is mirrored [N]."""
    return torch.from_numpy(generator.random(count) < 0.5)


def random_crop(images: Tensor, padding: int, generator: np.random.Generator) -> Tensor:
    """Pad each of images [N, C, H, W] by reflection and cut its own window of the old size.

    He et al. 2015, §4.2, pad with zeros; a reflected border leaves the statistics of inverted images alone.
    """
    n, _, height, width = images.shape
    # Reflection is not implemented for integers; bytes are exact in float32.
    padded = F.pad(images.float(), (padding,) * 4, mode="reflect").to(images.dtype)
    offsets = sent(generator.integers(0, 2 * padding + 1, size=(2, n)), images.device)
    rows = offsets[0][:, None] + torch.arange(height, device=images.device)
    columns = offsets[1][:, None] + torch.arange(width, device=images.device)
    batch = torch.arange(n, device=images.device)[:, None, None]
    # Advanced indices around a slice put the indexed axes first: [N, H, W, C].
    return padded[batch, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def random_resized_crop(images: Tensor, generator: np.random.Generator) -> Tensor:
    """Cut a window of its own out of each of images [N, C, H, W] and enlarge it to the old size.

    He et al. 2018, §2.1: 8–100 % of the area, between 3:4 and 4:3.
    """
    n, _, height, width = images.shape
    return resized_crop(images, *draw_windows(n, height, width, generator))


def draw_windows(n: int, height: int, width: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return the corners [N, 2] and sizes [N, 2] of n windows, rows before columns, in pixels.

    They are drawn as torchvision's RandomResizedCrop draws them: area and logarithm of the aspect uniform, ten tries,
    then the whole image (of which torchvision cuts the edges where it is longer than 4:3).
    """
    area = height * width * generator.uniform(*_AREA, size=(n, _TRIES))
    aspect = np.exp(generator.uniform(-_LOG_ASPECT, _LOG_ASPECT, size=(n, _TRIES)))
    tried = np.stack([np.round(np.sqrt(area / aspect)), np.round(np.sqrt(area * aspect))], axis=2).astype(np.int64)
    fits = np.all((tried > 0) & (tried <= (height, width)), axis=2)
    first = fits.argmax(axis=1)  # 0 where none fits
    fitting = fits[np.arange(n), first, None]
    size = np.where(fitting, tried[np.arange(n), first], (height, width))
    corner = np.floor(generator.random((n, 2)) * ((height, width) - size + 1)).astype(np.int64)
    return corner, size


def resized_crop(images: Tensor, corner: np.ndarray, size: np.ndarray) -> Tensor:
    """Enlarge the window at `corner` [N, 2] of `size` [N, 2] of each of images [N, C, H, W] to the old size.

    Bilinear; windows are no larger than their images, so that no antialiasing is needed.
    """
    whole = images.shape[2:]
    places = []
    for axis, pixels in enumerate(whole):
        start, length = (sent(values[:, axis, None], images.device) for values in (corner, size))
        # The centre of each new pixel within the window; beyond the centres of its outermost pixels nothing is blended.
        inside = (torch.arange(pixels, device=images.device, dtype=torch.float64) + 0.5) * length / pixels - 0.5
        place = start + torch.minimum(inside.clamp(min=0), length - 1)
        places.append((2 * place + 1) / pixels - 1)  # grid_sample counts from −1 to 1, edge to edge
    rows, columns = (place.float() for place in places)
    n, height, width = len(images), *whole
    grid = torch.stack([columns[:, None, :].expand(n, height, width), rows[:, :, None].expand(n, height, width)], dim=3)
    blended = F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)
    return blended.round().clamp(0, 255).to(images.dtype)


def color_jitter(images: Tensor, strength: float, generator: np.random.Generator) -> Tensor:
    """Scale brightness, contrast and saturation of each of images [N, 3, H, W], in an order of its own.

    The factors are uniform in 1 ± `strength` (He et al. 2018, §2.1: 0.4) and mean what torchvision's ColorJitter means.
    """
    n = len(images)
    factors = generator.uniform(1 - strength, 1 + strength, size=(n, len(_ADJUSTMENTS)))
    order = generator.permuted(np.tile(np.arange(len(_ADJUSTMENTS)), (n, 1)), axis=1)
    return adjusted(images, factors, order)


def adjusted(images: Tensor, factors: np.ndarray, order: np.ndarray) -> Tensor:
    """Return images [N, 3, H, W] with the adjustments that `order` [N, 3] numbers, each by its column of `factors`."""
    images = images.clone()
    for turn in order.T:
        for number, other_of in enumerate(_ADJUSTMENTS):
            rows = sent(np.flatnonzero(turn == number), images.device)
            mine = factors[turn == number, number, None, None, None]
            share, rest = (sent(values, images.device).float() for values in (mine, 1 - mine))
            picked = images[rows]
            images[rows] = (share * picked + rest * other_of(picked)).clamp(0, 255).to(images.dtype)
    return images


def grey(images: Tensor) -> Tensor:
    """Return the luma [N, 1, H, W] of images [N, 3, H, W] in whole shades (ITU-R BT.601)."""
    red, green, blue = images.float().unbind(dim=1)
    luma: Tensor = 0.2989 * red + 0.587 * green + 0.114 * blue
    return luma.floor()[:, None]


_AREA, _LOG_ASPECT, _TRIES = (0.08, 1.0), np.log(4 / 3), 10
_ADJUSTMENTS: tuple[Callable[[Tensor], Tensor], ...] = (
    torch.zeros_like,  # brightness
    lambda images: grey(images).mean(dim=(1, 2, 3), keepdim=True),  # contrast
    grey,  # saturation
)
"""What an image is blended with to adjust it; a factor of 1 is the image itself, above 1 away from the other."""
