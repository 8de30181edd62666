"""`simulate_walk`: a Place of a long walk whose features are drawn and not rendered, in seconds.

Corridors are lines with points on their walls, floor and ceiling. A point has a descriptor for
each way along its corridor, since from the other side it looks different, and is found from a
range of distances, as by a detector of scales. Images are plain grey: only features are seen.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pycolmap
from numpy.typing import NDArray

from relocalize.features.database import open_database
from relocalize.features.extraction import KINDS, settings_for
from relocalize.geometry import Camera, Rigid3
from relocalize.geometry.transforms import FloatArray
from relocalize.place import Capture, CapturedImage, Place

_NEAREST = 0.3  # of the distance from which a point is found at the furthest
_REACH_M = (1.0, 14.0)
_LEAST_COSINE = 0.17  # between the ray to a point and its wall's normal
_ROUND_CORNER_M = 3.0  # how far into the next corridor one sees
_TURN_M = 2.4  # before and after a corner over which the camera turns
_TURN_STEP = 0.4  # of the step between frames, in turns
_DESCRIPTOR_NOISE = 0.25  # length of what is added to a unit descriptor


@dataclass(frozen=True)
class SimulatedWalk:
    """A walk along corridors.

    Attributes:
        route: [V, 2] corners in metres that the walk passes, the first again for a ring; a walk
            there and back has them back again.
        seed: of every random choice.
        step: metres between frames.
        camera: of the video, what is known of it left aside.
        known: what the Place is told of the camera.
        width: of corridors, metres.
        height: of corridors, metres.
        density: points for each metre of a corridor.
        noise: of a feature, pixels.
        found: share of the points in reach that an image finds.
        plain: metres (from, to) along the walk with a tenth of the points.
        alike: corridors (pairs of indices of corners) that show what the first of them shows.
        aside: metres right of the middle that the walker keeps.
    """

    route: tuple[tuple[float, float], ...]
    seed: int = 0
    step: float = 0.42
    camera: Camera = field(
        default_factory=lambda: Camera("SIMPLE_PINHOLE", 960, 540, (720.0, 480.0, 270.0))
    )
    known: Camera | None = None
    width: float = 2.4
    height: float = 2.7
    density: float = 1000.0
    noise: float = 0.5
    found: float = 0.8
    plain: tuple[tuple[float, float], ...] = ()
    alike: tuple[tuple[int, ...], ...] = ()
    aside: float = 0.4


def simulate_walk(folder: Path, settings: SimulatedWalk) -> tuple[Place, dict[str, Rigid3]]:
    """A new Place with a video capture ``walk`` and its features; true world_from_cam by name."""
    rng = np.random.default_rng(settings.seed)
    poses = _poses(settings, rng)
    scene = _Scene(settings, rng)
    names = [f"walk/frame-{number:06d}.jpg" for number in range(len(poses))]
    place = Place.create(folder)
    (place.images_dir / "walk").mkdir(parents=True)
    size = (settings.camera.height, settings.camera.width)
    grey = cv2.imencode(".jpg", np.full(size, 128, np.uint8))[1].tobytes()
    for name in names:
        place.image_path(name).write_bytes(grey)
    known = settings.known or Camera.from_focal(settings.camera.width, settings.camera.height)
    images = tuple(CapturedImage(name, time_s=float(i)) for i, name in enumerate(names))
    place.write_capture(Capture("walk", "video", "simulated", (known,), images))
    place.map_dir.mkdir(parents=True, exist_ok=True)
    with open_database(place, settings_for("sift")) as database:
        database.add_images([(name, known) for name in names])
        ids, path = dict(database.image_ids), database.path
    stored = pycolmap.Database.open(str(path))
    with pycolmap.DatabaseTransaction(stored):
        for name, (pose, along) in zip(names, poses, strict=True):
            pixels, descriptors = scene.seen_from(pose, along, rng)
            stored.write_keypoints(ids[name], pixels.astype(np.float32))
            kind = pycolmap.FeatureExtractorType.SIFT
            stored.write_descriptors(ids[name], pycolmap.FeatureDescriptors(kind, descriptors))
    stored.close()
    return place, {name: pose for name, (pose, _) in zip(names, poses, strict=True)}


def _poses(
    settings: SimulatedWalk, rng: np.random.Generator
) -> list[tuple[Rigid3, tuple[int, float]]]:
    """world_from_cam of every frame, with the corridor it is in and the metres from its start."""
    corners = np.array(settings.route, float)
    legs = np.diff(corners, axis=0)
    lengths = np.linalg.norm(legs, axis=1)
    ends = np.cumsum(lengths)
    headings = np.unwrap(np.arctan2(legs[:, 1], legs[:, 0]))
    phases = rng.uniform(0, 2 * np.pi, 4)
    poses = []
    way = 0.0
    while way < ends[-1]:
        turning = len(ends) > 1 and np.abs(way - ends[:-1]).min() < _TURN_M
        way += settings.step * (_TURN_STEP if turning else 1.0)
        if way >= ends[-1]:
            break
        leg = int(np.searchsorted(ends, way, side="right"))
        along = way - (ends[leg] - lengths[leg])
        # The camera turns about each corner, evenly.
        before = np.array([0.0, *ends[:-1]])[1:]
        turned = np.clip((way - before + _TURN_M) / (2 * _TURN_M), 0, 1)
        heading = headings[0] + float((turned * np.diff(headings)).sum())
        right = np.array([np.sin(heading), -np.cos(heading)])
        sway = settings.aside + 0.08 * np.sin(1.7 * way + phases[0])
        place = corners[leg] + along * legs[leg] / lengths[leg] + sway * right
        yaw = heading + np.radians(12) * np.sin(0.45 * way + phases[1])
        pitch = np.radians(4) * np.sin(0.8 * way + phases[2]) + np.radians(3)
        forward = np.array(
            [np.cos(yaw) * np.cos(pitch), np.sin(yaw) * np.cos(pitch), -np.sin(pitch)]
        )
        x = np.array([np.sin(yaw), -np.cos(yaw), 0.0])
        rotation = np.stack([x, np.cross(forward, x), forward], axis=1)
        height = 1.5 + 0.04 * np.sin(2.9 * way + phases[3])
        poses.append((Rigid3(rotation, np.array([*place, height])), (leg, float(along))))
    return poses


class _Scene:
    """Points of all corridors, each with a descriptor for either way along."""

    def __init__(self, settings: SimulatedWalk, rng: np.random.Generator) -> None:
        self._settings = settings
        legs = list(pairwise(settings.route))
        self._corridors: list[tuple[tuple[float, float], tuple[float, float]]] = []
        self._of_leg: list[tuple[int, bool]] = []  # corridor, and whether it is walked backwards
        for start, end in legs:
            if (end, start) in self._corridors:
                self._of_leg.append((self._corridors.index((end, start)), True))
                continue
            if (start, end) not in self._corridors:
                self._corridors.append((start, end))
            self._of_leg.append((self._corridors.index((start, end)), False))
        model_of = {c: group[0] for group in settings.alike for c in group}
        self._points = [
            self._corridor(number, model_of.get(number, number))
            for number in range(len(self._corridors))
        ]

    def _corridor(self, number: int, model: int) -> dict[str, NDArray[np.float64]]:
        settings = self._settings
        start, end = (np.array(corner) for corner in self._corridors[number])
        length = float(np.linalg.norm(end - start))
        # What a corridor shows depends on its model alone, so that some can look alike.
        rng = np.random.default_rng([settings.seed, 1, model])
        count = int(settings.density * length)
        along = rng.uniform(0, length, count)
        wide, high = settings.width / 2, settings.height
        across, up = rng.uniform(-wide, wide, count), rng.uniform(0, high, count)
        # Left, right, floor, ceiling, and the two ends.
        face = rng.choice(4, count, p=[0.35, 0.35, 0.15, 0.15])
        ends = min(count, 2 * int(settings.density * high))
        face[:ends] = np.arange(ends) % 2 + 4
        across[face == 0], across[face == 1] = wide, -wide
        up[face == 2], up[face == 3] = 0.0, high
        along[face < 4] = along[face < 4] * (1 + 2 * wide / length) - wide
        along[face == 4], along[face == 5] = -wide, length + wide
        # The finer, the more.
        reach = 1 / rng.uniform(1 / _REACH_M[1], 1 / _REACH_M[0], count)
        descriptors = np.abs(rng.normal(size=(2, count, 128)).astype(np.float32))
        descriptors /= np.linalg.norm(descriptors, axis=2, keepdims=True)
        keep = np.ones(count, bool)
        for low, high_ in settings.plain:
            offset = self._way_to(number)
            inside = (along + offset > low) & (along + offset < high_)
            keep &= ~inside | (rng.uniform(size=count) < 0.1)
        forth = (end - start) / length
        left = np.array([-forth[1], forth[0]])
        ground = start + along[:, None] * forth + across[:, None] * left
        normal = np.zeros((count, 3))
        normal[face == 0, :2], normal[face == 1, :2] = -left, left
        normal[face == 2, 2], normal[face == 3, 2] = 1, -1
        normal[face == 4, :2], normal[face == 5, :2] = forth, -forth
        return {
            "positions": np.column_stack([ground, up])[keep],
            "normals": normal[keep],
            "reach": reach[keep],
            "along": along[keep],
            "forth": descriptors[0][keep],
            "back": descriptors[1][keep],
        }

    def _way_to(self, corridor: int) -> float:
        """Metres along the walk to where it first enters a corridor."""
        corners = np.array(self._settings.route, float)
        lengths = np.linalg.norm(np.diff(corners, axis=0), axis=1)
        first = next(leg for leg, (c, _) in enumerate(self._of_leg) if c == corridor)
        return float(lengths[:first].sum())

    def seen_from(
        self, pose: Rigid3, where: tuple[int, float], rng: np.random.Generator
    ) -> tuple[FloatArray, NDArray[np.uint8]]:
        """Pixels [K, 2] and descriptors [K, 128] that an image of this pose finds."""
        settings, camera = self._settings, self._settings.camera
        mine, _ = self._of_leg[where[0]]
        pixels, descriptors = [np.zeros((0, 2))], [np.zeros((0, 128))]
        for number, points in enumerate(self._points):
            positions = points["positions"]
            near = np.abs(positions[:, :2] - pose.translation[:2]).max(axis=1) < _REACH_M[1]
            if number != mine:
                # Only what is near a corner that both have is seen from one in the other.
                corner = self._shared_corner(mine, number)
                if corner is None:
                    continue
                near &= np.linalg.norm(positions[:, :2] - corner, axis=1) < _ROUND_CORNER_M
            rows = np.flatnonzero(near)
            in_cam = pose.inverse() @ positions[rows]
            distance = np.linalg.norm(in_cam, axis=1)
            rays = (pose.translation - positions[rows]) / distance[:, None]
            reach = points["reach"][rows]
            visible = (in_cam[:, 2] > 0.2) & (distance < reach) & (distance > _NEAREST * reach)
            visible &= (rays * points["normals"][rows]).sum(axis=1) > _LEAST_COSINE
            visible &= rng.uniform(size=len(rows)) < settings.found
            rows, at = rows[visible], camera.img_from_cam(in_cam[visible])
            inside = (at > 0).all(axis=1) & (at < [camera.width, camera.height]).all(axis=1)
            rows, at = rows[inside], at[inside]
            start, end = (np.array(corner) for corner in self._corridors[number])
            ahead = (positions[rows, :2] - pose.translation[:2]) @ (end - start) > 0
            pixels.append(at + rng.normal(0, settings.noise, at.shape))
            descriptors.append(
                np.where(ahead[:, None], points["forth"][rows], points["back"][rows])
            )
        found, unit = np.concatenate(pixels), np.concatenate(descriptors)
        unit = unit + rng.normal(0, _DESCRIPTOR_NOISE / np.sqrt(128), unit.shape)
        unit = np.maximum(unit, 0)
        unit /= np.linalg.norm(unit, axis=1, keepdims=True)
        order = rng.permutation(len(found))
        return found[order], KINDS["sift"].stored(unit[order])

    def _shared_corner(self, first: int, second: int) -> FloatArray | None:
        shared = set(self._corridors[first]) & set(self._corridors[second])
        return np.array(next(iter(shared))) if shared else None
