"""Dataclasses to plain JSON values and back, checked."""

from __future__ import annotations

import math
from pathlib import PurePath
from typing import Any, TypeVar

import msgspec
import numpy as np

Value = TypeVar("Value")


def to_plain(value: Any) -> Any:
    """Dataclasses, arrays, paths and containers of them as dicts, lists, numbers and strings."""
    return msgspec.to_builtins(value, enc_hook=_encoded, str_keys=True)


def to_strict_json(value: Any) -> Any:
    """As `to_plain`, with None for the numbers that JSON does not have: infinities and NaN."""
    return _finite(to_plain(value))


def from_plain(kind: type[Value], value: Any) -> Value:
    """An instance of the dataclass ``kind`` from what `to_plain` gave.

    Fields that are missing take their defaults; unknown ones are ignored.

    Raises:
        ValueError: a value is missing, of another type, or refused by the dataclass; the message
            names it by its path.
    """
    try:
        return msgspec.convert(value, kind, dec_hook=_decoded)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from error


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _encoded(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, PurePath):
        return str(value)
    raise NotImplementedError(f"no plain form of {type(value).__name__}")


def _decoded(kind: Any, value: Any) -> Any:
    if kind is np.ndarray or getattr(kind, "__origin__", None) is np.ndarray:
        return np.asarray(value, dtype=np.float64)
    if isinstance(kind, type) and issubclass(kind, PurePath):
        return kind(value)
    raise NotImplementedError(f"no {kind} from plain values")
