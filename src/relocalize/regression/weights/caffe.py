"""From the layers of Caffe's GoogLeNet to the tensors of the `googlenet` backbones.

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

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from relocalize.regression.backbones.googlenet import INCEPTIONS, GoogLeNet
from relocalize.regression.weights.caffe_files import Layers

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
        _CAFFE_NAMES[f"{_module[:9]}_{_module[9:]}_{_caffe}"] = f"{_module}.{_ours}"
        _PORT_NAMES[f"icp{_number}_{_port}"] = f"{_module}.{_ours}"
_NORM_EPSILON = 0.001  # of the backbone's batch norms


@dataclass
class Converted:
    """What layers became."""

    tensors: dict[str, Tensor] = field(default_factory=dict)  # by the backbone's names
    changed: dict[str, str] = field(default_factory=dict)  # how each that was changed was changed
    # why each layer that has no place was left out
    left_out: dict[str, str] = field(default_factory=dict)


@np.errstate(all="ignore")  # values that are no numbers are refused where they are loaded
def googlenet_tensors(
    layers: Layers, backbone: GoogLeNet, mean: tuple[float, float, float]
) -> Converted:
    """What the layers become in a `googlenet` or `googlenet_caffe` backbone.

    Args:
        layers: by any of the three families of names.
        backbone: the one to fill; it is not changed.
        mean: R, G, B in 0..1 that the network was trained with subtracted.
    """
    shapes = {name: tuple(value.shape) for name, value in backbone.state_dict().items()}
    port = any(name in _PORT_NAMES for name in layers if name != "conv1")
    known = _PORT_NAMES if port else _CAFFE_NAMES
    found = Converted()
    for name, (stored, stored_biases) in layers.items():
        ours = known.get(name.replace("/", "_"))
        weight = f"{ours}.conv.weight"
        if ours is None or weight not in shapes:
            found.left_out[name] = "the backbone has no such layer"
            continue
        kernel, changes = _oriented(stored, shapes[weight])
        biases = stored_biases.reshape(-1).astype(np.float64)
        if kernel.shape != shapes[weight] or len(biases) != len(kernel):
            found.left_out[name] = f"{list(stored.shape)}, the backbone's is {list(shapes[weight])}"
            continue
        if ours == "conv1":
            kernel, biases = _seeing_rgb(kernel, biases, backbone, mean)
            changes.append("B, G, R less a mean made R, G, B as the backbone normalises it")
        found.tensors[weight] = torch.from_numpy(kernel.astype(np.float32))
        offset = torch.from_numpy(biases.astype(np.float32))
        if f"{ours}.conv.bias" in shapes:
            found.tensors[f"{ours}.conv.bias"] = offset
        else:
            norm = f"{ours}.bn."
            found.tensors |= {
                f"{norm}weight": torch.full_like(offset, (1 + _NORM_EPSILON) ** 0.5),
                f"{norm}bias": offset,
                f"{norm}running_mean": torch.zeros_like(offset),
                f"{norm}running_var": torch.ones_like(offset),
            }
            found.changed[f"{norm}bias"] = "the biases, with a batch norm that changes nothing else"
        if changes:
            found.changed[weight] = "; ".join(changes)
    return found


def _oriented(kernel: NDArray[Any], target: tuple[int, ...]) -> tuple[NDArray[Any], list[str]]:
    """The kernel in the order [out, in, h, w] of ``target``, and what was done to it."""
    changes: list[str] = []
    # Which of the two orders it is shows in the shape: no layer of GoogLeNet fits both.
    if kernel.ndim == 4 and kernel.shape[:2] != target[:2]:
        kernel = kernel.transpose(3, 2, 0, 1)
        changes.append("[h, w, in, out] made [out, in, h, w]")
    if kernel.shape[2:] == (5, 5) and target[2:] == (3, 3):
        # torchvision's network has 3x3 where the paper has 5x5 (pytorch/vision issue 906).
        kernel = kernel[:, :, 1:4, 1:4]
        changes.append("5x5 cut to its middle 3x3")
    return kernel.astype(np.float64), changes


def _seeing_rgb(
    kernel: NDArray[Any],
    biases: NDArray[Any],
    backbone: GoogLeNet,
    mean: tuple[float, float, float],
) -> tuple[NDArray[Any], NDArray[Any]]:
    # The network sees 255 (rgb - mean), the backbone x = (rgb - its mean) / its std; so the
    # network's input is 255 (std x + its mean - mean). The constant goes to the biases, which is
    # exact but for the padded rim, where the network sees its mean and the backbone its own.
    kernel = kernel[:, ::-1]
    scale = 255 * np.array(backbone.std)
    shift = 255 * (np.array(backbone.mean) - np.array(mean))
    return kernel * scale[:, None, None], biases + np.einsum("ocij,c->o", kernel, shift)
