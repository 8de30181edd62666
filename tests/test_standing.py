"""Maps of what a camera that stands still, turns and zooms would have seen as well."""

from collections.abc import Sequence

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from relocalize import Camera, Rigid3
from relocalize.checking.standing import parallax, standing
from relocalize.geometry.transforms import FloatArray
from relocalize.place import MapModel, PosedImage
from relocalize.place.model import Points

CAMERA = Camera.from_focal(640, 480, 500.0)
SIGMA = 0.3  # pixels


def seen(points: FloatArray, poses: Sequence[Rigid3]) -> MapModel:
    """A map of points [P, 3] and world_from_cam, each image seeing what is before it."""
    rng = np.random.default_rng(1)
    images = {}
    for number, world_from_cam in enumerate(poses):
        inside = world_from_cam.inverse() @ points
        pixels = CAMERA.img_from_cam(inside)
        rows = np.flatnonzero(
            (inside[:, 2] > 0.1) & (np.abs(pixels - (320, 240)) < (320, 240)).all(axis=1)
        )
        keypoints = pixels[rows] + rng.normal(0, SIGMA, (len(rows), 2))
        name = f"a/{number:03}.jpg"
        images[name] = PosedImage(
            name, CAMERA, 1, world_from_cam.inverse(), keypoints.astype(np.float32), rows
        )
    count = len(points)
    return MapModel(
        images,
        Points(
            np.arange(1, count + 1),
            points,
            np.zeros((count, 3), np.uint8),
            np.full(count, SIGMA),
            np.full(count, len(poses)),
        ),
    )


def turned(yaw_deg: float, centre: Sequence[float]) -> Rigid3:
    rotation = Rotation.from_euler("y", yaw_deg, degrees=True).as_matrix()
    return Rigid3(rotation, np.asarray(centre, dtype=float))


def room(depth: tuple[float, float]) -> FloatArray:
    rng = np.random.default_rng(0)
    angle = rng.uniform(-1.5, 1.5, 600)
    return np.asarray(
        np.column_stack([np.sin(angle), rng.uniform(-0.4, 0.4, 600), np.cos(angle)])
        * rng.uniform(*depth, (600, 1))
    )


def wall() -> FloatArray:
    rng = np.random.default_rng(0)
    return np.column_stack([rng.uniform((-3, -2), (3, 2), (500, 2)), np.full(500, 5.0)])


def test_a_walk_towards_a_wall_may_be_a_zoom() -> None:
    model = seen(wall(), [turned(0.5 * np.sin(k), (0, 0, 0.2 * k)) for k in range(12)])
    assert parallax(model) == pytest.approx(SIGMA / 0.5, rel=0.3)
    (alarm,) = standing(model)
    assert "stands still, turns and zooms" in alarm


def test_a_turn_on_the_spot_is_none_of_a_place() -> None:
    assert standing(seen(room((2, 6)), [turned(5.0 * k, (0, 0, 0)) for k in range(12)]))


def test_an_arm_that_turns_sees_parallax() -> None:
    poses = [
        turned(yaw, (0.2 * np.sin(np.radians(yaw)), 0, 0.2 * np.cos(np.radians(yaw))))
        for yaw in np.linspace(-60, 60, 25)
    ]
    assert standing(seen(room((2, 6)), poses)) == ()


def test_a_wall_seen_from_its_sides_is_no_zoom() -> None:
    poses = [turned(-12.0 * k, (0.8 * k, 0, 0)) for k in range(-3, 4)]
    assert parallax(seen(wall(), poses)) > 5


def test_of_a_few_points_nothing_is_said() -> None:
    poses = [turned(0, (0, 0, 0.2 * k)) for k in range(6)]
    assert parallax(seen(wall()[:15], poses)) == np.inf
