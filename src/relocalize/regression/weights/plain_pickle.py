"""Pickles that hold only arrays, dicts, lists and strings, read without ever calling anything.

Weights of Caffe networks travel as Python 2 pickles of numpy arrays. Python's own unpickler calls
whatever a pickle names; this reader is a stack machine that builds plain values, and knows one
thing by name: how numpy writes an array. Every other name is refused. The opcodes are those of
Lib/pickletools.py, the arrays' layout that of numpy's ndarray.__reduce__ and dtype.__reduce__.
"""

from __future__ import annotations

import codecs
import math
import struct
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from relocalize.errors import FormatError

Plain: TypeAlias = "NDArray[Any] | dict[str, Plain] | list[Plain] | str | float | bool | None"

MOST_STEPS = 2_000_000  # opcodes; a GoogLeNet takes some three thousand
MOST_VALUES = 100_000  # values in the result, counted as often as they are referred to
DEEPEST = 6
MOST_DIMENSIONS = 8

_NUMPY = ("numpy.core.multiarray", "numpy._core.multiarray")
_NUMPY_NEW = ("numpy.core.numeric", "numpy._core.numeric")


def load_plain(data: bytes, source: str) -> Plain:
    """What a pickle holds, strings as Latin-1 where Python 2 wrote bytes.

    Args:
        data: the pickle.
        source: what to call it in errors.

    Raises:
        FormatError: it is cut short, damaged, too large, or asks for anything but arrays, dicts,
            lists, strings and numbers.
    """
    try:
        return _Result().plain(_Machine(data).run(), 0)
    except FormatError as error:
        raise FormatError(f"{source}: {error}") from None
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        MemoryError,
        TypeError,
        ValueError,
        struct.error,
    ) as error:
        raise FormatError(f"{source} is no sound pickle of arrays ({error})") from None


@dataclass(frozen=True)
class _Name:
    """A global that the pickle refers to; never looked up."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"[:100]


@dataclass
class _Type:
    """A numpy dtype under construction."""

    code: str
    dtype: np.dtype[Any] | None = None


@dataclass
class _Array:
    """A numpy array under construction."""

    value: Any = None


class _Machine:
    """The pickle virtual machine without the power to call or import."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def run(self) -> Any:
        """Run to STOP; the value on top of the stack."""
        for _ in range(MOST_STEPS):
            code = self._bytes(1)
            if code == b".":
                return self._pop()
            if code in _VALUES:
                self._stack.append(_VALUES[code](self))
            elif code in _ACTIONS:
                _ACTIONS[code](self)
            else:
                raise FormatError(
                    f"it asks for the pickle operation {code!r}, which no table of arrays needs"
                )
        raise FormatError(f"it has more than {MOST_STEPS} steps, far more than any network's")

    def _bytes(self, count: int) -> bytes:
        end = self._at + count
        if count < 0 or end > len(self._data):
            raise FormatError("it ends in the middle: the file is cut short; fetch it again")
        found = self._data[self._at : end]
        self._at = end
        return found

    def _line(self) -> bytes:
        end = self._data.find(b"\n", self._at)
        if end < 0:
            raise FormatError("it ends in the middle: the file is cut short; fetch it again")
        found = self._data[self._at : end]
        self._at = end + 1
        return found

    def _number(self, form: str) -> Any:
        return struct.unpack(form, self._bytes(struct.calcsize(form)))[0]

    def _pop(self) -> Any:
        if not self._stack or (self._marks and len(self._stack) <= self._marks[-1]):
            raise FormatError("it is damaged: a value is missing")
        return self._stack.pop()

    def _since_mark(self) -> list[Any]:
        if not self._marks:
            raise FormatError("it is damaged: a mark is missing")
        start = self._marks.pop()
        found = self._stack[start:]
        del self._stack[start:]
        return found

    def _top(self, kind: type[Any]) -> Any:
        if not self._stack or not isinstance(self._stack[-1], kind):
            raise FormatError(f"it is damaged: there is no {kind.__name__} where one is filled")
        return self._stack[-1]

    def _old_text(self) -> bytes:
        # Protocol 0: a Python literal in quotes.
        quoted = self._line().strip()
        if len(quoted) < 2 or quoted[:1] not in (b"'", b'"') or quoted[-1:] != quoted[:1]:
            raise FormatError("it is damaged: a string is not in quotes")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on escapes that mean nothing: they stand as they are
            return codecs.escape_decode(quoted[1:-1])[0]

    def _old_integer(self) -> int | bool:
        line = self._line()
        if line in (b"00", b"01"):  # how protocols 0 and 1 write False and True
            return line == b"01"
        return int(line.rstrip(b"L"))

    def _dict(self) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        self._fill(found, self._since_mark())
        return found

    def _fill(self, target: dict[Any, Any], items: list[Any]) -> None:
        if len(items) % 2:
            raise FormatError("it is damaged: a dict has a key without a value")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, str | bytes | int):
                raise FormatError(f"it has a dict with a {type(key).__name__} for a key")
            target[key] = value

    def _set_item(self) -> None:
        value, key = self._pop(), self._pop()
        self._fill(self._top(dict), [key, value])

    def _set_items(self) -> None:
        items = self._since_mark()
        self._fill(self._top(dict), items)

    def _append(self) -> None:
        value = self._pop()
        self._top(list).append(value)

    def _appends(self) -> None:
        items = self._since_mark()
        self._top(list).extend(items)

    def _stack_global(self) -> _Name:
        name, module = self._pop(), self._pop()
        return _Name(_text(module), _text(name))

    def _put(self, index: int) -> None:
        self._memo[index] = self._top(object)

    def _reduce(self) -> _Type | _Array | bytes:
        # The only "calls": what numpy's arrays name, done here and not by numpy.
        arguments, name = self._pop(), self._pop()
        if not isinstance(name, _Name):
            raise FormatError(f"it calls a {type(name).__name__}, which is no name")
        if not isinstance(arguments, tuple):
            raise FormatError(f"it calls {name} without arguments")
        if name.module in _NUMPY and name.name == "_reconstruct":
            if not arguments or arguments[0] != _Name("numpy", "ndarray"):
                raise FormatError(f"it asks for {arguments[0] if arguments else name}, no array")
            return _Array()
        if name.module in _NUMPY_NEW and name.name == "_frombuffer":
            # Protocol 5: the bytes first, then type, shape and order.
            raw, kind, shape, order = arguments
            return _Array(_array((shape, kind, order == "F", raw)))
        if name == _Name("numpy", "dtype"):
            return _Type(_text(arguments[0]))
        if name == _Name("_codecs", "encode"):
            # How Python 3 writes an array's bytes when it is told to write as Python 2 does.
            return _text(arguments[0]).encode("latin-1")
        raise FormatError(
            f"it asks for {name}; weights need only arrays, dicts, lists and strings, so it was "
            "not opened further: get the file from where you trust it"
        )

    def _build(self) -> None:
        state = self._pop()
        target = self._top(object)
        if isinstance(target, _Type):
            target.dtype = _dtype(target.code, state)
        elif isinstance(target, _Array):
            target.value = _array(state)
        else:
            raise FormatError(f"it sets the insides of a {type(target).__name__}")


_VALUES: dict[bytes, Callable[[_Machine], Any]] = {
    b"N": lambda machine: None,
    b"\x88": lambda machine: True,
    b"\x89": lambda machine: False,
    b"I": _Machine._old_integer,
    b"L": lambda machine: int(machine._line().rstrip(b"L")),
    b"F": lambda machine: float(machine._line()),
    b"J": lambda machine: machine._number("<i"),
    b"K": lambda machine: machine._number("<B"),
    b"M": lambda machine: machine._number("<H"),
    b"G": lambda machine: machine._number(">d"),
    b"\x8a": lambda machine: int.from_bytes(
        machine._bytes(machine._number("<B")), "little", signed=True
    ),
    b"S": _Machine._old_text,
    b"T": lambda machine: machine._bytes(machine._number("<i")),
    b"U": lambda machine: machine._bytes(machine._number("<B")),
    b"B": lambda machine: machine._bytes(machine._number("<I")),
    b"C": lambda machine: machine._bytes(machine._number("<B")),
    b"\x8e": lambda machine: machine._bytes(machine._number("<Q")),
    b"\x96": lambda machine: machine._bytes(machine._number("<Q")),
    b"V": lambda machine: machine._line().decode("raw-unicode-escape"),
    b"X": lambda machine: machine._bytes(machine._number("<I")).decode(),
    b"\x8c": lambda machine: machine._bytes(machine._number("<B")).decode(),
    b"\x8d": lambda machine: machine._bytes(machine._number("<Q")).decode(),
    b"]": lambda machine: [],
    b"l": _Machine._since_mark,
    b"}": lambda machine: {},
    b"d": _Machine._dict,
    b")": lambda machine: (),
    b"t": lambda machine: tuple(machine._since_mark()),
    b"\x85": lambda machine: (machine._pop(),),
    b"\x86": lambda machine: (machine._pop(), machine._pop())[::-1],
    b"\x87": lambda machine: (machine._pop(), machine._pop(), machine._pop())[::-1],
    b"c": lambda machine: _Name(machine._line().decode(), machine._line().decode()),
    b"\x93": _Machine._stack_global,
    b"g": lambda machine: machine._memo[int(machine._line())],
    b"h": lambda machine: machine._memo[machine._number("<B")],
    b"j": lambda machine: machine._memo[machine._number("<I")],
    b"R": _Machine._reduce,
}
_ACTIONS: dict[bytes, Callable[[_Machine], Any]] = {
    b"\x80": lambda machine: machine._bytes(1),  # the protocol
    b"\x95": lambda machine: machine._bytes(8),  # a frame: how much could be read at once
    b"(": lambda machine: machine._marks.append(len(machine._stack)),
    b"0": _Machine._pop,
    b"1": _Machine._since_mark,
    b"p": lambda machine: machine._put(int(machine._line())),
    b"q": lambda machine: machine._put(machine._number("<B")),
    b"r": lambda machine: machine._put(machine._number("<I")),
    b"\x94": lambda machine: machine._put(len(machine._memo)),
    b"a": _Machine._append,
    b"e": _Machine._appends,
    b"s": _Machine._set_item,
    b"u": _Machine._set_items,
    b"b": _Machine._build,
}


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if not isinstance(value, str):
        raise FormatError(f"it has a {type(value).__name__} where a name belongs")
    return value


def _dtype(code: str, state: Any) -> np.dtype[Any]:
    # dtype.__reduce__: (version, byte order, subarray, names, fields, size, alignment, flags)
    if code not in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1", "O8"):
        raise FormatError(f"it has an array of type {code[:20]!r}; weights are numbers")
    if (
        not isinstance(state, tuple)
        or len(state) < 5
        or any(part is not None for part in state[2:5])
    ):
        raise FormatError("it has an array of records; weights are numbers")
    order = _text(state[1])
    if order not in ("<", ">", "|", "="):
        raise FormatError(f"it has an array of byte order {order[:5]!r}")
    return np.dtype("O") if code == "O8" else np.dtype(order + code)


def _array(state: Any) -> Any:
    # ndarray.__reduce__: (version, shape, dtype, whether in Fortran's order, the bytes)
    if not isinstance(state, tuple) or len(state) not in (4, 5):
        raise FormatError("it is damaged: an array lacks its parts")
    shape, kind, fortran, raw = state[-4:]
    if not isinstance(shape, tuple) or len(shape) > MOST_DIMENSIONS:
        raise FormatError("it is damaged: an array lacks its shape")
    if any(type(side) is not int or side < 0 for side in shape):
        raise FormatError(f"it has an array of shape {shape}")
    if not isinstance(kind, _Type) or kind.dtype is None:
        raise FormatError("it is damaged: an array lacks its type")
    if kind.dtype.hasobject:
        # np.save of a dict: an array of no dimensions whose one item is the dict.
        if shape != () or not isinstance(raw, list) or len(raw) != 1:
            raise FormatError("it has an array of objects; weights are numbers")
        return raw[0]
    if not isinstance(raw, bytes) or len(raw) != math.prod(shape) * kind.dtype.itemsize:
        raise FormatError(f"it is damaged: an array of shape {shape} lacks some of its numbers")
    flat = np.frombuffer(raw, kind.dtype)
    return flat.reshape(shape, order="F" if fortran else "C")


class _Result:
    """Turns what the machine built into plain values, bounded in depth and number."""

    def __init__(self) -> None:
        self._left = MOST_VALUES

    def plain(self, value: Any, depth: int) -> Plain:
        """``value`` with every array in its place and every string decoded."""
        self._left -= 1
        if depth > DEEPEST or self._left < 0:
            raise FormatError("it is nested deeper, or has more values, than any network's weights")
        if isinstance(value, _Array):
            return self.plain(value.value, depth + 1)
        if isinstance(value, dict):
            return {
                _text(key) if isinstance(key, bytes | str) else str(key): self.plain(
                    item, depth + 1
                )
                for key, item in value.items()
            }
        if isinstance(value, list | tuple):
            return [self.plain(item, depth + 1) for item in value]
        if isinstance(value, bytes):
            return value.decode("latin-1")
        if value is None or isinstance(value, str | bool | int | float | np.ndarray):
            return value
        raise FormatError(f"it holds {value}, which is no array, dict, list or string")
