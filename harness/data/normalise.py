"""From bytes to what a network sees."""

import torch
from torch import Tensor

from harness.spec import Data


class Normalise:
    """Map uint8 images [N, 3, H, W] to (x/255 − mean)/std as float32."""

    def __init__(self, data: Data, device: torch.device) -> None:
        mean = torch.tensor(data.mean, device=device)[None, :, None, None]
        std = torch.tensor(data.std, device=device)[None, :, None, None]
        self._scale, self._shift = 1 / (255 * std), -mean / std

    def __call__(self, images: Tensor) -> Tensor:
        """Return the normalised images."""
        return images.float() * self._scale + self._shift
