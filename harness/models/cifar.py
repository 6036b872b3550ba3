"""The small residual networks of He et al. 2015, §4.2, made of torchvision's BasicBlock."""

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck


class CifarResNet(nn.Module):
    """A 3×3 stem and three stages of n blocks at 16, 32 and 64 channels: 6n + 2 layers.

    Shortcuts that change shape are 1×1 convolutions (option B of the paper), as in torchvision's ResNets.
    """

    def __init__(self, depth: int, classes: int) -> None:
        super().__init__()
        blocks, remainder = divmod(depth - 2, 6)
        if remainder or blocks < 1:
            raise ValueError(f"a CIFAR ResNet has 6n + 2 layers, not {depth}")
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = stage(BasicBlock, 16, 16, blocks, stride=1)
        self.layer2 = stage(BasicBlock, 16, 32, blocks, stride=2)
        self.layer3 = stage(BasicBlock, 32, 64, blocks, stride=2)
        self.fc = nn.Linear(64, classes)
        init_convolutions(self)

    def forward(self, images: Tensor) -> Tensor:
        """Map images [N, 3, H, W] to logits [N, classes]."""
        x = self.relu(self.bn1(self.conv1(images)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(torch.flatten(x.mean(dim=(2, 3)), 1))  # type: ignore[no-any-return]


def stage(
    block: type[BasicBlock | Bottleneck], channels_in: int, channels: int, blocks: int, stride: int
) -> nn.Sequential:
    """Return blocks of `channels` (times their expansion), the first with `stride` and a shortcut where one is due."""
    channels_out = channels * block.expansion
    shortcut = None
    if stride != 1 or channels_in != channels_out:
        shortcut = nn.Sequential(
            nn.Conv2d(channels_in, channels_out, 1, stride=stride, bias=False), nn.BatchNorm2d(channels_out)
        )
    first = block(channels_in, channels, stride, shortcut)
    return nn.Sequential(first, *(block(channels_out, channels) for _ in range(blocks - 1)))


def init_convolutions(module: nn.Module) -> None:
    """Draw the weights of all convolutions as torchvision's ResNets do (He et al. 2015)."""
    for child in module.modules():
        if isinstance(child, nn.Conv2d):
            nn.init.kaiming_normal_(child.weight, mode="fan_out", nonlinearity="relu")
