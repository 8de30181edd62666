"""Rows of numbers, as trajectories are written: which line holds what, and which is a comment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from relocalize.formats.text import first_lines, read_lines

_SHOWN = 60  # characters of a bad column in a message


def number_rows(
    path: Path, separator: str | None = None, *, columns: int | None = None
) -> Iterator[tuple[str, list[str]]]:
    """``line 12`` and the columns of every line that is neither empty nor a ``#`` comment.

    Args:
        path: a text file.
        separator: between columns; None is white space.
        columns: at most as many; the last one has the rest of the line.

    Raises:
        FormatError: the file cannot be read, or is no text.
    """
    return _rows(read_lines(path), separator, columns)


def first_row(path: Path, separator: str | None = None) -> tuple[str, list[str]] | None:
    """The first of `number_rows`, from the first bytes of the file; never raises."""
    return next(_rows(first_lines(path), separator, None), None)


def _rows(
    lines: Iterable[str], separator: str | None, columns: int | None
) -> Iterator[tuple[str, list[str]]]:
    most = -1 if columns is None else columns - 1
    for number, line in enumerate(lines, start=1):
        row = line.strip()
        if row and not row.startswith("#"):
            yield f"line {number}", [column.strip() for column in row.split(separator, most)]


def floats(columns: list[str]) -> list[float]:
    """The columns as numbers.

    Raises:
        ValueError: one is none, in words that name it.
    """
    try:
        return [float(column) for column in columns]
    except ValueError:
        bad = next(column for column in columns if not _is_number(column))
        shown = bad if len(bad) <= _SHOWN else bad[: _SHOWN - 3] + "..."
        raise ValueError(f"{shown!r} is no number") from None


def _is_number(column: str) -> bool:
    try:
        float(column)
    except ValueError:
        return False
    return True
