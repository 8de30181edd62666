"""Images that were taken out of the map, and all that brings them back: the folder ``dropped/``.

It holds a COLMAP model of the images that are out, with their exact poses and the points that
they observe; ``tracks.npz``, who observed these points when they went; and ``dropped.json``. What
is in the map is not out, whatever the folder says: a kill between the two leaves that behind.
"""

from __future__ import annotations

import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relocalize.errors import PlaceError
from relocalize.place.folder import Place, read_json

RECORD = "dropped.json"
TRACKS = "tracks.npz"


@dataclass(frozen=True)
class DroppedImage:
    """An image that is out of the map."""

    name: str  # of the image
    image_id: int  # its number in the map
    camera_id: int  # its camera's number there


@dataclass(frozen=True, eq=False)
class DroppedRecord:
    """What is out, beside its COLMAP model."""

    images: tuple[DroppedImage, ...]  # those that are out
    observers: tuple[str, ...]  # names of images that the tracks speak of
    # [N, 3] point id, row in ``observers``, feature row: all observations of the points that images
    # which are out observe
    tracks: NDArray[np.int64]
    moves: int  # how often the Place's frame had moved
    map_inputs: str | None  # fingerprint of what the map was made from, or None where it has none

    def write(self, folder: Path) -> dict[str, Any]:
        """Write the tracks into ``folder``; what is to be written as `RECORD`."""
        np.savez_compressed(folder / TRACKS, allow_pickle=False, tracks=self.tracks)
        return {
            "images": [asdict(image) for image in self.images],
            "observers": list(self.observers),
            "moves": self.moves,
            "map_inputs": self.map_inputs,
        }


def dropped_folder(place: Place) -> Path:
    """Where the images that are out of the map are kept."""
    return place.root / "dropped"


def read_dropped(place: Place) -> DroppedRecord | None:
    """What is out of the map, or None where nothing ever was.

    Raises:
        PlaceError: the record is damaged.
    """
    folder = dropped_folder(place)
    if not (folder / RECORD).is_file():
        return None
    value = read_json(folder / RECORD)
    try:
        with np.load(folder / TRACKS, allow_pickle=False) as archive:
            tracks = archive["tracks"].astype(np.int64).reshape(-1, 3)
        record = DroppedRecord(
            images=tuple(DroppedImage(**row) for row in value["images"]),
            observers=tuple(str(name) for name in value["observers"]),
            tracks=tracks,
            moves=int(value["moves"]),
            map_inputs=value["map_inputs"],
        )
        if len(tracks) and not 0 <= tracks[:, 1].min() <= tracks[:, 1].max() < len(
            record.observers
        ):
            raise ValueError("tracks of unknown images")
    except (OSError, KeyError, TypeError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise PlaceError(
            f"{folder} is damaged ({error}); without it, the images in it can come back into "
            f"the map by: relocalize map {place.root}"
        ) from error
    return record


def dropped_names(place: Place) -> tuple[str, ...]:
    """Names of the images that are out of the map, in the order in which they went."""
    record = read_dropped(place)
    if record is None or not place.has_map:
        return ()
    inside = place.map.images
    return tuple(image.name for image in record.images if image.name not in inside)
