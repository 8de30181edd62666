"""How near the nearest train view of each test view is: what a table of errors is worth.

A localizer that only remembers its train views is as good as this distance, so errors far below
it show that the place, not the frames, was learnt, and a test set without distance shows nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from relocalize.geometry import Rigid3
from relocalize.geometry.transforms import FloatArray


@dataclass(frozen=True, eq=False)
class NearestViews:
    """The nearest train view of each of N test views.

    Attributes:
        distance: [N] between the camera centres, in the poses' unit.
        angle_deg: [N] between the orientations.
    """

    distance: FloatArray
    angle_deg: FloatArray


def nearest_views(
    train: Sequence[Rigid3], test: Sequence[Rigid3], *, scene_depth: float
) -> NearestViews:
    """Find each test view's nearest train view by how far it moves the picture.

    A turn by an angle moves the picture by that angle, a step of length d by about d / depth, so
    the nearest view is the one with the smallest sum of the two.

    Args:
        train: M >= 1 poses ``world_from_cam``.
        test: N poses.
        scene_depth: typical distance from cameras to what they see, in the poses' unit, > 0.
    """
    train_centres = np.stack([pose.translation for pose in train])
    train_rotations = np.stack([pose.rotation for pose in train])
    distances, angles = [], []
    for pose in test:
        distance = np.linalg.norm(train_centres - pose.translation, axis=1)
        trace = np.einsum("nij,ij->n", train_rotations, pose.rotation)
        angle = np.arccos(np.clip((trace - 1) / 2, -1, 1))
        nearest = int(np.argmin(angle + distance / scene_depth))
        distances.append(float(distance[nearest]))
        angles.append(float(np.degrees(angle[nearest])))
    return NearestViews(np.array(distances), np.array(angles))
