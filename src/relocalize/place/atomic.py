"""Writes that are whole or not there: write aside, fsync, rename."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_ASIDE = ".writing-"  # prefix of a file or folder under way; whatever wears it may be deleted
_OLD = ".replaced-"  # prefix of a folder that its successor is about to replace


def write_bytes(path: Path, data: bytes) -> None:
    """Replace the file at ``path`` by ``data``, in one step for every reader."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{_ASIDE}{path.name}")
    try:
        with aside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException as error:
        aside.unlink(missing_ok=True)  # of a full disk, it would be the part that fitted
        _name(error, path)
        raise
    _sync_folder(path.parent)


def _name(error: BaseException, path: Path) -> None:
    """Have an error of the system say what could not be written."""
    if isinstance(error, OSError) and error.filename is None:
        error.filename = str(path)


def write_text(path: Path, text: str) -> None:
    """Replace the file at ``path`` by ``text`` (UTF-8), in one step for every reader."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Replace the file at ``path`` by readable JSON (NaN is refused: it is no JSON)."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yields an empty folder that becomes ``path`` when the block ends without an error.

    The folder that was at ``path`` stays until then. After a kill between the two renames,
    `recover_folder` puts it back.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{_ASIDE}{path.name}")
    old = path.with_name(f"{_OLD}{path.name}")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    try:
        yield aside
        for file in aside.rglob("*"):
            if file.is_file():
                with file.open("rb") as handle:
                    os.fsync(handle.fileno())
    except BaseException as error:
        shutil.rmtree(aside, ignore_errors=True)
        _name(error, path)
        raise
    recover_folder(path)
    if path.exists():
        path.rename(old)
    aside.rename(path)
    _sync_folder(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def remove_folder(path: Path) -> None:
    """Remove the folder at ``path``, if any: a kill leaves all of it there, or nothing."""
    aside = path.with_name(f"{_ASIDE}{path.name}")
    shutil.rmtree(aside, ignore_errors=True)
    with suppress(OSError):  # it is not there
        path.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)


def link_file(source: Path, target: Path) -> None:
    """The file at ``source`` at ``target`` too, without a copy where the file system can."""
    try:
        os.link(source, target)
    except OSError:  # another disk, or a file system without links
        shutil.copy2(source, target)


def recover_folder(path: Path) -> None:
    """Finish what a kill inside `new_folder` left: the old folder back, or its remains away."""
    old = path.with_name(f"{_OLD}{path.name}")
    if not old.exists():
        return
    if path.exists():
        shutil.rmtree(old, ignore_errors=True)
    else:
        old.rename(path)


def interrupted_folders(parent: Path) -> list[Path]:
    """The folders in ``parent`` that a kill inside `new_folder` left for `recover_folder`."""
    return [old.with_name(old.name.removeprefix(_OLD)) for old in parent.glob(f"{_OLD}*")]


def _sync_folder(folder: Path) -> None:
    # Makes the rename itself durable; folders cannot be opened on Windows.
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
