"""What of a Place is shown, as numbers: points thinned, captures, floor, which way is up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from relocalize.errors import ViewerError
from relocalize.geometry.from_above import axes_across, view_from_above
from relocalize.geometry.transforms import FloatArray, local_origin
from relocalize.place import Place
from relocalize.place.folder import METRE
from relocalize.plotting.walks import Walk, walks_of
from relocalize.viewer.shapes import Ground

# More are thinned: walls are seen with far fewer, and these are 3 MB to send.
MOST_POINTS = 200_000
# Length of the mean of the images' upward directions from which on they say what is up: people
# hold cameras upright, and tilt them alike to all sides.
_HELD_UPRIGHT = 0.5


@dataclass(frozen=True, eq=False)
class Content:
    """Everything that is drawn of a Place."""

    name: str  # of the Place
    unit: str  # of lengths: ``metre`` or ``map unit``
    # [3] in the world, from which all positions here count: browsers draw in single precision
    origin: FloatArray
    walks: tuple[Walk, ...]  # the posed images, capture by capture
    points: NDArray[np.float32]  # [P, 3] those that are drawn
    colors: NDArray[np.uint8]  # [P, 3] uint8
    all_points: int  # how many the map has
    axes: FloatArray  # [3, 3] rows in the world: two along the floor, then up
    up_is_known: bool  # whether the last of them is against gravity, and not a guess
    ground: Ground  # the grid
    middle: FloatArray  # [3] of the cameras
    # from there to the furthest camera, or to most of the points where they are further
    reach: float

    def unit_of(self, length: float = 0.0) -> str:
        """As it stands behind this length."""
        if self.unit == METRE:
            return "m"
        return "map unit" if length == 1 else "map units"


def content_of(
    place: Place, captures: Sequence[str] = (), *, most_points: int = MOST_POINTS
) -> Content:
    """What is drawn of a Place, or of some captures; more points are thinned at random.

    Raises:
        PlaceError: there is no map, or no such capture.
        ViewerError: ``most_points`` is negative.
    """
    if most_points < 0:
        raise ViewerError(f"{most_points} points cannot be drawn; want 0 or more: --points 200000")
    in_world = walks_of(place, captures)
    origin = local_origin(np.concatenate([walk.centres for walk in in_world]))
    walks = [walk.about(origin) for walk in in_world]
    centres = np.concatenate([walk.centres for walk in walks])
    rotations = np.stack([pose.rotation for walk in walks for pose in walk.world_from_cam])
    up_is_known = place.frame.up == "z"
    axes = _axes(centres, rotations, up_is_z=up_is_known)
    points = replace(place.points, positions=place.points.positions - origin)
    middle = np.median(centres, axis=0)
    reach = max(float(np.linalg.norm(centres - middle, axis=1).max()), 1e-9)
    if len(points):
        distance = np.linalg.norm(points.positions - middle, axis=1)
        reach = max(reach, float(np.quantile(distance, 0.75)))
    rows = np.arange(len(points))
    if len(points) > most_points:
        rows = np.sort(np.random.default_rng(0).choice(rows, most_points, replace=False))
    return Content(
        name=place.name,
        unit=place.unit,
        origin=origin,
        walks=tuple(walks),
        points=points.positions[rows].astype(np.float32),
        colors=points.colors[rows],
        all_points=len(points),
        axes=axes,
        up_is_known=up_is_known,
        ground=Ground.under(centres, points.positions, axes),
        middle=middle,
        reach=reach,
    )


def _axes(centres: FloatArray, rotations: FloatArray, *, up_is_z: bool) -> FloatArray:
    """[3, 3] rows: two along the floor, then up, as far as that is known."""
    camera_up = -rotations[:, :, 1].mean(axis=0)
    length = float(np.linalg.norm(camera_up))
    if up_is_z or length < _HELD_UPRIGHT:
        return view_from_above(centres, rotations, up_is_z=up_is_z).axes
    up = camera_up / length
    return np.stack([*axes_across(up, centres), up])
