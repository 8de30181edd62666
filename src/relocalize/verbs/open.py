"""A Place that is there."""

from __future__ import annotations

from pathlib import Path

from relocalize.place import Place


def open(place: str | Path) -> Place:
    """An existing Place; `frames`, `import_poses` and `build` make new ones.

    Raises:
        PlaceError: there is none, it is of a later schema, or it is damaged.
    """
    return Place.open(place)
