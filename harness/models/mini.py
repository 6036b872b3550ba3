"""A small bottleneck ResNet with a 7×7 stem: what tells ResNet-B, C and D apart, at a cost for a processor."""

import torch
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck

from harness.models.cifar import init_convolutions, stage


class MiniResNet(nn.Module):
    """torchvision's ResNet at a quarter of its width, with one bottleneck a stage: 14 layers, 64 to 512 channels."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = stage(Bottleneck, 16, 16, blocks=1, stride=1)
        self.layer2 = stage(Bottleneck, 64, 32, blocks=1, stride=2)
        self.layer3 = stage(Bottleneck, 128, 64, blocks=1, stride=2)
        self.layer4 = stage(Bottleneck, 256, 128, blocks=1, stride=2)
        self.fc = nn.Linear(512, classes)
        init_convolutions(self)

    def forward(self, images: Tensor) -> Tensor:
        """Map images [N, 3, H, W] to logits [N, classes]."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(torch.flatten(x.mean(dim=(2, 3)), 1))  # type: ignore[no-any-return]
