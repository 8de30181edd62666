"""The kitchen walk as a Place: known poses of all frames, a map from a split's train frames."""

from __future__ import annotations

from pathlib import Path

from relocalize.mapping import map_place
from relocalize.place import Place
from relocalize.verbs.import_poses import import_poses


def kitchen_place(root: Path, data: Path, split: str = "blocks") -> Place:
    """The Place at ``root``, made unless it is there.

    Args:
        root: folder of the Place.
        data: folder of the walk: images/, poses_sfm.txt, splits/.
        split: whose train frames make the map.
    """
    place = Place.open_or_create(root)
    if not place.has_map:
        import_poses(
            data / "poses_sfm.txt",
            place,
            data / "images",
            convention="stated",
            train=data / "splits" / f"{split}_train.txt",
            test=data / "splits" / f"{split}_test.txt",
            split=split,
        )
    map_place(place)
    return place
