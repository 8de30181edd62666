"""What is drawn: the cameras of each capture, and what a figure or scene makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from relocalize.errors import PlaceError
from relocalize.geometry import Rigid3
from relocalize.geometry.transforms import FloatArray
from relocalize.place import Place

# Okabe and Ito, "Color Universal Design" (2008): told apart with every colour blindness. Black is
# for text and yellow is too light for lines on white, so both are left out.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
# The apex of a camera's frustum, then the corners of the image around it, for half sides and a
# distance of 1.
_FRUSTUM = np.array([[0, 0, 0], [-1, -1, 1], [1, -1, 1], [1, 1, 1], [-1, 1, 1]], dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Walk:
    """The posed images of one capture."""

    name: str  # of the capture
    color: str  # to draw it in
    names: tuple[str, ...]  # [N] of the images
    world_from_cam: tuple[Rigid3, ...]  # [N]
    aspect: FloatArray  # [N, 2] half width and half height of each image at distance 1
    in_order: bool  # whether the images follow each other in time

    @property
    def centres(self) -> FloatArray:
        """[N, 3]."""
        return np.stack([pose.translation for pose in self.world_from_cam])

    @property
    def directions(self) -> FloatArray:
        """[N, 3] that the cameras look along."""
        return np.stack([pose.rotation[:, 2] for pose in self.world_from_cam])

    def about(self, origin: FloatArray) -> Walk:
        """The same in a world that counts from ``origin`` [3]."""
        poses = tuple(pose.shifted(-origin) for pose in self.world_from_cam)
        return replace(self, world_from_cam=poses)


def walks_of(place: Place, captures: Sequence[str] = ()) -> list[Walk]:
    """The posed images of the captures, or of all; in the captures' order.

    Raises:
        PlaceError: there is no map or no such capture, or none of its images has a pose.
    """
    posed = place.map.images
    unknown = [name for name in captures if name not in place.captures]
    if unknown:
        raise PlaceError(
            f"{place.root} has no capture {unknown[0]!r}; it has {list(place.captures)}"
        )
    groups = {
        capture.name: (
            capture.image_names,
            all(i.time_s is not None or i.frame_index is not None for i in capture.images),
        )
        for capture in place.captures.values()
    }
    listed = {name for names, _ in groups.values() for name in names}
    groups["no capture"] = ([name for name in posed if name not in listed], False)
    walks = []
    for index, (name, (names, in_order)) in enumerate(groups.items()):
        present = [posed[image] for image in names if image in posed]
        if present and (not captures or name in captures):
            half = [
                np.array([image.camera.width, image.camera.height]) / (2 * image.camera.focal_px)
                for image in present
            ]
            walks.append(
                Walk(
                    name=name,
                    color=COLORS[index % len(COLORS)],
                    names=tuple(image.name for image in present),
                    world_from_cam=tuple(image.world_from_cam for image in present),
                    aspect=np.stack(half),
                    in_order=in_order,
                )
            )
    if not walks:
        raise PlaceError(f"{place.root}: none of the images of {list(captures)} has a pose")
    return walks


def frusta(world_from_cams: Sequence[Rigid3], half: FloatArray, depth: float) -> FloatArray:
    """[N, 5, 3] the apex of each camera's frustum, and the corners of its image, in the world.

    ``half`` [N, 2] is half width and half height of each image at distance 1; the frustum's image
    is at ``depth``, in the world's unit.
    """
    scales = depth * np.concatenate([half, np.ones((len(half), 1))], axis=1)
    in_cam = _FRUSTUM * scales[:, None]
    return np.stack([pose @ one for pose, one in zip(world_from_cams, in_cam, strict=True)])


def spaced(
    centres: FloatArray, directions: FloatArray, *, step: float, turn: float
) -> NDArray[np.int64]:
    """Rows of cameras [N, D] that are a step or a turn from the row before, in their order.

    Directions [N, D] are of length 1 or less.
    """
    rows = [0]
    for row in range(1, len(centres)):
        moved = np.linalg.norm(centres[row] - centres[rows[-1]])
        turned = np.linalg.norm(directions[row] - directions[rows[-1]])
        if moved >= step or turned >= turn:
            rows.append(row)
    return np.array(rows)


def gaps(centres: FloatArray) -> NDArray[np.bool_]:
    """[N - 1] whether a step from camera to camera [N, D] is none: over ten times the median."""
    steps = np.linalg.norm(np.diff(centres, axis=0), axis=1)
    moving = steps[steps > 0]
    return np.asarray(steps > 10 * (np.median(moving) if len(moving) else np.inf))


def nice_length(length: float) -> float:
    """The largest of 1, 2, 5 times a power of ten that is at most ``length`` (> 0)."""
    power = 10.0 ** np.floor(np.log10(length))
    return float(max(factor * power for factor in (1, 2, 5) if factor * power <= length * 1.0001))
