"""What the images themselves say: relative poses of pairs, from matches and intrinsics alone.

Essential matrices by LO-RANSAC over the five-point solver (poselib; Nistér, "An efficient solution
to the five-point relative pose problem", PAMI 2004).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import poselib
from numpy.typing import NDArray

from relocalize import progress
from relocalize.checking.claims import Claims
from relocalize.checking.correction import Correction
from relocalize.features.extraction import (
    KINDS,
    Features,
    FeatureSettings,
    extract_features,
    unit_descriptors,
)
from relocalize.features.focal import voted_focal
from relocalize.features.matching import MatchSettings, mutual_matches, verify
from relocalize.geometry import Camera, Rigid3
from relocalize.geometry.transforms import FloatArray
from relocalize.parallel import map_in_order

Pair = tuple[int, int]

# Enough to measure a relative pose to a fraction of a degree, in a third of a map's time.
FEATURES = FeatureSettings(max_features=1024, max_image_size=960)
# Repeated structure (stairs, tiles) agrees on a false relative pose by up to 22 matches.
MATCHING = MatchSettings(min_verified=25)
# Of the longer image side; 2 pixels at VGA. Also how far a match may be from its epipolar line.
MAX_EPIPOLAR_SHARE = 2 / 640
# Below this median angle between matched rays (after the rotation) a direction is noise.
MIN_PARALLAX_DEG = 1.0
_THUMBNAIL = 32


@dataclass(frozen=True, eq=False)
class View:
    """One image: its claimed camera, and its features."""

    name: str  # its name
    camera: Camera  # claimed, or with a focal length from the matches
    features: Features  # keypoints [K, 2] in pixels of the image, and descriptors
    thumbnail: FloatArray  # [32, 32] grey, zero mean and unit norm; zeros when blank
    correction: Correction | None = None  # of the camera's intrinsics; None takes them as they are

    def rays(self, rows: NDArray[np.integer]) -> FloatArray:
        """Undistorted image-plane points [M, 2] of some features."""
        pixels = self.features.keypoints[rows].astype(np.float64)
        if self.correction is not None:
            return self.correction.rays(self.camera, pixels)
        return self.camera.cam_from_img(pixels)

    @property
    def max_error(self) -> float:
        """Bound on the epipolar error, on the image plane (at depth 1)."""
        side = max(self.camera.width, self.camera.height)
        ratio = 1.0 if self.correction is None else self.correction.focal_ratio
        return MAX_EPIPOLAR_SHARE * side / (ratio * self.camera.focal_px)


@dataclass(frozen=True, eq=False)
class MeasuredPair:
    """Two images of the same thing."""

    pair: Pair  # rows of the two views
    matches: NDArray[np.uint32]  # [M, 2] feature rows in the first and the second view
    rays: FloatArray  # [M, 2, 2] matched image-plane points, of the first and the second view
    second_from_first: Rigid3  # relative pose with a translation of length 1
    parallax_deg: float  # median angle between the matched rays once the rotation is undone
    max_error: float  # bound on the epipolar error at depth 1

    @property
    def is_moving(self) -> bool:
        """Whether its parallax is enough for a direction of the translation."""
        return self.parallax_deg >= MIN_PARALLAX_DEG


def read_views(claims: Claims) -> list[View]:
    """The views of all images, in order."""

    def view(name: str) -> View:
        grey = cv2.cvtColor(claims.read(name), cv2.COLOR_RGB2GRAY)
        height, width = grey.shape
        features = extract_features(np.asarray(grey, dtype=np.uint8), FEATURES)
        small = cv2.resize(grey, (_THUMBNAIL, _THUMBNAIL), interpolation=cv2.INTER_AREA)
        centred = small.astype(np.float64) - small.mean()
        norm = float(np.linalg.norm(centred))
        return View(
            name,
            claims.camera_of(name, width, height),
            features,
            centred / norm if norm > 1 else np.zeros_like(centred),
        )

    names = claims.names
    return list(progress.track(map_in_order(view, names), "features", total=len(names)))


def with_focal_lengths(views: list[View], pairs: Iterable[Pair]) -> list[View]:
    """The views with a focal length from the matches where theirs is a mere default."""
    unknown = {v.camera for v in views if v.camera.known == "unknown"}
    if not unknown:
        return views
    fundamentals: dict[Camera, list[FloatArray]] = {camera: [] for camera in unknown}
    for i, j in pairs:
        camera = views[i].camera
        if camera != views[j].camera or camera not in unknown:
            continue
        two = verify(_matches(views[i], views[j]), views[i].features, views[j].features, MATCHING)
        if two is not None:
            fundamentals[camera].append(two.F)
    voted = {camera: voted_focal(camera, np.array(Fs)) for camera, Fs in fundamentals.items()}
    return [replace(view, camera=voted.get(view.camera, view.camera)) for view in views]


def measure_pairs(views: Sequence[View], pairs: Collection[Pair]) -> list[MeasuredPair]:
    """The pairs that enough matches agree on a relative pose of, in order."""
    measured = map_in_order(lambda pair: measure_pair(views, pair), pairs)
    tracked = progress.track(measured, "relative poses", total=len(pairs), unit="pairs")
    return [pair for pair in tracked if pair is not None]


def measure_pair(views: Sequence[View], pair: Pair) -> MeasuredPair | None:
    """The relative pose of two views, or None where too few matches agree on one."""
    first, second = views[pair[0]], views[pair[1]]
    matches = _matches(first, second)
    if len(matches) < MATCHING.min_verified:
        return None
    rays = np.stack([first.rays(matches[:, 0]), second.rays(matches[:, 1])], axis=1)
    finite = np.all(np.isfinite(rays), axis=(1, 2))
    matches, rays = matches[finite], rays[finite]
    max_error = max(first.max_error, second.max_error)
    plane = {"model": "SIMPLE_PINHOLE", "width": 2, "height": 2, "params": [1.0, 0.0, 0.0]}
    pose, info = poselib.estimate_relative_pose(
        np.ascontiguousarray(rays[:, 0]),
        np.ascontiguousarray(rays[:, 1]),
        plane,
        plane,
        {"max_epipolar_error": max_error, "min_iterations": 50, "max_iterations": 1000},
        {},
    )
    inliers = np.asarray(info["inliers"], dtype=bool)
    norm = float(np.linalg.norm(pose.t))
    if inliers.sum() < MATCHING.min_verified or not np.isfinite(norm) or norm < 1e-9:
        return None
    second_from_first = Rigid3.from_quat_wxyz(pose.q, pose.t / norm)
    kept = rays[inliers]
    return MeasuredPair(
        pair,
        matches[inliers],
        kept,
        second_from_first,
        _parallax_deg(kept, second_from_first),
        max_error,
    )


def _matches(first: View, second: View) -> NDArray[np.uint32]:
    kind = KINDS[FEATURES.kind]
    return mutual_matches(
        unit_descriptors(first.features.descriptors),
        unit_descriptors(second.features.descriptors),
        kind.max_ratio,
        max_angle=kind.max_angle,
    ).astype(np.uint32)


def _parallax_deg(rays: FloatArray, second_from_first: Rigid3) -> float:
    first = directions(rays[:, 0]) @ second_from_first.rotation.T
    cosines = np.einsum("mi,mi->m", first, directions(rays[:, 1]))
    return float(np.median(np.degrees(np.arccos(np.clip(cosines, -1, 1)))))


def evenly(count: int, most: int) -> list[int]:
    """At most ``most`` of ``count`` rows, evenly."""
    rows = np.linspace(0, count - 1, min(most, count)).round().astype(int)
    return [int(row) for row in np.unique(rows)]


def directions(plane_points: FloatArray) -> FloatArray:
    """Unit rays [M, 3] through image-plane points [M, 2]."""
    rays = np.concatenate([plane_points, np.ones((len(plane_points), 1))], axis=1)
    unit: FloatArray = rays / np.linalg.norm(rays, axis=1, keepdims=True)
    return unit
