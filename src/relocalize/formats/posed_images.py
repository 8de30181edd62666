"""What a writer writes: images with their poses, cameras and points."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from relocalize.place import MapModel


@dataclass(frozen=True, eq=False)
class PosedImages:
    """Posed images for another tool, each with its image.

    Attributes:
        model: poses, cameras, points and observations, by image name.
        files: the image's file by image name.
        unit: ``metre`` or ``map unit``.
        train: names of the train images, where a split was asked for.
        test: names of the test images, likewise.
        times: seconds by image name, where the captures know them.
    """

    model: MapModel
    files: dict[str, Path]
    unit: str
    train: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    times: dict[str, float] = field(default_factory=dict)
