"""Which listed image name means which picture, where the two are not spelled alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath


@dataclass(frozen=True)
class NameMatch:
    """The outcome of `match_names`.

    Attributes:
        present_of: the picture's name by the listed name, in the listed order.
        ambiguous: listed names that could mean several pictures, or share one with another.
        absent: listed names that no picture resembles.
    """

    present_of: dict[str, str]
    ambiguous: tuple[str, ...]
    absent: tuple[str, ...]


def match_names(listed: Iterable[str], present: Iterable[str]) -> NameMatch:
    """Match listed names to present ones: exactly, else by less and less of the name.

    In turn: the whole path, the file name, the folder and stem, the stem. A stem ends at the
    first dot and its case does not count: ``frame-000000.color.png`` is ``frame-000000.jpg``.
    A shortened name counts only where it is unique on both sides.
    """
    listed, present = list(dict.fromkeys(listed)), list(dict.fromkeys(present))
    found: dict[str, str] = {}
    unclear: set[str] = set()
    taken: set[str] = set()
    for key_of in _KEYS:
        listed_count = Counter(key_of(name) for name in listed)
        by_key: dict[str, list[str]] = {}
        for name in present:
            by_key.setdefault(key_of(name), []).append(name)
        for name in listed:
            key = key_of(name)
            candidates = by_key.get(key, [])
            if name in found or not candidates:
                continue
            if len(candidates) > 1 or listed_count[key] > 1:
                unclear.add(name)
            elif candidates[0] not in taken:
                found[name] = candidates[0]
                taken.add(candidates[0])
    return NameMatch(
        {name: found[name] for name in listed if name in found},
        tuple(name for name in listed if name in unclear and name not in found),
        tuple(name for name in listed if name not in found and name not in unclear),
    )


def _path(name: str) -> str:
    return name.replace("\\", "/").removeprefix("./")


def _file_name(name: str) -> str:
    return PurePosixPath(_path(name)).name


def _stem(name: str) -> str:
    file_name = _file_name(name)
    return (file_name.split(".", 1)[0] or file_name).casefold()


def _folder_and_stem(name: str) -> str:
    return f"{PurePosixPath(_path(name)).parent.name.casefold()}/{_stem(name)}"


_KEYS: tuple[Callable[[str], str], ...] = (_path, _file_name, _folder_and_stem, _stem)
