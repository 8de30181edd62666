"""Caffe's `.caffemodel`: the layers' weights out of a protocol buffer, read field by field.

The fields are those of BVLC's src/caffe/proto/caffe.proto: NetParameter.layer = 100 (name = 1,
blobs = 7) and its older form NetParameter.layers = 2 (V1LayerParameter: name = 4, blobs = 6);
BlobProto.shape = 7 (dim = 1, packed), data = 5 (packed floats), double_data = 8, and the older
num, channels, height, width = 1 to 4. The encoding is protobuf.dev's "Encoding".
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relocalize.errors import FormatError

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types
MOST_FIELDS = 1_000_000


def read_caffemodel(data: bytes, source: str) -> dict[str, list[NDArray[Any]]]:
    """Each layer's arrays, weights first and biases second, in Caffe's order ``[out, in, h, w]``.

    Raises:
        FormatError: it is cut short or no network of Caffe's.
    """
    layers: dict[str, list[NDArray[Any]]] = {}
    try:
        for field, value in _fields(memoryview(data)):
            if field in (2, 100) and isinstance(value, memoryview):
                name_field, blobs_field = (1, 7) if field == 100 else (4, 6)
                parts = list(_fields(value))
                blobs = [
                    _blob(part)
                    for number, part in parts
                    if number == blobs_field and isinstance(part, memoryview)
                ]
                names = [part for number, part in parts if number == name_field]
                if blobs and names and isinstance(names[0], memoryview):
                    layers[bytes(names[0]).decode()] = blobs
    except (IndexError, MemoryError, ValueError) as error:
        raise FormatError(f"{source} is no sound .caffemodel ({error})") from None
    if not layers:
        raise FormatError(f"{source} is no .caffemodel with weights: no layer of it has any")
    return layers


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    at = 0
    for _ in range(MOST_FIELDS):
        if at == len(message):
            return
        key, at = _varint(message, at)
        field, wire = key >> 3, key & 7
        if wire == _VARINT:
            number, at = _varint(message, at)
            yield field, number
            continue
        if wire == _BYTES:
            size, at = _varint(message, at)
        elif wire in (_FIXED32, _FIXED64):
            size = 4 if wire == _FIXED32 else 8
        else:
            raise ValueError(f"wire type {wire} at byte {at}")
        if at + size > len(message):
            raise ValueError("it ends in the middle: the file is cut short; fetch it again")
        yield field, message[at : at + size]
        at += size
    raise ValueError(f"it has more than {MOST_FIELDS} fields")


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for position in range(10):
        byte = message[at + position]
        value |= (byte & 0x7F) << (7 * position)
        if byte < 0x80:
            return value, at + position + 1
    raise ValueError(f"a number of more than 64 bits at byte {at}")


def _blob(message: memoryview) -> NDArray[Any]:
    shape: list[int] = []
    old_shape = dict.fromkeys((1, 2, 3, 4), 0)
    floats: list[NDArray[Any]] = []
    for field, value in _fields(message):
        if field in old_shape and isinstance(value, int):
            old_shape[field] = value
        elif field == 7 and isinstance(value, memoryview):
            shape = [side for number, part in _fields(value) for side in _sides(number, part)]
        elif field in (5, 8) and isinstance(value, memoryview):
            floats.append(np.frombuffer(value, "<f4" if field == 5 else "<f8"))
    if not shape:
        # Four sides were always written, ones in front: [1, 1, 1, out] for biases.
        shape = [side for side in old_shape.values() if side]
    values = np.concatenate(floats) if floats else np.zeros(0, np.float32)
    if len(shape) > 8 or math.prod(shape) != len(values):
        raise ValueError(f"{len(values)} numbers for an array of shape {shape}")
    return values.reshape(shape)


def _sides(field: int, value: int | memoryview) -> Iterator[int]:
    if field != 1:
        return
    if isinstance(value, int):
        yield value
        return
    at = 0
    while at < len(value):
        side, at = _varint(value, at)
        yield side
