"""Arrays on disk that are filled row by row, and whose finished rows outlive a kill.

A row counts as done only after its bytes are on disk, so a run that was stopped anywhere resumes
with the rows that are missing. What is here can always be made again: a reader that finds it
damaged deletes it.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relocalize.errors import LocalizerError
from relocalize.place import atomic

_DESCRIPTION = "about.json"
_DONE = "done.u8"
_SPARE_BYTES = 64 << 20  # left free on the disk


@dataclass(frozen=True)
class RowLayout:
    """One array: the shape of a row, and its type."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


class DiskRows:
    """Named arrays of ``rows`` rows each, in one folder. One process writes, any may read.

    Attributes:
        folder: where they are.
        rows: how many rows each array has.
    """

    def __init__(
        self, folder: Path, rows: int, arrays: Mapping[str, RowLayout], *, kept: int = 8
    ) -> None:
        """Name the arrays; nothing is read or written yet.

        The folder is named ``<kind>-<key>``, by the key of everything that the rows depend on;
        ``kept`` folders of the kind may lie side by side.
        """
        self.folder, self.rows = folder, rows
        self._arrays, self._kept = dict(arrays), kept
        self._written: list[slice] = []

    def make(self, about: Mapping[str, Any]) -> None:
        """Make the arrays, empty, unless they are there; folders unused for long go.

        ``about`` is what the folder says of itself, for people.

        Raises:
            LocalizerError: there is no room on the disk, or it cannot be written.
        """
        if self._is_whole():
            return
        sizes = self._sizes()
        need = sum(sizes.values()) + _SPARE_BYTES
        with self._writing():
            shutil.rmtree(self.folder, ignore_errors=True)
            self._forget_others()
            self.folder.mkdir(parents=True)
            free = shutil.disk_usage(self.folder).free
            if need > free:
                shutil.rmtree(self.folder)
                raise LocalizerError(
                    f"{self.folder.parent} needs {need / 1e6:.0f} MB for prepared images, and "
                    f"its disk has {free / 1e6:.0f} MB free; free some, or use smaller images"
                )
            for path, size in sizes.items():
                with path.open("wb") as file:
                    file.truncate(size)
            atomic.write_json(self.folder / _DESCRIPTION, dict(about))

    @property
    def finished(self) -> int:
        """Rows that are there before the first that is not; what is used is not forgotten soon."""
        if not self._is_whole():
            return 0
        missing = self.missing
        with suppress(OSError):  # a Place that is only read
            os.utime(self.folder / _DESCRIPTION)
        return int(missing[0]) if len(missing) else self.rows

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.bin"

    def _sizes(self) -> dict[Path, int]:
        """Bytes of each file."""
        sizes = {self._path(n): layout.row_bytes * self.rows for n, layout in self._arrays.items()}
        return {**sizes, self.folder / _DONE: self.rows}

    def _is_whole(self) -> bool:
        if not (self.folder / _DESCRIPTION).is_file():  # written last
            return False
        return all(
            path.is_file() and path.stat().st_size == size for path, size in self._sizes().items()
        )

    def _forget_others(self) -> None:
        """Delete the folders of this kind that were used longest ago, but for a few."""
        kind = self.folder.name.split("-")[0]
        others = [
            (path.stat().st_mtime_ns, path.parent)
            for path in self.folder.parent.glob(f"{kind}-*/{_DESCRIPTION}")
            if path.parent != self.folder
        ]
        for _, old in sorted(others)[: max(0, len(others) + 1 - self._kept)]:
            shutil.rmtree(old, ignore_errors=True)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise LocalizerError(f"{self.folder} cannot be written: {error.strerror}") from error

    def forget(self) -> None:
        """Delete what is there."""
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def missing(self) -> NDArray[np.int64]:
        """Rows that are not there yet, rising."""
        done = np.frombuffer((self.folder / _DONE).read_bytes(), dtype=np.uint8)
        return np.flatnonzero(done == 0)

    def write(self, first: int, values: Mapping[str, NDArray[Any]]) -> None:
        """Write consecutive rows from ``first`` into every array; they count from `commit` on.

        Raises:
            LocalizerError: the disk is full or gone.
        """
        if values.keys() != self._arrays.keys():
            raise ValueError(f"got arrays {sorted(values)}, want {sorted(self._arrays)}")
        for name, array in values.items():
            layout = self._arrays[name]
            if array.shape[1:] != layout.shape:
                raise ValueError(f"rows of {name} are {array.shape[1:]}, want {layout.shape}")
            # Not by a memory map: a full disk would end the process there.
            with self._writing(), self._path(name).open("r+b") as file:
                file.seek(first * layout.row_bytes)
                file.write(np.ascontiguousarray(array, dtype=layout.dtype).data)
        self._written.append(slice(first, first + len(next(iter(values.values())))))

    def commit(self) -> None:
        """Have what was written survive, whatever happens next."""
        if not self._written:
            return
        with self._writing():
            for name in self._arrays:
                with self._path(name).open("r+b") as file:
                    os.fsync(file.fileno())
            with (self.folder / _DONE).open("r+b") as file:
                for rows in self._written:
                    file.seek(rows.start)
                    file.write(b"\1" * (rows.stop - rows.start))
                file.flush()
                os.fsync(file.fileno())
        self._written.clear()

    def array(self, name: str) -> NDArray[Any]:
        """The array ``name`` [rows, ...], read from disk as it is touched; not writable."""
        layout = self._arrays[name]
        shape = (self.rows, *layout.shape)
        return np.memmap(self._path(name), dtype=np.dtype(layout.dtype), mode="r", shape=shape)
