"""Adding images to a map that does not move: 2D-3D matches, PnP, observations.

The image is matched with a few map images; what these see of the map's points gives 2D-3D
matches; PnP in LO-RANSAC (poselib) gives the pose. Points and poses that were there stay as they
are, to the bit; points gain observations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import poselib
import pycolmap
from numpy.typing import NDArray

from relocalize import progress
from relocalize.features.database import FeatureDatabase
from relocalize.features.matching import (
    MatchSettings,
    UnitDescriptors,
    match_descriptors,
    unit_descriptors,
)
from relocalize.features.sift import Features
from relocalize.geometry import Camera, Rigid3
from relocalize.geometry.transforms import FloatArray
from relocalize.parallel import map_in_order


@dataclass(frozen=True)
class RegisterSettings:
    """When an image counts as registered.

    Attributes:
        neighbours: map images that each image is matched with, first attempt.
        more_neighbours: and by appearance, when the first attempt fails.
        max_error: pixels at 640 pixels of image size, of an inlier; scaled with larger images.
        min_inliers: 2D-3D matches that must agree. Chance agreements of 4-point samples reach 8.
        min_inlier_ratio: share of the 2D-3D matches that must agree.
    """

    neighbours: int = 4
    more_neighbours: int = 10
    max_error: float = 3.0
    min_inliers: int = 15
    min_inlier_ratio: float = 0.15

    def max_error_px(self, camera: Camera) -> float:
        """Inlier bound for this camera's image size."""
        return self.max_error * max(1.0, max(camera.width, camera.height) / 640)


@dataclass(frozen=True, eq=False)
class Registration:
    """What came of one image.

    Attributes:
        name: the image.
        cam_from_world: None when it failed.
        keypoints: [K, 2] all its features.
        rows: [I] features that see a point.
        points: [I] ids of these points.
        reason: why it failed.
    """

    name: str
    cam_from_world: Rigid3 | None
    keypoints: NDArray[np.float32]
    rows: NDArray[np.int64]
    points: NDArray[np.int64]
    reason: str | None = None


@dataclass(frozen=True, eq=False)
class _Landmarks:
    """What a map image sees: descriptors of its features that have a point."""

    descriptors: UnitDescriptors
    points: NDArray[np.int64]


class Registrar:
    """Registers images one by one against a fixed model."""

    def __init__(
        self,
        model: pycolmap.Reconstruction,
        database: FeatureDatabase,
        settings: RegisterSettings,
        matching: MatchSettings,
    ) -> None:
        self.model = model
        self._database = database
        self._settings = settings
        self._matching = matching
        self._landmarks: dict[str, _Landmarks] = {}
        self._by_name = {i.name: i for i in model.images.values() if i.has_pose}
        self._positions = {key: point.xyz for key, point in model.points3D.items()}

    def _of_image(self, name: str) -> _Landmarks:
        if name not in self._landmarks:
            seen = [
                (row, point.point3D_id)
                for row, point in enumerate(self._by_name[name].points2D)
                if point.has_point3D()
            ]
            rows = np.array([row for row, _ in seen], dtype=np.int64)
            features = self._database.features(name)
            self._landmarks[name] = _Landmarks(
                unit_descriptors(features.descriptors[rows]),
                np.array([point for _, point in seen], dtype=np.int64),
            )
        return self._landmarks[name]

    def register(
        self,
        queries: Sequence[tuple[str, Camera, Sequence[str]]],
        *,
        more: Callable[[str], Sequence[str]],
        known: dict[str, Rigid3] | None = None,
        what: str = "registering frames",
    ) -> list[Registration]:
        """Poses of images against the model; the model itself is not changed.

        Args:
            queries: (name, camera, map images to match with).
            more: further map images to try for an image that failed.
            known: ``cam_from_world`` of images whose pose is given; only observations are sought.
            what: for the progress bar.
        """
        known = known or {}
        results = []

        def inputs() -> Iterator[_Query]:
            for name, camera, neighbours in queries:
                landmarks = [self._of_image(other) for other in neighbours]
                yield _Query(
                    name, camera, self._database.features(name), landmarks, known.get(name)
                )

        with progress.bar(what, len(queries)) as bar:
            for query, result in map_in_order(lambda q: (q, self._solve(q)), inputs()):
                if result.cam_from_world is None:
                    landmarks = [self._of_image(other) for other in more(query.name)]
                    wider = _Query(
                        query.name, query.camera, query.features, landmarks, query.cam_from_world
                    )
                    results.append(self._solve(wider))
                else:
                    results.append(result)
                bar.advance()
        return results

    def _solve(self, query: _Query) -> Registration:
        unit = unit_descriptors(query.features.descriptors)
        rows, points = _best_of(
            [
                (match_descriptors(unit, view.descriptors, self._matching), view.points)
                for view in query.landmarks
            ]
        )

        def failed(reason: str) -> Registration:
            none = np.empty(0, dtype=np.int64)
            return Registration(query.name, None, query.features.keypoints, none, none, reason)

        settings = self._settings
        if len(rows) < settings.min_inliers:
            few = "hardly any texture" if len(query.features) < 100 else "no overlap with the map"
            return failed(f"{len(rows)} matches with the map ({few})")
        pixels = query.features.keypoints[rows].astype(np.float64)
        world = np.stack([self._positions[int(point)] for point in points])
        max_error = settings.max_error_px(query.camera)
        if query.cam_from_world is not None:
            pose = query.cam_from_world
            projected = query.camera.img_from_cam(pose @ world)
            errors = np.linalg.norm(projected - pixels, axis=1)
            inliers = np.nan_to_num(errors, nan=np.inf) < max_error
        else:
            pose, inliers = _pnp(pixels, world, query.camera, max_error)
        count = int(inliers.sum())
        if count < max(settings.min_inliers, settings.min_inlier_ratio * len(rows)):
            return failed(f"{count} of {len(rows)} matches with the map agree on a pose")
        return Registration(
            query.name, pose, query.features.keypoints, rows[inliers], points[inliers]
        )


@dataclass(frozen=True, eq=False)
class _Query:
    name: str
    camera: Camera
    features: Features
    landmarks: list[_Landmarks]
    cam_from_world: Rigid3 | None


def _best_of(
    views: list[tuple[NDArray[np.uint32], NDArray[np.int64]]],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Feature rows and point ids [M] that the most views agree on: one point for each feature."""
    if not views:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    pairs = np.concatenate([np.stack([m[:, 0], ids[m[:, 1]]], axis=1) for m, ids in views])
    unique, votes = np.unique(pairs.astype(np.int64), axis=0, return_counts=True)
    order = np.argsort(-votes, kind="stable")
    unique = unique[order]
    _, first = np.unique(unique[:, 0], return_index=True)
    unique = unique[np.sort(first)]
    _, first = np.unique(unique[:, 1], return_index=True)
    unique = unique[np.sort(first)]
    return unique[:, 0], unique[:, 1]


def _pnp(
    pixels: FloatArray, world: FloatArray, camera: Camera, max_error: float
) -> tuple[Rigid3, NDArray[np.bool_]]:
    """``cam_from_world`` and inliers [M]."""
    pose, info = poselib.estimate_absolute_pose(
        pixels,
        world,
        {
            "model": camera.model,
            "width": camera.width,
            "height": camera.height,
            "params": list(camera.params),
        },
        {"max_reproj_error": max_error, "min_iterations": 100, "max_iterations": 10_000},
        {"loss_type": "CAUCHY", "loss_scale": max_error / 3},
    )
    inliers = np.asarray(info["inliers"], dtype=bool)
    return Rigid3.from_quat_wxyz(pose.q, pose.t), inliers


def add_to_model(
    model: pycolmap.Reconstruction,
    registrations: Sequence[Registration],
    image_ids: dict[str, int],
    camera_ids: dict[str, int],
) -> None:
    """Add registered images with their observations; points and other poses stay as they are."""
    for registration in registrations:
        pose = registration.cam_from_world
        if pose is None:
            continue
        image_id = image_ids[registration.name]
        if model.exists_image(image_id):
            continue
        model.add_image_with_trivial_frame(
            pycolmap.Image(
                name=registration.name,
                keypoints=registration.keypoints.astype(np.float64),
                camera_id=camera_ids[registration.name],
                image_id=image_id,
            ),
            pose.to_colmap(),
        )
        for row, point in zip(registration.rows, registration.points, strict=True):
            model.add_observation(int(point), pycolmap.TrackElement(image_id, int(row)))
