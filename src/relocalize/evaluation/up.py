"""Which way is up where errors are measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from relocalize.geometry import Rigid3
from relocalize.geometry.transforms import FloatArray

_LEAST = 1e-6  # of the mean of unit vectors: below it they point everywhere


@dataclass(frozen=True, eq=False)
class Up:
    """The direction against gravity.

    Attributes:
        direction: [3] unit vector.
        source: what says so, for people.
    """

    direction: FloatArray
    source: str

    @classmethod
    def of_frame(cls, up: str | None, source: str | None, world_from_cam: Sequence[Rigid3]) -> Up:
        """Of a Place's frame: z where it is known to point up, else what its images say.

        Args:
            up: ``z`` or None, as in `Frame`.
            source: what says so.
            world_from_cam: poses of its cameras.
        """
        if up == "z":
            return cls(np.array([0.0, 0.0, 1.0]), source or "the map's z axis")
        return cls.of_images(world_from_cam)

    @classmethod
    def of_images(cls, world_from_cam: Sequence[Rigid3]) -> Up:
        """The mean of the images' up directions: people hold cameras upright, by and large."""
        mean = -np.mean([pose.rotation[:, 1] for pose in world_from_cam], axis=0)
        size = float(np.linalg.norm(mean))
        if size < _LEAST:
            return cls(np.array([0.0, 0.0, 1.0]), "nothing: taken to be the z axis")
        return cls(mean / size, "the mean of the images' up directions")
