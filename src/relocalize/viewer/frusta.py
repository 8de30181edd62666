"""The shape of cameras, many at once: frusta and the way between, and which one a click means."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from relocalize.geometry import Rigid3
from relocalize.geometry.transforms import FloatArray

# The apex, then the corners of the image around it, at distance 1, for half sides of 1.
CORNERS = np.array([[0, 0, 0], [-1, -1, 1], [1, -1, 1], [1, 1, 1], [-1, 1, 1]], dtype=np.float64)
_EDGES = np.array([[0, 1], [0, 2], [0, 3], [0, 4], [1, 2], [2, 3], [3, 4], [4, 1]])
_MIDDLE = 0.6  # of a frustum along its axis, of its depth
# A frustum is drawn where the camera has moved by so much of its depth since the last one that is,
# or turned by so much of a unit vector: those of every frame of a video are one thick band.
_STEP, _TURN = 1.2, 0.3
# How far from where people point a click may land: far cameras are a few pixels large.
_CLUMSY = np.tan(np.radians(0.5))


def frustum_lines(
    world_from_cams: Sequence[Rigid3], half: FloatArray, depth: float
) -> NDArray[np.float32]:
    """The edges of all frusta as line segments.

    Args:
        world_from_cams: [N].
        half: [N, 2] half width and half height of each image at distance 1.
        depth: distance of the image from the centre, in the world's unit.

    Returns:
        [8 N, 2, 3] ends in the world.
    """
    scales = depth * np.concatenate([half, np.ones((len(half), 1))], axis=1)
    in_cam = CORNERS[None] * scales[:, None]
    rotations = np.stack([pose.rotation for pose in world_from_cams])
    centres = np.stack([pose.translation for pose in world_from_cams])
    corners = np.einsum("nij,nkj->nki", rotations, in_cam) + centres[:, None]
    ends: NDArray[np.float32] = corners[:, _EDGES].reshape(-1, 2, 3).astype(np.float32)
    return ends


def path_lines(centres: FloatArray, *, every: int = 1) -> NDArray[np.float32]:
    """The way from camera to camera of a walk, or from every so many, without its gaps.

    Args:
        centres: [N, 3] of the cameras in order, N at least 2.
        every: so many cameras are one step.

    Returns:
        [S, 2, 3] ends in the world.
    """
    steps = np.linalg.norm(np.diff(centres, axis=0), axis=1)
    # Over ten median steps is no step of a walk but a gap in it.
    is_gap = steps > 10 * max(float(np.median(steps)), 1e-12)
    gaps_before = np.concatenate([[0], np.cumsum(is_gap)])
    rows = np.unique([*range(0, len(centres), every), len(centres) - 1])
    starts, ends = rows[:-1], rows[1:]
    whole = gaps_before[starts] == gaps_before[ends]
    path = np.stack([centres[starts[whole]], centres[ends[whole]]], axis=1)
    return path.astype(np.float32)


def spaced(world_from_cams: Sequence[Rigid3], depth: float) -> NDArray[np.int64]:
    """Rows of cameras in order that differ from the row before them in place or in direction.

    Args:
        world_from_cams: [N].
        depth: of their frusta.
    """
    centres = np.stack([pose.translation for pose in world_from_cams])
    ahead = np.stack([pose.rotation[:, 2] for pose in world_from_cams])
    rows = [0]
    for row in range(1, len(centres)):
        moved = np.linalg.norm(centres[row] - centres[rows[-1]]) >= _STEP * depth
        if moved or np.linalg.norm(ahead[row] - ahead[rows[-1]]) >= _TURN:
            rows.append(row)
    return np.array(rows)


def frustum_under(
    origin: FloatArray, direction: FloatArray, world_from_cams: Sequence[Rigid3], depth: float
) -> tuple[int, float] | None:
    """The camera that a click means: whose frustum's middle is nearest to the ray, for its size.

    Numbers decide, and not the browser: to test a thousand frusta for every movement of the
    pointer costs it most of its time.

    Args:
        origin: [3] of the ray: the eye.
        direction: [3] of the ray, of any length.
        world_from_cams: [N] of the cameras.
        depth: of their frusta.

    Returns:
        Row of the camera, and how well it was hit: 0 in its middle, 1 at its border. None where
        the click was beside all of them.
    """
    middles = np.stack(
        [pose.translation + _MIDDLE * depth * pose.rotation[:, 2] for pose in world_from_cams]
    )
    unit = direction / np.linalg.norm(direction)
    along = (middles - origin) @ unit
    beside = np.linalg.norm(middles - origin - along[:, None] * unit, axis=1)
    allowed = _MIDDLE * depth + _CLUMSY * np.maximum(along, 0.0)
    missed = np.where(along > 0, beside / allowed, np.inf)
    row = int(missed.argmin())
    return (row, float(missed[row])) if missed[row] <= 1 else None
