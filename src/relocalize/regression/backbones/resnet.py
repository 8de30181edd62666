"""ResNet (He et al., Deep Residual Learning for Image Recognition, CVPR 2016, tables 1 and 6).

Parameter names, shapes and the place of the stride (in the 3x3 convolution of a bottleneck) are
those of torchvision.models.resnet, so that its weights, and those of the Places365 networks that
were trained with it, load by name.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from relocalize.regression.backbones.backbone import Backbone, Stage

# The mean and standard deviation of ImageNet's RGB in 0..1, with which torchvision's and the
# Places365 networks were trained (torchvision.models: "Preprocessing").
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_WIDTHS = (64, 128, 256, 512)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and the shortcut (figure 5, left)."""

    expansion = 1

    def __init__(self, channels_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _shortcut(channels_in, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, channels_in, H, W]`` to ``[B, width, H / stride, W / stride]``."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        y: Tensor = self.relu(x + shortcut)
        return y


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions and the shortcut (figure 5, right)."""

    expansion = 4

    def __init__(self, channels_in: int, width: int, stride: int) -> None:
        super().__init__()
        channels_out = width * self.expansion
        self.conv1 = nn.Conv2d(channels_in, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, channels_out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels_out)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(channels_in, channels_out, stride)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, channels_in, H, W]`` to ``[B, 4 * width, H / stride, W / stride]``."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        x = self.bn3(self.conv3(x))
        y: Tensor = self.relu(x + shortcut)
        return y


class ResNet(Backbone):
    """The residual network with ``depths`` blocks in its four layers."""

    def __init__(
        self, name: str, block: type[BasicBlock | Bottleneck], depths: tuple[int, int, int, int]
    ) -> None:
        stages = {
            f"layer{number}": Stage(width * block.expansion, 2 ** (number + 1))
            for number, width in enumerate(_WIDTHS, start=1)
        }
        super().__init__(name, IMAGENET_MEAN, IMAGENET_STD, stages)
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        channels = 64
        for number, (width, depth) in enumerate(zip(_WIDTHS, depths, strict=True), start=1):
            blocks = []
            for row in range(depth):
                stride = 2 if number > 1 and row == 0 else 1
                blocks.append(block(channels, width, stride))
                channels = width * block.expansion
            self.add_module(f"layer{number}", nn.Sequential(*blocks))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def _walk(self, images: Tensor) -> Iterator[tuple[str, Tensor]]:
        # The largest of rectified values is the rectified largest, of a quarter of the values.
        x = self.relu(self.maxpool(self.bn1(self.conv1(images))))
        for name in self.stages:
            x = self.get_submodule(name)(x)
            yield name, x


def _shortcut(channels_in: int, channels_out: int, stride: int) -> nn.Sequential | None:
    # The projection of equation 2, where the shapes differ (option B of section 3.3).
    if stride == 1 and channels_in == channels_out:
        return None
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 1, stride, bias=False), nn.BatchNorm2d(channels_out)
    )
