"""From the layers of Caffe's GoogLeNet to the parameters of the `googlenet` backbones.

Three families of names, all of the same network (bvlc_googlenet/deploy.prototxt):

- Caffe's own, as in a `.caffemodel` and in the Places GoogLeNet of PoseLSTM's port
  (hazirbas/poselstm-pytorch: a flat dict of `inception_3a/3x3_reduce_0`, the kernels
  ``[out, in, h, w]``, and `inception_3a/3x3_reduce_1`, the biases);
- those that caffe-tensorflow (ethereon) makes of them, `inception_3a_3x3_reduce`, each with
  `weights` and `biases`, or with a list of the two, the kernels ``[h, w, in, out]``;
- those of the PoseNet ports of kentsommer (tensorflow-posenet, keras-posenet), `icp1_reduction1`,
  likewise from caffe-tensorflow.

Every one of them sees B, G, R in 0..255 less a mean, where the backbones here see R, G, B.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from relocalize.errors import FormatError
from relocalize.regression.backbones.backbone import Backbone
from relocalize.regression.backbones.googlenet import CAFFE_MEAN, INCEPTIONS
from relocalize.regression.weights.plain_pickle import Plain

_BRANCHES = {  # Caffe's name within an inception module, kentsommer's, ours
    "1x1": ("out0", "branch1"),
    "3x3_reduce": ("reduction1", "branch2.0"),
    "3x3": ("out1", "branch2.1"),
    "5x5_reduce": ("reduction2", "branch3.0"),
    "5x5": ("out2", "branch3.1"),
    "pool_proj": ("out3", "branch4.1"),
}
_CAFFE_NAMES = {"conv1_7x7_s2": "conv1", "conv2_3x3_reduce": "conv2", "conv2_3x3": "conv3"}
_PORT_NAMES = {"conv1": "conv1", "reduction2": "conv2", "conv2": "conv3"}
for _number, _module in enumerate(INCEPTIONS, start=1):
    for _caffe, (_port, _ours) in _BRANCHES.items():
        _CAFFE_NAMES[f"inception_{_module.removeprefix('inception')}_{_caffe}"] = (
            f"{_module}.{_ours}"
        )
        _PORT_NAMES[f"icp{_number}_{_port}"] = f"{_module}.{_ours}"


@dataclass(frozen=True)
class CaffeLayer:
    """One layer's kernel and biases as they stand in the file."""

    kernel: NDArray[Any]
    biases: NDArray[Any]


def caffe_layers(stored: Plain, source: str) -> dict[str, CaffeLayer]:
    """The layers in a pickle of the ports, by the name that they have there.

    Raises:
        FormatError: it has none of the three layouts.
    """
    if not isinstance(stored, dict):
        raise FormatError(
            f"{source} holds a {type(stored).__name__} and no table of layers by name"
        )
    layers: dict[str, CaffeLayer] = {}
    for name, value in stored.items():
        parts: list[Plain] = []
        if isinstance(value, dict):
            parts = [value.get("weights"), value.get("biases")]
        elif isinstance(value, list):
            parts = value[:2]
        elif name.endswith("_0"):
            parts = [value, stored.get(f"{name.removesuffix('_0')}_1")]
        arrays = [part for part in parts if isinstance(part, np.ndarray) and part.dtype.kind == "f"]
        if len(arrays) == 2:
            layers[name.removesuffix("_0")] = CaffeLayer(*arrays)
    if not layers:
        raise FormatError(
            f"{source} has no layer with weights and biases; its first names are "
            f"{', '.join(repr(name[:30]) for name in list(stored)[:4]) or 'none'}"
        )
    return layers


@np.errstate(all="ignore")  # values that are no numbers are refused where they are loaded
def googlenet_tensors(
    layers: Mapping[str, CaffeLayer], backbone: Backbone, mean: tuple[float, float, float]
) -> tuple[dict[str, Tensor], dict[str, str], dict[str, str]]:
    """What the layers become in a `googlenet` or `googlenet_caffe` backbone.

    Args:
        layers: by any of the three families of names.
        backbone: the one to fill; it is not changed.
        mean: R, G, B in 0..1 that the network was trained with subtracted.

    Returns:
        Tensors by the backbone's names; how each that was changed was changed; and why each
        layer that has no place was left out.
    """
    shapes = {name: tuple(value.shape) for name, value in backbone.state_dict().items()}
    port = any(name in _PORT_NAMES for name in layers if name != "conv1")
    known = _PORT_NAMES if port else _CAFFE_NAMES
    tensors: dict[str, Tensor] = {}
    changed: dict[str, str] = {}
    left_out: dict[str, str] = {}
    for name, layer in layers.items():
        ours = known.get(name.replace("/", "_"))
        if ours is None or f"{ours}.conv.weight" not in shapes:
            left_out[name] = "the backbone has no such layer"
            continue
        target = shapes[f"{ours}.conv.weight"]
        found = _oriented(layer.kernel, target)
        if found is None or layer.biases.size != target[0]:
            left_out[name] = f"{list(layer.kernel.shape)}, the backbone's is {list(target)}"
            continue
        kernel, changes = found
        biases = layer.biases.reshape(-1).astype(np.float64)
        if ours == "conv1":
            kernel, biases = _seeing_rgb(kernel, biases, backbone, mean)
            changes.append("B, G, R less a mean made R, G, B as the backbone normalises it")
        tensors[f"{ours}.conv.weight"] = torch.from_numpy(kernel.astype(np.float32))
        if f"{ours}.conv.bias" in shapes:
            tensors[f"{ours}.conv.bias"] = torch.from_numpy(biases.astype(np.float32))
        else:
            tensors |= _biases_as_norm(f"{ours}.bn", biases)
            changed[f"{ours}.bn.bias"] = "the biases, with a batch norm that changes nothing else"
        if changes:
            changed[f"{ours}.conv.weight"] = "; ".join(changes)
    return tensors, changed, left_out


def _oriented(
    kernel: NDArray[Any], target: tuple[int, ...]
) -> tuple[NDArray[Any], list[str]] | None:
    # Which of the two orders it is shows in the shape: no layer of GoogLeNet fits both.
    if kernel.ndim != 4:
        return None
    changes: list[str] = []
    if kernel.shape[:2] != target[:2]:
        kernel = kernel.transpose(3, 2, 0, 1)
        changes.append("[h, w, in, out] made [out, in, h, w]")
    if kernel.shape[:2] != target[:2]:
        return None
    if kernel.shape[2:] == (5, 5) and target[2:] == (3, 3):
        # torchvision's network has 3x3 where the paper has 5x5 (pytorch/vision issue 906).
        kernel = kernel[:, :, 1:4, 1:4]
        changes.append("5x5 cut to its middle 3x3")
    if kernel.shape != target:
        return None
    return kernel.astype(np.float64), changes


def _seeing_rgb(
    kernel: NDArray[Any],
    biases: NDArray[Any],
    backbone: Backbone,
    mean: tuple[float, float, float],
) -> tuple[NDArray[Any], NDArray[Any]]:
    # The network sees 255 (rgb - mean), the backbone x = (rgb - its mean) / its std; so the
    # network's input is 255 (std x + its mean - mean). The constant goes to the biases, which is
    # exact but for the padded rim, where the network sees its mean and the backbone its own.
    kernel = kernel[:, ::-1]
    scale = 255 * np.array(backbone.std)
    shift = 255 * (np.array(backbone.mean) - np.array(mean))
    biases = biases + np.einsum("ocij,c->o", kernel, shift)
    return kernel * scale[:, None, None], biases


def _biases_as_norm(name: str, biases: NDArray[Any], epsilon: float = 0.001) -> dict[str, Tensor]:
    count = len(biases)
    return {
        f"{name}.weight": torch.full((count,), float(np.sqrt(1 + epsilon))),
        f"{name}.bias": torch.from_numpy(biases.astype(np.float32)),
        f"{name}.running_mean": torch.zeros(count),
        f"{name}.running_var": torch.ones(count),
    }


# The mean that PoseNet's ports and BVLC's networks were trained with, where nothing else is known.
USUAL_MEAN = CAFFE_MEAN
