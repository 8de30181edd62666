"""What every saved localizer is: ``localizer.json`` and one file of arrays, nothing executable."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relocalize.errors import LocalizerError, PlaceError
from relocalize.place import atomic
from relocalize.place.folder import read_json

DESCRIPTION = "localizer.json"
ARRAYS = "arrays.npz"
# Arrays of a building of a million points take 0.2 GB; more in one file is not ours.
_MAX_BYTES = 4 << 30


def write_saved(
    folder: Path,
    *,
    localizer: str,
    version: int,
    unit: str,
    settings: Mapping[str, Any],
    arrays: Mapping[str, NDArray[Any]],
) -> None:
    """Write a localizer's description and arrays into ``folder``."""
    np.savez_compressed(folder / ARRAYS, allow_pickle=False, **arrays)
    description = {
        "localizer": localizer,
        "version": version,
        "unit": unit,
        "settings": dict(settings),
    }
    atomic.write_json(folder / DESCRIPTION, description)


def read_saved(
    folder: Path, *, localizer: str, version: int
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """The description and the arrays that `write_saved` wrote.

    Raises:
        LocalizerError: they are missing, damaged, or of another localizer or version.
    """
    description = read_description(folder)
    found = (description.get("localizer"), description.get("version"))
    if found != (localizer, version):
        raise LocalizerError(
            f"{folder} holds localizer {found[0]!r} version {found[1]!r}, want {localizer!r} "
            f"version {version}; delete the folder and it is fitted again"
        )
    if not isinstance(description.get("unit"), str) or not isinstance(
        description.get("settings"), dict
    ):
        raise LocalizerError(f"{folder / DESCRIPTION} is damaged: unit or settings missing")
    path = folder / ARRAYS
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > _MAX_BYTES:
            raise LocalizerError(f"{path} unpacks to {size} bytes; at most {_MAX_BYTES} are read")
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise LocalizerError(
            f"{path} is damaged ({error}); delete the folder and it is fitted again"
        ) from error
    return description, arrays


def read_description(folder: Path) -> dict[str, Any]:
    """``localizer.json`` of a saved localizer.

    Raises:
        LocalizerError: there is none, or it is damaged.
    """
    try:
        return read_json(folder / DESCRIPTION)
    except PlaceError as error:
        raise LocalizerError(f"no localizer: {error}") from error
