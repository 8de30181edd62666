"""Copies at other positions: where the surface is known, they are what a camera would see."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

pytest.importorskip("torch")

from relocalize.geometry import Camera, Rigid3
from relocalize.regression.augmentation import augment, copy_rng
from relocalize.regression.depths import MIN_POINTS, median_depth
from relocalize.regression.parallax import moved
from relocalize.regression.settings import AugmentSettings

SOURCE = Camera("SIMPLE_RADIAL", 640, 480, (520.0, 320.0, 240.0, -0.05))
TARGET = Camera("PINHOLE", 256, 192, (208.0, 208.0, 128.0, 96.0))


def pattern(points: np.ndarray) -> np.ndarray:
    """A smooth colour for every spot of the world, coarse enough for the small image."""
    x, y, z = points.T
    waves = [np.sin(4 * x + y), np.sin(3 * y - 2 * x + z), np.cos(2.5 * x + 3 * y)]
    return np.clip(128 + 100 * np.stack(waves, axis=-1), 0, 255)


def seen_plane(camera: Camera, cam_from_world: Rigid3) -> np.ndarray:
    """The tilted plane z = 3 + 0.4 x + 0.2 y, seen by a camera at ``cam_from_world``."""
    x, y = np.meshgrid(np.arange(camera.width) + 0.5, np.arange(camera.height) + 0.5)
    plane = camera.cam_from_img(np.stack([x.ravel(), y.ravel()], axis=1))
    world_from_cam = cam_from_world.inverse()
    rays = np.column_stack([plane, np.ones(len(plane))]) @ world_from_cam.rotation.T
    centre = world_from_cam.translation
    normal = np.array([-0.4, -0.2, 1.0])
    reach = (3 - normal @ centre) / (rays @ normal)
    colours = pattern(centre + reach[:, None] * rays)
    return colours.reshape(camera.height, camera.width, 3).round().astype(np.uint8)


def points_of_plane(count: int) -> np.ndarray:
    xy = np.random.default_rng(0).uniform([-2.4, -2.0], [2.4, 2.0], size=(count, 2))
    return np.column_stack([xy, 3 + 0.4 * xy[:, 0] + 0.2 * xy[:, 1]])


@pytest.mark.parametrize(
    "shift", [[0.0, 0.0, 0.0], [0.15, 0.0, 0.0], [0.0, -0.1, 0.1], [-0.1, 0.05, -0.15]]
)
def test_a_moved_copy_is_what_a_camera_sees_there(shift: list[float]) -> None:
    turn = Rotation.from_euler("yxz", [4, -3, 5], degrees=True).as_matrix()
    target_from_cam = Rigid3(turn, np.array(shift))
    result = moved(
        seen_plane(SOURCE, Rigid3.identity()), SOURCE, TARGET, target_from_cam,
        points_of_plane(400),
    )  # fmt: skip
    assert result is not None
    copy, seen = result
    truth = seen_plane(TARGET, target_from_cam)
    assert seen.mean() > 0.75
    difference = np.abs(copy.astype(float) - truth.astype(float)).max(axis=2)[seen]
    # The pattern changes by 5 to 7 grey levels per pixel, so a median of 2 is a third of a pixel.
    assert np.median(difference) < 2
    assert np.percentile(difference, 95) < 10


def test_what_leaves_the_image_is_not_shown() -> None:
    far = Rigid3(np.eye(3), np.array([1.5, 0.0, 0.0]))
    image = seen_plane(SOURCE, Rigid3.identity())
    result = moved(image, SOURCE, TARGET, far, points_of_plane(400))
    assert result is not None
    _, seen = result
    assert not seen[:, :60].any()
    assert seen[:, -60:].mean() > 0.9


def test_without_points_there_is_no_copy() -> None:
    image = np.zeros((480, 640, 3), np.uint8)
    few = points_of_plane(MIN_POINTS - 1)
    assert moved(image, SOURCE, TARGET, Rigid3.identity(), few) is None
    assert median_depth(few) is None
    behind = points_of_plane(100) * [1, 1, -1]
    assert moved(image, SOURCE, TARGET, Rigid3.identity(), behind) is None
    assert median_depth(points_of_plane(400)) == pytest.approx(
        np.median(points_of_plane(400)[:, 2])
    )


def test_augmented_copies_are_seen_from_the_pose_they_are_given() -> None:
    world_from_cam = Rigid3(
        Rotation.from_euler("xyz", [5, -8, 3], degrees=True).as_matrix(), np.array([0.3, 0.1, -0.2])
    )
    image = seen_plane(SOURCE, world_from_cam.inverse())
    settings = AugmentSettings(roll_deg=10, turn_deg=8, shift=0.04, fill="edge")
    steps = []
    for copy in range(6):
        pixels, pose = augment(
            image,
            SOURCE,
            world_from_cam.matrix,
            TARGET,
            copy_rng(0, 0, 0, copy),
            settings,
            points=points_of_plane(400),
        )
        steps.append(np.linalg.norm(pose[:3, 3] - world_from_cam.translation))
        truth = seen_plane(TARGET, Rigid3.from_matrix(pose).inverse())
        difference = np.abs(pixels.astype(float) - truth.astype(float)).max(axis=2)
        assert np.median(difference[48:-48, 64:-64]) < 2
    # 0.04 of 3 m in each of three directions.
    assert 0.05 < np.median(steps) < 0.4
    _, still = augment(image, SOURCE, world_from_cam.matrix, TARGET, copy_rng(0, 0, 0, 0), settings)
    assert np.array_equal(still[:3, 3], world_from_cam.translation)
