"""What is drawn: the cameras of each capture, and the plane that they are seen in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from relocalize.errors import PlaceError
from relocalize.geometry import Rigid3
from relocalize.geometry.transforms import FloatArray
from relocalize.place import Place

# Okabe and Ito, "Color Universal Design" (2008): told apart with every colour blindness. Black is
# for text and yellow is too light for lines on white, so both are left out.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
# Below this, of the first extent, a walk has no second one: a straight corridor.
_STRAIGHT = 0.01


@dataclass(frozen=True, eq=False)
class Walk:
    """The posed images of one capture.

    Attributes:
        name: of the capture.
        color: to draw it in.
        names: [N] of the images.
        world_from_cam: [N].
        aspect: [N, 2] half width and half height of each image at distance 1.
        in_order: whether the images follow each other in time.
    """

    name: str
    color: str
    names: tuple[str, ...]
    world_from_cam: tuple[Rigid3, ...]
    aspect: FloatArray
    in_order: bool

    @property
    def centres(self) -> FloatArray:
        """[N, 3]."""
        return np.stack([pose.translation for pose in self.world_from_cam])

    @property
    def directions(self) -> FloatArray:
        """[N, 3] that the cameras look along."""
        return np.stack([pose.rotation[:, 2] for pose in self.world_from_cam])


@dataclass(frozen=True, eq=False)
class View:
    """The plane that a figure shows.

    Attributes:
        axes: [3, 3] rows: to the right, upwards in the image, towards the eye.
        labels: of the two axes of the image, without the unit.
        words: what is seen, for people.
    """

    axes: FloatArray
    labels: tuple[str, str]
    words: str

    def of(self, positions: FloatArray) -> FloatArray:
        """Positions or directions [N, 3] in the image: [N, 2]."""
        flat: FloatArray = positions @ self.axes[:2].T
        return flat


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


def view_from_above(centres: FloatArray, rotations: FloatArray | None, *, up_is_z: bool) -> View:
    """The plane to look at: down against z where that is up, else the plane of most extent.

    Args:
        centres: [N, 3] of the cameras.
        rotations: [N, 3, 3] world_from_cam, which say which side of that plane is above, and what
            is above a straight walk; None where nobody knows.
        up_is_z: whether the world's z axis points up.
    """
    if up_is_z:
        return View(np.eye(3), ("x", "y"), "seen from above")
    off = centres - centres.mean(axis=0)
    _, extents, axes = np.linalg.svd(off, full_matrices=True)
    extents = np.append(extents, np.zeros(3))[:3]
    x, towards = axes[0], axes[2]
    camera_up = np.array([0.0, -1.0, 0.0])
    if rotations is not None:
        camera_up = -rotations[:, :, 1].mean(axis=0)
    if extents[1] < _STRAIGHT * max(extents[0], 1e-12):
        across = camera_up - (camera_up @ x) * x
        if np.linalg.norm(across) > 1e-6:
            towards = across / np.linalg.norm(across)
    if towards @ camera_up < 0:
        towards = -towards
    if x @ off[-1] < x @ off[0]:
        x = -x
    words = "seen along the direction of least extent (what is up is not known)"
    labels = ("along the longest extent", "across")
    return View(np.stack([x, np.cross(towards, x), towards]), labels, words)
