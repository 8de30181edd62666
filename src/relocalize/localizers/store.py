"""Fitted localizers in a Place: loaded when current, fitted again when what they saw changed."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from relocalize import progress
from relocalize.errors import LocalizerError, PlaceError
from relocalize.localizers.localizer import Localizer
from relocalize.localizers.registry import localizer_type
from relocalize.localizers.saving import DESCRIPTION, read_description
from relocalize.place import Place, Split, atomic

_FITTED_ON = "fitted_on"  # key of localizer.json
_MAP_FILES = ("cameras.bin", "images.bin", "points3D.bin", "features.json")


def fitted(place: Place, name: str, split: Split | None = None) -> Localizer:
    """The localizer ``name`` of a Place, fitted now unless the stored one is current.

    Args:
        place: with a map.
        name: ``constant``, ``retrieval``, ``structure``.
        split: fit on its train images alone; None uses every posed image.

    Raises:
        LocalizerError: there is no such localizer, or the Place has too little to fit it.
        PlaceError: the Place has no map, or another process writes to it.
    """
    kind = localizer_type(name)
    folder = place.localizer_dir(name if split is None else f"{name}.{split.name}")
    atomic.recover_folder(folder)
    origin = _fingerprints(place, split)
    current = _load_if_current(kind, folder, origin)
    if current is not None:
        return current
    with place.lock():
        localizer = kind.fit(place, split)
        with atomic.new_folder(folder) as aside:
            localizer.save(aside)
            description = read_description(aside)
            atomic.write_json(aside / DESCRIPTION, {**description, _FITTED_ON: origin})
    progress.say(f"fitted {name} in {folder}")
    return localizer


def _load_if_current(
    kind: type[Localizer], folder: Path, origin: dict[str, Any]
) -> Localizer | None:
    if not (folder / DESCRIPTION).is_file():
        return None
    try:
        if read_description(folder).get(_FITTED_ON) != origin:
            return None
        return kind.load(folder)
    except LocalizerError as error:
        # Damaged or of an older version: what it was made from is still there.
        progress.say(f"fitting again: {error}")
        return None


def _fingerprints(place: Place, split: Split | None) -> dict[str, Any]:
    """What a localizer depends on: the map's files, the unit, the train images' names."""
    if not place.has_map:
        raise PlaceError(f"{place.root} has no map; make one with: relocalize map {place.root}")
    digest = hashlib.sha256()
    for file in _MAP_FILES:
        path = place.map_dir / file
        digest.update(file.encode())
        digest.update(path.read_bytes() if path.is_file() else b"")
    names = "\n".join(sorted(split.train)) if split is not None else ""
    return {
        "map": digest.hexdigest(),
        "unit": place.unit,
        "split": None if split is None else split.name,
        "train": hashlib.sha256(names.encode()).hexdigest(),
    }
