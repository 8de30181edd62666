"""Rows of a run under way, a JSON object per line: a run that was killed resumes after them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Generic, TextIO, TypeVar

from typing_extensions import Self

from relocalize.errors import RelocalizeError
from relocalize.plain import from_plain, to_plain

Row = TypeVar("Row")


class RowLog(Generic[Row]):
    """Rows of one dataclass in a file; use it as a context to add some.

    Rows are what their lines say, so that a run that was killed ends as one that was not.

    Attributes:
        noted: what was noted when the log was begun, as plain values; None in a new log.
        rows: that are there, in order.
    """

    def __init__(self, path: Path, inputs: str, kind: type[Row]) -> None:
        """Read the rows of ``path``; those of other ``inputs`` are dropped."""
        self._path, self._inputs, self._kind = path, inputs, kind
        self._file: TextIO | None = None
        self._lines: list[str] = []
        self.noted: Any = None
        self.rows: list[Row] = []
        try:
            head, *lines = path.read_text(encoding="utf-8").splitlines()
            first = json.loads(head)
            if first["inputs"] == inputs:
                self.noted = first["noted"]
                for line in lines:
                    self._take(line)
        except (OSError, ValueError, TypeError, KeyError, RelocalizeError):
            pass  # no log, another version's, or a last line cut short: what was read counts

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # Written anew, so that a line that a kill cut short is not continued.
        self._file = self._path.open("w", encoding="utf-8")
        head = json.dumps({"inputs": self._inputs, "noted": self.noted})
        self._file.writelines(f"{line}\n" for line in (head, *self._lines))
        self._file.flush()
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def __len__(self) -> int:
        return len(self.rows)

    def append(self, row: Row) -> Row:
        """Write a row down; returns it as it will be read."""
        line = json.dumps(to_plain(row), allow_nan=False)
        if self._file is not None:
            self._file.write(f"{line}\n")
            self._file.flush()
        return self._take(line)

    def remove(self) -> None:
        """Delete the file."""
        self._path.unlink(missing_ok=True)

    def _take(self, line: str) -> Row:
        row = from_plain(self._kind, json.loads(line))
        self._lines.append(line)
        self.rows.append(row)
        return row
