"""Several images of one photo, and one answer from those to each."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

torch = pytest.importorskip("torch")

from relocalize.geometry import Camera  # noqa: E402
from relocalize.regression.answers import Answers  # noqa: E402
from relocalize.regression.canonical import warp  # noqa: E402
from relocalize.regression.image_input import ImageInput  # noqa: E402
from relocalize.regression.settings import AugmentSettings, InputSettings  # noqa: E402

TARGET = Camera("PINHOLE", 256, 192, (200.0, 200.0, 128.0, 96.0))
PHOTO = Camera("SIMPLE_RADIAL", 400, 300, (310.0, 204.0, 148.0, -0.1))
IMAGES = ImageInput(InputSettings(test_crops=5), TARGET)
POSE = np.eye(4)
POSE[:3, :3] = Rotation.from_rotvec([0.3, -0.8, 0.2]).as_matrix()
POSE[:3, 3] = [1.0, 2.0, -3.0]


def photo():
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (10, 13, 3)).astype(np.float32)
    y, x = np.mgrid[0:300, 0:400] / 32
    return coarse[y.astype(int), x.astype(int)].astype(np.uint8)


def answers(poses, variance=None):
    count = len(poses)
    return Answers(poses, variance, np.arange(count * 3, dtype=np.float32).reshape(count, 3))


def turned(pose):
    """What a camera at ``pose`` sees of itself turned: the exact poses of the five images."""
    poses = np.tile(pose, (5, 1, 1))
    poses[:, :3, :3] = pose[:3, :3] @ IMAGES.turns.transpose(0, 2, 1)
    return poses


def test_five_images_are_the_photo_and_the_photo_turned_to_each_side():
    pixels = photo()
    shown = IMAGES.of_photo(pixels, PHOTO)
    assert shown.shape == (5, 192, 256, 3)
    np.testing.assert_array_equal(shown[:1], IMAGES.of_photo(pixels, PHOTO, crops=1))
    for image, turn in zip(shown, IMAGES.turns, strict=True):
        np.testing.assert_array_equal(image, warp(pixels, PHOTO, TARGET, turn)[0])
    angles = np.degrees(Rotation.from_matrix(IMAGES.turns).magnitude())
    np.testing.assert_allclose(angles, [0, 5, 5, 5, 5])
    np.testing.assert_allclose(IMAGES.turns[1:].sum(0)[2, :2], 0, atol=1e-12)


class Frames:
    """One train frame."""

    world_from_cams = POSE[None]
    cameras = (PHOTO,)
    pixels = IMAGES.of_photo(photo(), PHOTO, crops=1)

    def source(self, row):
        return photo()


def test_a_copy_is_shown_as_the_photo_that_it_is_the_image_of():
    settings = AugmentSettings(turn_deg=20.0, jitter=0.3)
    shown, pose = IMAGES.of_copy(Frames(), 0, settings, seed=3, number=1)
    copy, same_pose = IMAGES.varied(Frames(), 0, settings, seed=3, epoch=1)
    np.testing.assert_array_equal(pose, same_pose)
    np.testing.assert_array_equal(shown, IMAGES.of_photo(copy, TARGET))
    assert 1 < np.degrees(Rotation.from_matrix(pose[:3, :3].T @ POSE[:3, :3]).magnitude()) < 30
    other, _ = IMAGES.of_copy(Frames(), 0, settings, seed=3, number=2)
    assert (other != shown).any()
    alone, _ = ImageInput(InputSettings(test_crops=1), TARGET).of_copy(
        Frames(), 0, settings, seed=3, number=1
    )
    np.testing.assert_array_equal(alone, copy[None])


def test_exact_poses_of_the_turned_images_average_to_the_photo_s():
    found = answers(turned(POSE)).averaged(IMAGES.turns)
    np.testing.assert_allclose(found.world_from_cams[0], POSE, atol=1e-12)
    np.testing.assert_allclose(found.variance, 0, atol=1e-12)
    np.testing.assert_array_equal(found.descriptions, [[0, 1, 2]])


def test_sure_answers_count_more_and_what_they_differ_by_is_variance():
    poses = turned(POSE)
    poses[3, :3, 3] += [0.5, 0.0, 0.0]
    variance = np.full((5, 6), 0.01)
    equal = answers(poses, variance).averaged(IMAGES.turns)
    np.testing.assert_allclose(equal.world_from_cams[0, :3, 3] - POSE[:3, 3], [0.1, 0, 0])
    np.testing.assert_allclose(equal.variance[0], [0.01 + 0.04, *[0.01] * 5])
    variance[3] = 1.0
    doubted = answers(poses, variance).averaged(IMAGES.turns)
    off = doubted.world_from_cams[0, 0, 3] - POSE[0, 3]
    np.testing.assert_allclose(off, 0.5 * 1 / (1 + 4 * 100), atol=1e-12)


def test_crops_are_averaged_as_in_the_paper_and_one_image_is_its_own_answer():
    crops = ImageInput(InputSettings(224, 224, "posenet", test_crops=9), TARGET)
    assert crops.turns is None
    poses = np.tile(POSE, (3, 1, 1))
    poses[:, 0, 3] += [0.0, 0.3, 0.6]
    found = answers(poses).averaged()
    np.testing.assert_allclose(found.world_from_cams[0, :3, 3] - POSE[:3, 3], [0.3, 0, 0])
    np.testing.assert_array_equal(found.descriptions, [[3, 4, 5]])
    one = answers(poses[:1])
    np.testing.assert_array_equal(
        one.averaged(np.eye(3)[None]).world_from_cams, one.world_from_cams
    )
