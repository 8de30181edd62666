"""Reading JSON files of strangers: bounded, and every value is checked where it is used.

A `JsonObject` hands out its values by key as the type that the reader asks for; anything else is
a one-line `FormatError` with the place, the key and the value that was there.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from relocalize.errors import FormatError
from relocalize.formats.text import LONGEST_NAME, is_name, read_text, shortened

# Two bytes of JSON can become 64 of Python objects; this bounds a hostile file to half a gigabyte
# and leaves room for a million points.
_MOST_CONTAINERS = 5_000_000
_SHOWN = 60
_HEAD = 100_000  # bytes


def read_json(path: Path) -> object:
    """The value in a JSON file; NaN and Infinity come as floats, which `JsonObject` refuses.

    Raises:
        FormatError: it is missing, too large, too deep, has a key twice, or is no JSON.
    """
    text = read_text(path)
    if text.count("[") + text.count("{") > _MOST_CONTAINERS:
        raise FormatError(f"{path} has more than {_MOST_CONTAINERS} lists and objects")
    try:
        value: object = json.loads(text, object_pairs_hook=_unique)
    except RecursionError:
        raise FormatError(f"{path} is nested too deep") from None
    except json.JSONDecodeError as error:
        raise FormatError(f"{path}, line {error.lineno} is no JSON: {error.msg}") from None
    except ValueError as error:  # a key twice, an integer of thousands of digits
        raise FormatError(f"{path} is no JSON to read: {str(error).splitlines()[0]}") from None
    return value


def read_json_object(path: Path) -> JsonObject:
    """The object that a JSON file holds.

    Raises:
        FormatError: as `read_json`, or it holds something else.
    """
    return JsonObject.of(read_json(path), str(path))


def json_file_in(path: Path, name: str) -> str:
    """The beginning of a JSON file, or of the file ``name`` in a folder, to tell formats apart.

    Empty where there is none that can be read.
    """
    path = path / name if path.is_dir() else path
    return head_of(path) if path.suffix.lower() == ".json" else ""


def head_of(path: Path) -> str:
    """The beginning of a file, to tell what it is; empty where there is none to be read."""
    try:
        if not path.is_file():
            return ""
        with path.open("rb") as file:
            return file.read(_HEAD).decode("utf-8", errors="replace")
    except OSError:
        return ""


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    values = dict(pairs)
    if len(values) != len(pairs):
        twice, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise ValueError(f"key {_shown(twice)} twice in one object")
    return values


@dataclass(frozen=True)
class JsonObject:
    """A JSON object whose values are checked as they are taken."""

    values: dict[str, object]  # by key
    where: str = ""  # begins every message: the file, and the place in it. Empty says nothing

    @classmethod
    def of(cls, value: object, where: str = "") -> JsonObject:
        """``value`` as an object; raises `FormatError` where it is something else."""
        if not isinstance(value, dict):
            raise FormatError(f"{_prefix(where)}{_shown(value)}, want an object {{...}}")
        return cls(value, where)

    def __contains__(self, key: str) -> bool:
        return self.values.get(key) is not None

    def number(self, key: str, default: float | None = None) -> float:
        """A finite number; ``default``, where there is one, stands for a missing or null value."""
        if key not in self and default is not None:
            return default
        return self._number(key, self.values.get(key))

    def whole(self, key: str, default: int | None = None) -> int:
        """An integer, also where it is written as 640.0."""
        number = self.number(key, default)
        if number != int(number):
            raise self.wrong(key, "a whole number")
        return int(number)

    def flag(self, key: str) -> bool:
        """True or false, also where it is written as 1 or 0; a missing or null value is false."""
        value = self.values.get(key)
        if value not in (0, 1, None):
            raise self.wrong(key, "true or false")
        return bool(value)

    def text(self, key: str, default: str | None = None) -> str:
        """A string that can be printed and can be a file's name."""
        if key not in self and default is not None:
            return default
        value = self.values.get(key)
        if not isinstance(value, str) or not is_name(value):
            raise self.wrong(key, f"a text without control characters, up to {LONGEST_NAME} long")
        return value

    def array(self, key: str) -> list[object]:
        """A list of anything; a missing one is empty."""
        value = self.values.get(key)
        if value is not None and not isinstance(value, list):
            raise self.wrong(key, "a list [...]")
        return value or []

    def child(self, key: str) -> JsonObject:
        """An object; a missing one is empty."""
        value = self.values.get(key)
        return JsonObject.of({} if value is None else value, f"{_prefix(self.where)}{_shown(key)}")

    def items(self) -> Iterator[tuple[str, object]]:
        """Keys, which can be printed, and values of anything."""
        for key, value in self.values.items():
            if not is_name(key):
                raise FormatError(f"{_prefix(self.where)}key {_shown(key)} is no name")
            yield key, value

    def numbers(self, key: str, count: int) -> tuple[float, ...]:
        """``count`` finite numbers."""
        value = self.values.get(key)
        if not isinstance(value, list) or len(value) != count:
            raise self.wrong(key, f"{count} numbers")
        return tuple(self._number(key, one) for one in value)

    def matrix(self, key: str, shapes: Sequence[tuple[int, int]]) -> list[tuple[float, ...]]:
        """Rows of finite numbers of one of the ``shapes``."""
        value = self.values.get(key)
        sizes = None
        if isinstance(value, list) and all(isinstance(row, list) for row in value):
            sizes = {(len(value), len(row)) for row in value}
        if not isinstance(value, list) or not sizes or len(sizes) > 1 or not sizes <= set(shapes):
            want = " or ".join(f"[{rows}, {columns}]" for rows, columns in shapes)
            raise self.wrong(key, f"numbers of shape {want}")
        return [tuple(self._number(key, one) for one in row) for row in value]

    def wrong(self, key: str, want: str) -> FormatError:
        """The error that says what stands under ``key`` and what was wanted."""
        if key not in self.values:
            return FormatError(f"{_prefix(self.where)}no {key!r}, want {want}")
        return FormatError(
            f"{_prefix(self.where)}{key!r} is {_shown(self.values[key])}, want {want}"
        )

    def _number(self, key: str, value: object) -> float:
        """A number under ``key``, or in the list or matrix there."""
        want = "a number"
        if isinstance(value, int | float) and not isinstance(value, bool):
            try:
                number = float(value)
                if math.isfinite(number):
                    return number
                want = "a finite number"
            except OverflowError:
                want = "a number that is not so large"
        if value is self.values.get(key):
            raise self.wrong(key, want)
        raise FormatError(f"{_prefix(self.where)}{key!r} has {_shown(value)} in it, want {want}")


def _shown(value: object) -> str:
    """The beginning of a value, on one line and printable; hostile depth stays unread."""
    if isinstance(value, dict):
        return f"an object of {len(value)} keys"
    if isinstance(value, list) and any(isinstance(one, list | dict) for one in value[:8]):
        return f"a list of {len(value)} parts"
    if isinstance(value, list):
        shown = "[" + ", ".join(_shown(one) for one in value[:8])
        shown += ", ...]" if len(value) > 8 else "]"
    elif isinstance(value, str):
        shown = ascii(value[: _SHOWN + 1])
    elif isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**18:
        shown = "an integer of more than 18 digits"
    else:
        shown = json.dumps(value)
    return shortened(shown, _SHOWN)


def _prefix(where: str) -> str:
    return f"{where}: " if where else ""
