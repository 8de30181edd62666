"""GoogLeNet (Szegedy et al., Going Deeper with Convolutions, CVPR 2015, table 1), two ways.

`googlenet` is torchvision's: batch norm after every convolution, 3x3 kernels where the paper has
5x5 (pytorch/vision issue 906), and torchvision's parameter names.

`googlenet_caffe` is the network of the paper as BVLC's Caffe model zoo has it: biases, 5x5 kernels
and local response normalisation. PoseNet (Kendall, Grimes and Cipolla, ICCV 2015) starts from this
one, trained on Places. Its parameters wear the same names, plus `conv.bias`, less batch norm's.

The feature maps `inception4a` and `inception4d` are where the paper's two auxiliary classifiers,
and PoseNet's two auxiliary regressors, are attached.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from relocalize.regression.backbones.backbone import Backbone, Stage

Convolution = Callable[[int, int, int, int, int], nn.Module]  # in, out, kernel, stride, padding

# Table 1: channels in, #1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5, pool proj.
INCEPTIONS: dict[str, tuple[int, int, int, int, int, int, int]] = {
    "inception3a": (192, 64, 96, 128, 16, 32, 32),
    "inception3b": (256, 128, 128, 192, 32, 96, 64),
    "inception4a": (480, 192, 96, 208, 16, 48, 64),
    "inception4b": (512, 160, 112, 224, 24, 64, 64),
    "inception4c": (512, 128, 128, 256, 24, 64, 64),
    "inception4d": (512, 112, 144, 288, 32, 64, 64),
    "inception4e": (528, 256, 160, 320, 32, 128, 128),
    "inception5a": (832, 256, 160, 320, 32, 128, 128),
    "inception5b": (832, 384, 192, 384, 48, 128, 128),
}
_STAGES = {
    "conv3": Stage(192, 4),
    "inception3b": Stage(480, 8),
    "inception4a": Stage(512, 16),
    "inception4d": Stage(528, 16),
    "inception4e": Stage(832, 16),
    "inception5b": Stage(1024, 32),
}
# torchvision's weights were ported from TensorFlow, whose network sees RGB in -1..1
# (torchvision's transform_input turns ImageNet's normalisation into that).
_TENSORFLOW_MEAN = _TENSORFLOW_STD = (0.5, 0.5, 0.5)
# bvlc_googlenet/train_val.prototxt: mean_value 104, 117, 123 (of B, G, R in 0..255), no scale.
CAFFE_MEAN = (123 / 255, 117 / 255, 104 / 255)
CAFFE_STD = (1 / 255, 1 / 255, 1 / 255)


class NormalisedConvolution(nn.Module):
    """Convolution, batch norm, ReLU; torchvision's BasicConv2d with its epsilon."""

    def __init__(
        self, channels_in: int, channels_out: int, kernel: int, stride: int, padding: int
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(channels_out, eps=0.001)
        # torchvision.models.googlenet: normal of 0.01, cut at two standard deviations
        nn.init.trunc_normal_(self.conv.weight, std=0.01, a=-0.02, b=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, channels_in, H, W]`` to ``[B, channels_out, H / stride, W / stride]``."""
        return functional.relu(self.bn(self.conv(x)), inplace=True)


class BiasedConvolution(nn.Module):
    """Convolution with bias, ReLU, as in Caffe, with the prototxt's initial values."""

    def __init__(
        self, channels_in: int, channels_out: int, kernel: int, stride: int, padding: int
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, kernel, stride, padding)
        nn.init.xavier_uniform_(self.conv.weight)
        nn.init.constant_(self.conv.bias, 0.2)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """``[B, channels_in, H, W]`` to ``[B, channels_out, H / stride, W / stride]``."""
        return functional.relu(self.conv(x), inplace=True)


class Inception(nn.Module):
    """Four parallel branches, concatenated (figure 2b); ``large_kernel`` is that of the third."""

    def __init__(
        self,
        widths: tuple[int, int, int, int, int, int, int],
        convolution: Convolution,
        large_kernel: int,
    ) -> None:
        super().__init__()
        channels_in, one, three_reduce, three, five_reduce, five, pool = widths
        self.branch1 = convolution(channels_in, one, 1, 1, 0)
        self.branch2 = nn.Sequential(
            convolution(channels_in, three_reduce, 1, 1, 0),
            convolution(three_reduce, three, 3, 1, 1),
        )
        self.branch3 = nn.Sequential(
            convolution(channels_in, five_reduce, 1, 1, 0),
            convolution(five_reduce, five, large_kernel, 1, large_kernel // 2),
        )
        self.branch4 = nn.Sequential(
            nn.MaxPool2d(3, stride=1, padding=1), convolution(channels_in, pool, 1, 1, 0)
        )

    def forward(self, x: Tensor) -> Tensor:
        """``[B, channels_in, H, W]`` to ``[B, sum of the branches, H, W]``."""
        branches = [self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)]
        return torch.cat(branches, dim=1)


class GoogLeNet(Backbone):
    """Table 1 of the paper without its classifiers."""

    def __init__(self, name: str, *, caffe: bool) -> None:
        mean, std = (CAFFE_MEAN, CAFFE_STD) if caffe else (_TENSORFLOW_MEAN, _TENSORFLOW_STD)
        super().__init__(name, mean, std, _STAGES)
        convolution: Convolution = BiasedConvolution if caffe else NormalisedConvolution
        self.conv1 = convolution(3, 64, 7, 2, 3)
        self.conv2 = convolution(64, 64, 1, 1, 0)
        self.conv3 = convolution(64, 192, 3, 1, 1)
        for module_name, widths in INCEPTIONS.items():
            self.add_module(module_name, Inception(widths, convolution, 5 if caffe else 3))
        self.maxpool1 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.maxpool2 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.maxpool3 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        # torchvision's network pools 2x2 here, the paper's and Caffe's 3x3
        self.maxpool4 = nn.MaxPool2d(3 if caffe else 2, stride=2, ceil_mode=True)
        # The prototxt's local_size 5, alpha 0.0001, beta 0.75; Caffe divides alpha by the size
        # as torch does.
        self.norm = nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75) if caffe else nn.Identity()

    def _walk(self, images: Tensor) -> Iterator[tuple[str, Tensor]]:
        x = self.norm(self.maxpool1(self.conv1(images)))
        x = self.norm(self.conv3(self.conv2(x)))
        yield "conv3", x
        pools = {"inception3a": self.maxpool2, "inception4a": self.maxpool3}
        pools["inception5a"] = self.maxpool4
        for name in INCEPTIONS:
            if name in pools:
                x = pools[name](x)
            x = self.get_submodule(name)(x)
            if name in self.stages:
                yield name, x
