"""The plane that a place is looked at in: down against what is up, as far as that is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from relocalize.geometry.transforms import FloatArray

# Below this, of the first extent, a walk has no second one: a straight corridor.
_STRAIGHT = 0.01


@dataclass(frozen=True, eq=False)
class View:
    """The plane that a figure shows."""

    axes: FloatArray  # [3, 3] rows: to the right, upwards in the image, towards the eye
    labels: tuple[str, str]  # of the two axes of the image, without the unit
    words: str  # what is seen, for people

    def of(self, positions: FloatArray) -> FloatArray:
        """Positions or directions [N, 3] in the image: [N, 2]."""
        flat: FloatArray = positions @ self.axes[:2].T
        return flat


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
    words = "seen along the shortest extent (up direction unknown)"
    labels = ("along the longest extent", "across")
    return View(np.stack([x, np.cross(towards, x), towards]), labels, words)


def axes_across(up: FloatArray, centres: FloatArray) -> FloatArray:
    """Two axes [2, 3] across a unit vector ``up`` [3]; from above, the second is left of the first.

    The first is along the longest extent of a walk, and points the way that it goes.

    Args:
        up: in the world.
        centres: [N, 3] of the cameras, in order.
    """
    flat = centres - centres.mean(axis=0)
    flat = flat - np.outer(flat @ up, up)
    _, vectors = np.linalg.eigh(flat.T @ flat)
    x = vectors[:, 2] - (vectors[:, 2] @ up) * up
    if np.linalg.norm(x) < 1e-6:  # a walk straight up: any horizontal direction will do
        x = np.cross(up, np.eye(3)[int(np.abs(up).argmin())])
    x = x / np.linalg.norm(x)
    if x @ (centres[-1] - centres[0]) < 0:
        x = -x
    return np.stack([x, np.cross(up, x)])
