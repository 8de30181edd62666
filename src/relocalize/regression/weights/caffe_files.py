"""Layers out of Caffe's `.caffemodel` and out of the `.npy` and pickles of PoseNet's ports.

The latter are pickles, and Python's unpickler calls whatever a pickle names. `_LayerUnpickler`
builds arrays itself and refuses every other name.
"""

from __future__ import annotations

import io
import math
import pickle
import re
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from relocalize.errors import FormatError
from relocalize.regression.weights.tensor_files import damaged

_NUMPY = b"\x93NUMPY"
_PICKLES = (b"\x80", b"(d", b"}")

Layers = dict[str, tuple[NDArray[Any], NDArray[Any]]]  # kernel and biases by the layer's name


def read_layers(path: Path) -> Layers:
    """The layers of a Caffe network: of a `.caffemodel`, or of the `.npy` or pickle of a port.

    Kernels are as they stand in the file: ``[out, in, h, w]``, or ``[h, w, in, out]`` where
    caffe-tensorflow made it.

    Raises:
        FormatError: it is none, is damaged, or asks for more than arrays need.
    """
    data = path.read_bytes()
    try:
        if path.suffix == ".caffemodel":
            return _caffemodel_layers(data, path)
        if data.startswith(_NUMPY):
            data = _pickle_of_npy(data, path)
        elif not data.startswith(_PICKLES):
            raise FormatError(
                f"{path} is no weights file of a known kind: .pth, .pth.tar, .safetensors, "
                ".caffemodel, or the .npy or pickle of a PoseNet port"
            )
        return _pickled_layers(_unpickled(data, path), path)
    except FormatError:
        raise
    except Exception as error:  # as of torch's: whatever damage makes the parsers raise
        raise damaged(path, error) from None


# --- pickles of the PoseNet ports --------------------------------------------------------------


class _DType:
    """A numpy dtype under construction: ``dtype(code, ...)``, then its state."""

    def __init__(self, code: str, *_: object) -> None:
        self._code, self._order = code, "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        # dtype.__reduce__: (version, byte order, subarray, names, fields, size, alignment, flags)
        if any(part is not None for part in state[2:5]):
            raise FormatError("an array of records; weights are numbers")
        self._order = state[1].replace("|", "=")

    @property
    def is_object(self) -> bool:
        """Whether it is the type of Python objects."""
        return self._code in {"O", "O8"}

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of numbers."""
        if not re.fullmatch("[fiu][1248]|b1", self._code):
            raise FormatError(f"an array of type {self._code[:20]!r}; weights are numbers")
        return np.dtype(self._order + self._code)


class _Array:
    """A numpy array under construction; ``value`` is what it holds."""

    def __init__(self, *_: object) -> None:
        self.value: Any = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        # ndarray.__reduce__: (version, shape, dtype, whether in Fortran's order, the bytes)
        shape, kind, fortran, raw = state[-4:]
        if kind.is_object:
            # np.save of a dict: an array of no dimensions whose one item is the dict.
            (self.value,) = raw
            return
        data = raw.encode("latin-1") if isinstance(raw, str) else raw  # Python 2's bytes
        self.value = np.frombuffer(data, kind.dtype).reshape(shape, order="F" if fortran else "C")


_KNOWN_NAMES = {
    "numpy.core.multiarray._reconstruct": _Array,
    "numpy._core.multiarray._reconstruct": _Array,
    "numpy.ndarray": _Array,
    "numpy.dtype": _DType,
    # How Python 3 writes an array's bytes when it is told to write as Python 2 does.
    "_codecs.encode": lambda text, _: text.encode("latin-1"),
}


class _LayerUnpickler(pickle._Unpickler):
    """Knows how numpy writes an array; nothing that a pickle names is imported or called.

    The unpickler in Python, because the one in C makes room for any place that a pickle asks for;
    without the operation that would make room for as many bytes as it asks for.
    """

    dispatch: ClassVar[dict[int, Any]] = {
        code: load
        for code, load in pickle._Unpickler.dispatch.items()
        if code != pickle.BYTEARRAY8[0]
    }

    def find_class(self, module: str, name: str) -> Any:
        """What stands for a name."""
        if f"{module}.{name}" not in _KNOWN_NAMES:
            raise FormatError(f"asks for {module}.{name}"[:120])
        return _KNOWN_NAMES[f"{module}.{name}"]


def _unpickled(data: bytes, path: Path) -> Any:
    try:
        return _LayerUnpickler(io.BytesIO(data), encoding="latin1").load()
    except FormatError as error:
        raise FormatError(
            f"{path}: {error}; weights need only arrays, dicts, lists and strings, so it was not "
            "opened: get the file from where you trust it"
        ) from None


def _pickle_of_npy(data: bytes, path: Path) -> bytes:
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    first = version == (1, 0)
    read = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    if shape != () or not dtype.hasobject:
        raise FormatError(f"{path} is a .npy file of numbers, and no table of layers by name")
    return file.read()


def _pickled_layers(stored: Any, path: Path) -> Layers:
    table = stored.value if isinstance(stored, _Array) else stored
    if not isinstance(table, dict):
        raise FormatError(f"{path} holds a {type(table).__name__} and no table of layers by name")
    layers: Layers = {}
    for key, value in table.items():
        name = str(key)
        parts: list[Any] = []
        if isinstance(value, dict):
            parts = [value.get("weights"), value.get("biases")]
        elif isinstance(value, list):
            parts = value[:2]
        elif name.endswith("_0"):
            parts = [value, table.get(f"{name.removesuffix('_0')}_1")]
        arrays = [part.value for part in parts if isinstance(part, _Array)]
        if len(arrays) == 2 and all(array.dtype.kind == "f" for array in arrays):
            layers[name.removesuffix("_0")] = (arrays[0], arrays[1])
    if not layers:
        raise FormatError(
            f"{path} has no layer with weights and biases; its first names are "
            f"{', '.join(repr(str(name)[:30]) for name in list(table)[:4]) or 'none'}"
        )
    return layers


# --- Caffe's protocol buffer -------------------------------------------------------------------

# The fields of BVLC's src/caffe/proto/caffe.proto that hold weights; `layers` and the four sides of
# a blob are its older form. The packed floats are declared as the bytes that they are.
_SCHEMA = """
name: "caffe.proto"
message_type { name: "Shape"
  field { name: "dim" number: 1 type: TYPE_INT64 label: LABEL_REPEATED } }
message_type { name: "Blob"
  field { name: "num" number: 1 type: TYPE_INT32 }
  field { name: "channels" number: 2 type: TYPE_INT32 }
  field { name: "height" number: 3 type: TYPE_INT32 }
  field { name: "width" number: 4 type: TYPE_INT32 }
  field { name: "data" number: 5 type: TYPE_BYTES }
  field { name: "shape" number: 7 type: TYPE_MESSAGE type_name: "Shape" } }
message_type { name: "Layer"
  field { name: "name" number: 1 type: TYPE_BYTES }
  field { name: "blobs" number: 7 type: TYPE_MESSAGE type_name: "Blob" label: LABEL_REPEATED } }
message_type { name: "OldLayer"
  field { name: "name" number: 4 type: TYPE_BYTES }
  field { name: "blobs" number: 6 type: TYPE_MESSAGE type_name: "Blob" label: LABEL_REPEATED } }
message_type { name: "Net"
  field { name: "old" number: 2 type: TYPE_MESSAGE type_name: "OldLayer" label: LABEL_REPEATED }
  field { name: "new" number: 100 type: TYPE_MESSAGE type_name: "Layer" label: LABEL_REPEATED } }
"""


@cache
def _net_message() -> Any:
    from google.protobuf import (  # type: ignore[import-untyped]  # noqa: PLC0415 (as above)
        descriptor_pb2,
        descriptor_pool,
        message_factory,
        text_format,
    )

    pool = descriptor_pool.DescriptorPool()
    pool.Add(text_format.Parse(_SCHEMA, descriptor_pb2.FileDescriptorProto()))
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("Net"))


def _caffemodel_layers(data: bytes, path: Path) -> Layers:
    net = _net_message().FromString(data)
    layers = {
        layer.name.decode(): (_blob(layer.blobs[0]), _blob(layer.blobs[1]))
        for layer in (*net.old, *net.new)
        if len(layer.blobs) == 2
    }
    if not layers:
        raise FormatError(f"{path} is no .caffemodel with weights: no layer of it has any")
    return layers


def _blob(blob: Any) -> NDArray[Any]:
    # Four sides were always written, ones in front: [1, 1, 1, out] for biases.
    sides = tuple(blob.shape.dim) or (blob.num, blob.channels, blob.height, blob.width)
    values = np.frombuffer(blob.data, "<f4")
    if math.prod(sides) != len(values):
        raise ValueError(f"{len(values)} numbers for an array of shape {sides}")
    return values.reshape(sides)
