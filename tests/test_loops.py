"""Loops of a walk whose map drifted: true ones close it, look-alikes do not, and drift is said."""

from __future__ import annotations

import numpy as np
import pytest

from relocalize.geometry import Camera, Rigid3, Similarity3, align_camera_poses
from relocalize.geometry.transforms import rotations_from_rotvecs
from relocalize.mapping.loops import close_loops, find_loops
from relocalize.place import MapModel, PosedImage
from relocalize.place.model import NO_POINT, Points

CAMERA = Camera("SIMPLE_PINHOLE", 640, 480, (500.0, 320.0, 240.0))
RADIUS, WIDTH, HEIGHT = 8.0, 2.4, 2.7
IMAGES, LAPS = 150, 1.25
NOISE = 0.5  # pixels


class Ring:
    """A walk of more than a lap along a ring's corridor, and what a map of it knows."""

    def __init__(self, *, growth: float, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        angles = 2 * np.pi * LAPS * np.arange(IMAGES) / IMAGES
        self.names = [f"walk/{i:04d}.jpg" for i in range(IMAGES)]
        self.truth = [self._pose(angle) for angle in angles]
        count = 6000
        around, up = rng.uniform(0, 2 * np.pi, count), rng.uniform(0, HEIGHT, count)
        across = RADIUS + rng.choice([-0.5, 0.5], count) * WIDTH
        world = np.column_stack([across * np.cos(around), across * np.sin(around), up])
        lap = np.floor(angles / (2 * np.pi) + 0.1)  # by which an image's points are new
        changes = self._drift(growth)
        pixels, seen = [], []
        for pose in self.truth:
            in_cam = pose.inverse() @ world
            at = CAMERA.img_from_cam(np.where(in_cam[:, 2:] > 0.3, in_cam, [0, 0, 1.0]))
            away = np.linalg.norm(in_cam, axis=1)
            visible = (in_cam[:, 2] > 0.3) & (away < 7) & (rng.uniform(size=count) < 0.5)
            visible &= ((at > 0) & (at < [640, 480])).all(axis=1)
            rows = np.flatnonzero(visible)
            seen.append(rows)
            pixels.append(at[rows] + rng.normal(0, NOISE, (len(rows), 2)))
        # A map made in time has a point for each lap that sees it.
        keys = [rows + count * int(lap[i]) for i, rows in enumerate(seen)]
        unique, inverse = np.unique(np.concatenate(keys), return_inverse=True)
        tracks = np.split(inverse, np.cumsum([len(rows) for rows in seen])[:-1])
        lengths = np.bincount(inverse)
        middle = np.zeros(len(unique))
        np.add.at(middle, inverse, np.repeat(np.arange(IMAGES), [len(rows) for rows in seen]))
        owner = np.round(middle / lengths).astype(int)
        positions = np.stack(
            [changes[i] @ world[key % count] for i, key in zip(owner, unique, strict=True)]
        )
        self.seen, self.lap, self.world = seen, lap, world
        images = {}
        for i, name in enumerate(self.names):
            rows = np.where(lengths[tracks[i]] >= 2, tracks[i], NO_POINT)
            pose = changes[i].move_camera(self.truth[i]).inverse()
            images[name] = PosedImage(name, CAMERA, 1, pose, pixels[i].astype(np.float32), rows)
        colors = np.zeros((len(unique), 3), np.uint8)
        errors = np.full(len(unique), NOISE)
        points = Points(np.arange(1, len(unique) + 1), positions, colors, errors, lengths)
        self.model = MapModel(images, points)

    @staticmethod
    def _pose(angle: float) -> Rigid3:
        forward = np.array([-np.sin(angle), np.cos(angle), 0.0])
        right = np.array([np.cos(angle), np.sin(angle), 0.0])
        rotation = np.stack([right, [0, 0, -1.0], forward], axis=1)
        return Rigid3(rotation, np.array([*(RADIUS * right[:2]), 1.5]))

    def _drift(self, growth: float) -> list[Similarity3]:
        """drifted_from_true about each image: steps grow, and turn a little too far."""
        drifted = [self.truth[0]]
        changes = [Similarity3.identity()]
        for i in range(1, IMAGES):
            scale = (1 + growth) ** (i / IMAGES)
            turn = rotations_from_rotvecs(np.array([0, growth / IMAGES, 0]))
            step = self.truth[i - 1].inverse() @ self.truth[i]
            centre = drifted[-1].rotation @ (scale * step.translation) + drifted[-1].translation
            pose = Rigid3(drifted[-1].rotation @ step.rotation @ turn, centre)
            drifted.append(pose)
            change = pose.rotation @ self.truth[i].rotation.T
            shift = centre - scale * change @ self.truth[i].translation
            changes.append(Similarity3(scale, change, shift))
        return changes

    def matches(self, *, apart: float = 0.0, patch: float | None = None):
        """Verified matches of neighbours in time, and of images of the two laps.

        The latter are of one place, or of two ``apart`` radians that show one thing within
        ``patch`` radians of the image's own place.
        """
        walk, loops = {}, {}
        for i in range(IMAGES):
            for j in range(i + 1, min(IMAGES, i + 6)):
                walk[self.names[i], self.names[j]] = self._common(self.seen[i], self.seen[j])
        for i in range(IMAGES):
            for j in range(i + 20, IMAGES):
                if self.lap[i] == self.lap[j] or abs(self._turned(i, j) - apart) > 0.12:
                    continue
                if patch is None:
                    rows = self._common(self.seen[i], self.seen[j])
                else:
                    rows = self._alike(i, j, patch)
                if len(rows) >= 15:
                    loops[self.names[i], self.names[j]] = rows
        return walk, loops

    def _turned(self, i: int, j: int) -> float:
        return 2 * np.pi * (LAPS * (j - i) / IMAGES - 1)

    @staticmethod
    def _common(first, second):
        _, one, other = np.intersect1d(first, second, return_indices=True)
        return np.column_stack([one, other]).astype(np.uint32)

    def _alike(self, i: int, j: int, patch: float):
        """Matches of what is within a door's width ahead, as if both had the same door there."""
        rows = []
        for which in (i, j):
            ahead = self.truth[which].inverse() @ self.world[self.seen[which]]
            rows.append(np.flatnonzero((ahead[:, 0] > 0.5) & (ahead[:, 2] < 2.0 + patch)))
        count = min(map(len, rows))
        return np.column_stack([rows[0][:count], rows[1][:count]]).astype(np.uint32)


def errors(model, ring):
    ids = {image.name: image for image in model.images.values()}
    poses = [Rigid3.from_colmap(ids[n].cam_from_world()).inverse() for n in ring.names]
    return align_camera_poses(poses, ring.truth).position_residuals


@pytest.mark.parametrize("growth", [0.02, 0.08])
def test_a_ring_that_drifted_is_closed_by_loops_that_agree(growth: float) -> None:
    ring = Ring(growth=growth)
    walk, loops = ring.matches()
    found = find_loops(ring.model, ring.names, loops, walk)
    assert len(found) >= 3
    before = ring.model.to_colmap()
    closed = close_loops(before, ring.names, found)
    assert np.median(errors(closed, ring)) < 0.3 * np.median(errors(before, ring))
    # Points come along: they still lie where their images see them.
    closed.update_point_3d_errors()
    assert closed.compute_mean_reprojection_error() < 4
