"""Tables in text: a header that names the columns, rows of cells, and lines of comment.

Commas, semicolons, tabs or blanks part the cells, whichever make the header one; where it is no
comma, numbers may have a decimal comma. Names of columns count in any order and in any case.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from relocalize.errors import FormatError
from relocalize.formats.text import read_lines, shortened

_DELIMITERS = (",", ";", "\t", None)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)

Aliases = Mapping[str, tuple[str, ...]]  # the names that each wanted column may have
IsHeader = Callable[[Mapping[str, int]], bool]  # whether these wanted columns are enough


@dataclass(frozen=True)
class Header:
    """The line that names the columns."""

    columns: tuple[str, ...]  # names in lower case, as the line has them but for ``#`` and quotes
    at: dict[str, int]  # where each wanted column is, by the first of its names that is there
    delimiter: str | None  # between cells; None is white space
    line: int  # its number, from 1
    comments: tuple[str, ...]  # the lines before it, without their ``#``

    def cells(self, line: str) -> tuple[dict[str, str], dict[str, str]]:
        """The cells of a row by wanted column, and the others by their name.

        Blanks around cells that are not quoted do not count.

        Raises:
            ValueError: quotes that do not close, or not as many cells as columns.
        """
        cells = split_cells(line, self.delimiter)
        while len(cells) > len(self.columns) and not cells[-1]:
            cells.pop()  # some tools end a row with a delimiter
        if len(cells) != len(self.columns):
            within = len(cells) > len(self.columns) and self.delimiter == ","
            hint = (
                ": commas within cells, as of numbers? part cells by semicolons" if within else ""
            )
            raise ValueError(f"{len(cells)} columns, want {len(self.columns)}{hint}")
        wanted = set(self.at.values())
        others = {
            name: cells[index]
            for index, name in enumerate(self.columns)
            if name and index not in wanted
        }
        return {key: cells[index] for key, index in self.at.items()}, others

    def number(self, cell: str) -> float:
        """The number in a cell.

        Raises:
            ValueError: it is none; ``nan`` and ``inf`` are none either.
        """
        text = cell.strip()
        text = text if self.delimiter == "," else text.replace(",", ".")
        if not _NUMBER.fullmatch(text):
            raise ValueError(f"{shortened(cell, 40)!r} is no number")
        value = float(text)
        if math.isinf(value):
            raise ValueError(f"{text[:40]!r} is too large a number")
        return value


def find_header(lines: list[str], aliases: Aliases, is_header: IsHeader) -> Header | None:
    """The header of a table, which only comments and blank lines may precede."""
    comments: list[str] = []
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if not text:
            continue
        for delimiter in _DELIMITERS:
            try:
                columns = [
                    cell.lower() for cell in split_cells(text.lstrip("#").strip(), delimiter)
                ]
            except ValueError:
                continue
            while columns and not columns[-1]:
                columns.pop()
            at = {
                wanted: columns.index(found[0])
                for wanted, names in aliases.items()
                if (found := [name for name in names if name in columns])
            }
            if is_header(at):
                parting = _of_rows(lines[number:], len(columns), delimiter)
                return Header(tuple(columns), at, parting, number, tuple(comments))
        if not text.startswith("#"):
            return None
        comments.append(text.lstrip("#").strip())
    return None


def _of_rows(lines: list[str], columns: int, delimiter: str | None) -> str | None:
    """What parts the cells of the first row: of Metashape's tables not what parts their header."""
    rows = (line.strip(" \r\n") for line in lines if line.strip() and line.lstrip()[0] != "#")
    first = next(rows, "")
    if _cells_of(first, delimiter) > 1:
        return delimiter
    return next((one for one in _DELIMITERS if _cells_of(first, one) == columns), delimiter)


def _cells_of(line: str, delimiter: str | None) -> int:
    try:
        return len(split_cells(line, delimiter))
    except ValueError:
        return 0


def read_table(
    path: Path, aliases: Aliases, is_header: IsHeader, want: str
) -> tuple[Header, Iterator[tuple[str, str]]]:
    """A table's header, and its rows as ``line 12`` and text.

    Raises:
        FormatError: the file cannot be read or has no such header, or a column is there twice.
    """
    lines = read_lines(path)
    header = find_header(lines, aliases, is_header)
    if header is None:
        raise FormatError(f"{path} has no header line that names the columns {want}")
    twice = [name for name in header.columns if name and header.columns.count(name) > 1]
    if twice:
        raise FormatError(f"{path}, line {header.line}: two columns are called {twice[0][:60]!r}")
    rows = (
        (f"line {number}", line.strip(" \r\n"))  # tabs at the end are empty cells
        for number, line in enumerate(lines[header.line :], start=header.line + 1)
        if line.strip() and not line.lstrip().startswith("#")
    )
    return header, rows


def split_cells(line: str, delimiter: str | None) -> list[str]:
    """The cells of a line, where ``delimiter`` (None: blanks) is not in quotes; else ValueError."""
    if '"' not in line or delimiter is None:
        return [cell.strip() for cell in line.split(delimiter)]
    try:
        rows = list(csv.reader([line], delimiter=delimiter, skipinitialspace=True, strict=True))
    except csv.Error as error:
        raise ValueError(f"no row of a table: {error}") from None
    return rows[0]  # what is in quotes is meant, blanks too
