"""How near the nearest train view of each test view is: what a table of errors is worth.

A localizer that only remembers its train views is as good as this distance, so errors far below
it show that the place, not the frames, was learnt, and a test set without distance shows nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import rankdata

from relocalize.evaluation.metrics import PoseErrors, finite, median
from relocalize.geometry import Rigid3
from relocalize.geometry.transforms import FloatArray
from relocalize.place import Place
from relocalize.place.model import NO_POINT

_BINS = 6
_LEAST_DEPTH = 1e-9
_FEWEST_IN_BIN = 10  # the median of fewer says little


@dataclass(frozen=True, eq=False)
class NearestViews:
    """The nearest train view of each of N test views.

    Attributes:
        distance: [N] between the camera centres, in the poses' unit.
        angle_deg: [N] between the orientations.
        change_deg: [N] how far it moves the image: the angle, and the step as an angle.
    """

    distance: FloatArray
    angle_deg: FloatArray
    change_deg: FloatArray


@dataclass(frozen=True, eq=False)
class TimeGaps:
    """The train image nearest in time, of the same capture, of each of N test images.

    Attributes:
        seconds: [N]; NaN where the capture has no times or no train image.
        frames: [N] in frames of the source video, or in images where these have no numbers; NaN
            where the capture has no train image.
    """

    seconds: FloatArray
    frames: FloatArray


def nearest_views(
    train: Sequence[Rigid3], test: Sequence[Rigid3], *, scene_depth: float
) -> NearestViews:
    """Find each test view's nearest train view by how far it moves the image.

    A turn by an angle moves the image by that angle, a step of length d by about d / depth, so
    the nearest view is the one with the smallest sum of the two.

    Args:
        train: M >= 1 poses ``world_from_cam``.
        test: N poses.
        scene_depth: typical distance from cameras to what they see, in the poses' unit, > 0.
    """
    train_centres = np.stack([pose.translation for pose in train])
    train_rotations = np.stack([pose.rotation for pose in train])
    distances, angles, changes = [], [], []
    for pose in test:
        distance = np.linalg.norm(train_centres - pose.translation, axis=1)
        trace = np.einsum("nij,ij->n", train_rotations, pose.rotation)
        angle = np.arccos(np.clip((trace - 1) / 2, -1, 1))
        change = angle + distance / scene_depth
        nearest = int(np.argmin(change))
        distances.append(float(distance[nearest]))
        angles.append(float(np.degrees(angle[nearest])))
        changes.append(float(np.degrees(change[nearest])))
    return NearestViews(np.array(distances), np.array(angles), np.array(changes))


def time_gaps(place: Place, train: Sequence[str], test: Sequence[str]) -> TimeGaps:
    """How far each test image is from the nearest train image of its capture, in time."""
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
        for gaps, known in ((frames, at), (seconds, times)):
            of_train = np.sort([value for name, value in known.items() if name in trained])
            if len(of_train):
                gaps |= {name: _nearest(of_train, value) for name, value in known.items()}
    return TimeGaps(
        seconds=np.array([seconds.get(name, np.nan) for name in test]),
        frames=np.array([frames.get(name, np.nan) for name in test]),
    )


def _nearest(sorted_values: FloatArray, value: float) -> float:
    row = int(np.searchsorted(sorted_values, value))
    beside = sorted_values[max(0, row - 1) : row + 1]
    return float(np.abs(beside - value).min())


def scene_depth(place: Place, train: Sequence[str]) -> float:
    """Typical distance from train cameras to the points they see, in the Place's unit, > 0.

    Of a map without points: how far its cameras are spread.
    """
    model = place.map
    images = [model.images[name] for name in train if name in model.images]
    depths = []
    for image in images:
        rows = image.point_rows[image.point_rows != NO_POINT]
        if len(rows):
            points = model.points.positions[rows]
            away = np.linalg.norm(points - image.world_from_cam.translation, axis=1)
            depths.append(float(np.median(away)))
    if depths:
        return float(np.median(depths))
    centres = np.stack([image.world_from_cam.translation for image in images])
    return max(float(np.linalg.norm(np.ptp(centres, axis=0))), _LEAST_DEPTH)


def leakage_to_json(
    views: NearestViews, gaps: TimeGaps, errors: Mapping[str, PoseErrors]
) -> dict[str, Any]:
    """Errors as a function of how near the nearest train view is, as strict JSON values.

    By ``distance``, ``angle_deg``, ``view_change_deg``, ``seconds`` and ``frames``: None where
    that is not known of every image, else ``bins`` of equally many images (``from``, ``to``,
    ``n``, and by localizer ``failed`` and medians with failures as infinite) and by localizer the
    ``rank_correlation`` of the position error with the distance (Spearman's), None where either
    is the same everywhere.
    """
    measures = {
        "distance": views.distance,
        "angle_deg": views.angle_deg,
        "view_change_deg": views.change_deg,
        "seconds": gaps.seconds,
        "frames": gaps.frames,
    }
    return {
        name: _by_measure(values, errors) if np.isfinite(values).all() else None
        for name, values in measures.items()
    }


def _by_measure(values: FloatArray, errors: Mapping[str, PoseErrors]) -> dict[str, Any]:
    order = np.argsort(values, kind="stable")
    count = max(1, min(_BINS, len(values) // _FEWEST_IN_BIN))
    return {
        "bins": [
            {
                "from": float(values[rows[0]]),
                "to": float(values[rows[-1]]),
                "n": len(rows),
                "localizers": {
                    name: {
                        "failed": int(one.failed[rows].sum()),
                        "median_position": finite(median(one.position[rows])),
                        "median_rotation_deg": finite(median(one.rotation_deg[rows])),
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
    ranks = np.stack([rankdata(a), rankdata(b)])
    if not np.ptp(ranks, axis=1).all():
        return None
    a, b = ranks - ranks.mean(axis=1, keepdims=True)
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))
