"""How near the nearest train view of each test view is: what a table of errors is worth.

A localizer that only remembers its train views is as good as this distance, so errors far below
it show that the place, not the frames, was learnt, and a test set without distance shows nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from relocalize.evaluation.metrics import PoseErrors
from relocalize.geometry import Rigid3, Similarity3
from relocalize.geometry.transforms import FloatArray
from relocalize.place import Place

_BINS = 6
_LEAST_DEPTH = 1e-9
_FEWEST_IN_BIN = 10  # the median of fewer says little


@dataclass(frozen=True, eq=False)
class Nearness:
    """The nearest train image of each of N test images, in view and in time."""

    distance: FloatArray  # [N] between the camera centres of the nearest views, in the poses' unit
    angle_deg: FloatArray  # [N] between their orientations
    # [N] how far it moves the image: the angle, and the step as an angle
    view_change_deg: FloatArray
    # [N] to the nearest in time, of the same capture; NaN where the capture has no times or no
    # train image
    seconds: FloatArray
    # [N] likewise, in frames of the source video, or in images where these have no numbers; NaN
    # where the capture has no train image
    frames: FloatArray

    @classmethod
    def of(
        cls,
        place: Place,
        train: Sequence[str],
        test: Mapping[str, Rigid3],
        frame_from_place: Similarity3 = Similarity3.identity(),
    ) -> Nearness:
        """How near named train images of the map are to test poses ``world_from_cam`` by name.

        ``frame_from_place`` moves the Place's frame onto that of the test poses.
        """
        posed = place.map.images
        poses = [
            frame_from_place.move_camera(posed[name].world_from_cam)
            for name in train
            if name in posed
        ]
        depth = frame_from_place.scale * scene_depth(place, train)
        distance, angle, change = nearest_views(poses, list(test.values()), scene_depth=depth).T
        seconds, frames = _time_gaps(place, train, list(test))
        return cls(distance, angle, change, seconds, frames)

    def medians(self) -> dict[str, float | None]:
        """Of each measure over the images of which it is known, as result files name them."""
        known = {name: values[np.isfinite(values)] for name, values in vars(self).items()}
        return {
            f"median_{name}": float(np.median(values)) if len(values) else None
            for name, values in known.items()
        }


def nearest_views(
    train: Sequence[Rigid3], test: Sequence[Rigid3], *, scene_depth: float
) -> FloatArray:
    """Find each test view's nearest train view by how far it moves the image.

    A turn by an angle moves the image by that angle, a step of length d by about d / depth, so
    the nearest view is the one with the smallest sum of the two.

    Args:
        train: M >= 1 poses ``world_from_cam``.
        test: N poses.
        scene_depth: typical distance from cameras to what they see, in the poses' unit, > 0.

    Returns:
        [N, 3] its distance, the angle to it in degrees, and how far it moves the image in degrees.
    """
    train_centres = np.stack([pose.translation for pose in train])
    train_rotations = np.stack([pose.rotation for pose in train])
    found = []
    for pose in test:
        distance = np.linalg.norm(train_centres - pose.translation, axis=1)
        trace = np.einsum("nij,ij->n", train_rotations, pose.rotation)
        angle = np.arccos(np.clip((trace - 1) / 2, -1, 1))
        change = angle + distance / scene_depth
        row = int(np.argmin(change))
        found.append((distance[row], *np.degrees([angle[row], change[row]])))
    return np.reshape(found, (-1, 3))


def _time_gaps(
    place: Place, train: Sequence[str], test: Sequence[str]
) -> tuple[FloatArray, FloatArray]:
    """Seconds [N] and frames [N] from test images to the nearest train images of their captures."""
    trained = set(train)
    seconds: dict[str, float] = {}
    frames: dict[str, float] = {}
    for capture in place.captures.values():
        numbered = all(image.frame_index is not None for image in capture.images)
        at = {
            image.name: float(image.frame_index or 0) if numbered else float(row)
            for row, image in enumerate(capture.images)
        }
        times = {one.name: one.time_s for one in capture.images if one.time_s is not None}
        for gaps, known in ((seconds, times), (frames, at)):
            of_train = np.array([value for name, value in known.items() if name in trained])
            if len(of_train):
                gaps |= {name: float(np.abs(of_train - t).min()) for name, t in known.items()}
    return (
        np.array([seconds.get(name, np.nan) for name in test]),
        np.array([frames.get(name, np.nan) for name in test]),
    )


def scene_depth(place: Place, train: Sequence[str]) -> float:
    """Typical distance from train cameras to the points they see, in the Place's unit, > 0.

    Of a map without points: how far its cameras are spread.
    """
    model = place.map
    images = [model.images[name] for name in train if name in model.images]
    depths = []
    for image in images:
        points = model.points.positions[image.observed]
        if len(points):
            away = np.linalg.norm(points - image.world_from_cam.translation, axis=1)
            depths.append(float(np.median(away)))
    if depths:
        return float(np.median(depths))
    centres = np.stack([image.world_from_cam.translation for image in images])
    return max(float(np.linalg.norm(np.ptp(centres, axis=0))), _LEAST_DEPTH)


def errors_by_nearness(nearness: Nearness, errors: Mapping[str, PoseErrors]) -> dict[str, Any]:
    """Errors as a function of how near the nearest train image is, as result files have them.

    By each measure of `Nearness`: None where it is not known of every image, else ``bins`` of
    equally many images (``from``, ``to``, ``n``, and by localizer ``failed`` and medians with
    failures as infinite) and by localizer the ``rank_correlation`` of the position error with the
    measure (Spearman's), None where either is the same everywhere.
    """
    return {
        name: _by_measure(values, errors) if np.isfinite(values).all() else None
        for name, values in vars(nearness).items()
    }


def _by_measure(values: FloatArray, errors: Mapping[str, PoseErrors]) -> dict[str, Any]:
    order = np.argsort(values, kind="stable")
    count = max(1, min(_BINS, len(values) // _FEWEST_IN_BIN))
    return {
        "bins": [
            {
                "from": values[rows[0]],
                "to": values[rows[-1]],
                "n": len(rows),
                "localizers": {
                    name: {
                        "failed": one.failed[rows].sum(),
                        "median_position": np.median(one.position[rows]),
                        "median_rotation_deg": np.median(one.rotation_deg[rows]),
                    }
                    for name, one in errors.items()
                },
            }
            for rows in np.array_split(order, count)
        ],
        "rank_correlation": {
            name: _rank_correlation(values, one.position) for name, one in errors.items()
        },
    }


def _rank_correlation(a: FloatArray, b: FloatArray) -> float | None:
    if len(np.unique(a)) < 2 or len(np.unique(b)) < 2:
        return None
    return float(spearmanr(a, b).statistic)
