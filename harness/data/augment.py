"""Augmentations of uint8 batches on the device, drawn per image from their own generator."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def random_flip(images: Tensor, generator: np.random.Generator) -> Tensor:
    """Mirror each of images [N, C, H, W] left to right with probability ½."""
    flip = torch.from_numpy(generator.random(len(images)) < 0.5).to(images.device)
    return torch.where(flip[:, None, None, None], images.flip(3), images)


def random_crop(images: Tensor, padding: int, generator: np.random.Generator) -> Tensor:
    """Pad each of images [N, C, H, W] by reflection and cut its own window of the old size.

    He et al. 2015, §4.2, pad with zeros; a reflected border leaves the statistics of inverted images alone.
    """
    n, _, height, width = images.shape
    # Reflection is not implemented for integers; bytes are exact in float32.
    padded = F.pad(images.float(), (padding,) * 4, mode="reflect").to(images.dtype)
    offsets = torch.from_numpy(generator.integers(0, 2 * padding + 1, size=(2, n))).to(images.device)
    rows = offsets[0][:, None] + torch.arange(height, device=images.device)
    columns = offsets[1][:, None] + torch.arange(width, device=images.device)
    batch = torch.arange(n, device=images.device)[:, None, None]
    # Advanced indices around a slice put the indexed axes first: [N, H, W, C].
    return padded[batch, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
