"""A fault of bfloat16 convolutions on a CPU, kept out of training."""

import torch
from torch import Tensor, nn


class StridedConv2d(nn.Conv2d):
    """A convolution that computes in float32 where its input is smaller than its stride.

    There oneDNN leaves taps of the weight's gradient as it found the memory (measured with torch 2.14: 3×3, stride 2,
    on 1×1 pixels has up to 1e38 off the centre in place of 0, and other numbers every time).
    """

    def forward(self, input: Tensor) -> Tensor:
        """Map images [N, C, H, W]."""
        if all(side >= stride for side, stride in zip(input.shape[-2:], self.stride, strict=True)):
            return super().forward(input)
        with torch.autocast("cpu", enabled=False):
            return super().forward(input.float())


def spare_strided_convolutions(module: nn.Module) -> None:
    """Let the strided convolutions of `module` be of the kind above; parameters and names stay."""
    for child in module.modules():
        if type(child) is nn.Conv2d and max(child.stride) > 1:
            child.__class__ = StridedConv2d
