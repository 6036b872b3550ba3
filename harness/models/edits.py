"""Edits of a built network. They keep the names of what stays, and its weights bit for bit."""

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn.modules.utils import _pair
from torchvision.models.resnet import BasicBlock, Bottleneck

from harness.models.cifar import init_convolutions


def stride_first(module: nn.Module) -> None:
    """Move the stride of downsampling bottlenecks from their 3×3 to their first 1×1 convolution.

    The network of He et al. 2015 (variant A); torchvision builds ResNet-B (He et al. 2018, §4.2).
    """
    for block in module.modules():
        if isinstance(block, Bottleneck):
            block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride


def dilate(module: nn.Module) -> None:
    """Let the last two of four stages keep the size of their maps: stride 8 in place of 32 (Chen et al. 2017, §3.1).

    What follows a stride that is gone looks further apart, so that each output pixel that the strided network has
    stays the same. torchvision's `replace_stride_with_dilation`, for networks of BasicBlocks too.
    """
    dilation = 1
    for stage in ("layer3", "layer4"):
        wider = dilation
        for child in module.get_submodule(stage).modules():
            if isinstance(child, BasicBlock | Bottleneck):
                child.stride = 1
            elif isinstance(child, nn.Conv2d):
                if child.kernel_size == (3, 3):
                    child.dilation = child.padding = (wider, wider)
                if child.stride == (2, 2):
                    child.stride, wider = (1, 1), 2 * dilation
        dilation *= 2


def deepen_stem(module: nn.Module) -> None:
    """Put three 3×3 convolutions of w/2, w/2 and w channels in place of a 7×7 of w (ResNet-C, He et al. 2018, §4.2)."""
    stem = module.get_submodule("conv1")
    assert isinstance(stem, nn.Conv2d)  # the spec allows a deep stem only where there is a 7×7
    width = stem.out_channels
    deep = nn.Sequential(
        nn.Conv2d(3, width // 2, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(width // 2),
        nn.ReLU(inplace=True),
        nn.Conv2d(width // 2, width // 2, 3, padding=1, bias=False),
        nn.BatchNorm2d(width // 2),
        nn.ReLU(inplace=True),
        nn.Conv2d(width // 2, width, 3, padding=1, bias=False),
    )
    init_convolutions(deep)
    module.set_submodule("conv1", deep)


def average_shortcuts(module: nn.Module) -> None:
    """Average 2×2 pixels before downsampling shortcuts, whose convolutions lose their stride (ResNet-D, §4.2).

    An odd row or column at the border is averaged by itself, as in the official code.
    """
    for block in module.modules():
        if isinstance(block, BasicBlock | Bottleneck) and block.downsample and block.stride == 2:
            convolution, norm = block.downsample
            convolution.stride = (1, 1)
            pool = nn.AvgPool2d(2, ceil_mode=True, count_include_pad=False)
            # By their old names, so that pretrained weights find them.
            block.downsample = nn.Sequential(OrderedDict({"pool": pool, "0": convolution, "1": norm}))


def append_classifier(module: nn.Module, name: str, classes: int) -> None:
    """Put a new linear layer over the logits of the linear layer `name`: its children are then `old` and `new`."""
    old = module.get_submodule(name)
    assert isinstance(old, nn.Linear)
    module.set_submodule(name, nn.Sequential(OrderedDict(old=old, new=nn.Linear(old.out_features, classes))))


def pool_deterministically(module: nn.Module) -> None:
    """Replace pooling to a fixed size above 1×1 by one that can be differentiated deterministically on CUDA."""
    for name, child in list(module.named_modules()):
        if isinstance(child, nn.AdaptiveAvgPool2d) and child.output_size not in (1, (1, 1)):
            module.set_submodule(name, FixedAvgPool2d(child.output_size))


class FixedAvgPool2d(nn.AdaptiveAvgPool2d):
    """AdaptiveAvgPool2d made of means: torch's own refuses to be differentiated deterministically on CUDA."""

    def forward(self, x: Tensor) -> Tensor:
        """Map x [N, C, H, W] to the means [N, C, *output_size] over windows that overlap where they must."""
        for dim, cells in zip((2, 3), _pair(self.output_size), strict=True):
            pixels = x.shape[dim]
            if pixels != cells:
                bounds = [(i * pixels // cells, -(-(i + 1) * pixels // cells)) for i in range(cells)]
                x = torch.stack([x.narrow(dim, start, end - start).mean(dim) for start, end in bounds], dim)
        return x
