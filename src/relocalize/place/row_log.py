"""Rows of a run under way, a JSON object per line: a run that was killed resumes after them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, TextIO, TypeVar

from typing_extensions import Self

from relocalize.errors import RelocalizeError
from relocalize.plain import from_plain, to_plain

Row = TypeVar("Row")


@dataclass(frozen=True)
class _Head:
    """The first line: what the rows depend on, and what was noted before the first of them."""

    inputs: str
    noted: Any = None


class RowLog(Generic[Row]):
    """Rows of one dataclass in a file; use it as a context to add some.

    Attributes:
        noted: what was noted when the log was begun, as plain values; None in a new log.
        rows: that are there, in order.
    """

    def __init__(self, path: Path, inputs: str, kind: type[Row]) -> None:
        """Read the rows of ``path``; those of other ``inputs`` are dropped."""
        self._path, self._inputs = path, inputs
        self._file: TextIO | None = None
        self.noted: Any = None
        self.rows: list[Row] = []
        try:
            head, *lines = path.read_text(encoding="utf-8").splitlines()
            first = from_plain(_Head, json.loads(head))
            if first.inputs == inputs:
                self.noted = first.noted
                for line in lines:
                    self.rows.append(from_plain(kind, json.loads(line)))
        except (OSError, ValueError, RelocalizeError):
            pass  # no log, another version's, or a last line cut short: what was read counts

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # Written anew, so that a line that a kill cut short is not continued.
        self._file = self._path.open("w", encoding="utf-8")
        for row in (_Head(self._inputs, self.noted), *self.rows):
            self._write(row)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()

    def __len__(self) -> int:
        return len(self.rows)

    def append(self, row: Row) -> None:
        """Write a row down."""
        self.rows.append(row)
        self._write(row)

    def remove(self) -> None:
        """Delete the file."""
        self._path.unlink(missing_ok=True)

    def _write(self, row: Any) -> None:
        if self._file is not None:
            self._file.write(json.dumps(to_plain(row), allow_nan=False) + "\n")
            self._file.flush()
