"""Poses in the axes of other programs, by what a camera sees there."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from relocalize.errors import GeometryError
from relocalize.geometry import Rigid3
from relocalize.geometry.device_axes import DEVICE_AXES, device_axes

# A camera that looks along the world's x (forward), its left along y, upright.
AHEAD = Rigid3(np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]]), np.array([1.0, 2, 3]))
numbers = st.floats(-3, 3)


@given(st.tuples(*[numbers] * 6), st.sampled_from(sorted(DEVICE_AXES)))
def test_there_and_back(values, name):
    pose = Rigid3(Rotation.from_rotvec(values[:3]).as_matrix(), np.array(values[3:]))
    axes = device_axes(name)
    back = axes.world_from_cam(axes.pose(pose))
    assert np.allclose(back.matrix, pose.matrix, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "up", "position", "forward_of_camera", "up_of_camera"),
    [
        ("arkit", (0, 1, 0), (1, 3, -2), (0, 0, -1), (0, 1, 0)),
        ("webxr", (0, 1, 0), (1, 3, -2), (0, 0, -1), (0, 1, 0)),
        ("unity", (0, 1, 0), (1, 3, 2), (0, 0, 1), (0, 1, 0)),
        ("ros", (0, 0, 1), (1, 2, 3), (1, 0, 0), (0, 0, 1)),
        ("ros_optical", (0, 0, 1), (1, 2, 3), (0, 0, 1), (0, -1, 0)),
    ],
)
def test_what_is_forward_and_up(name, up, position, forward_of_camera, up_of_camera):
    pose = device_axes(name).pose(AHEAD)
    assert np.allclose(pose.translation, position)
    assert np.allclose(pose.rotation @ forward_of_camera, (1, 0, 0))  # x is x in all of them
    assert np.allclose(pose.rotation @ up_of_camera, up)


def test_unity_is_left_handed_and_its_identity_looks_along_z():
    north = Rigid3(np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]), np.zeros(3))  # along our y
    assert np.allclose(device_axes("unity").pose(north).matrix, np.eye(4))
    assert np.allclose(device_axes("webxr").pose(north).matrix, np.eye(4))


@pytest.mark.parametrize("name", sorted(DEVICE_AXES))
def test_covariances_are_of_the_same_errors(name):
    axes = device_axes(name)
    rng = np.random.default_rng(0)
    root = rng.normal(size=(6, 6)) * 1e-4
    errors = rng.normal(size=(200, 6)) @ root.T
    theirs = axes.pose(AHEAD)
    found = []
    for error in errors:
        turned = AHEAD.rotation @ Rotation.from_rotvec(error[3:]).as_matrix()
        wrong = axes.pose(Rigid3(turned, AHEAD.translation + error[:3]))
        turn = Rotation.from_matrix(theirs.rotation.T @ wrong.rotation).as_rotvec()
        found.append([*(wrong.translation - theirs.translation), *turn])
    expected = axes.covariance(errors.T @ errors)
    assert np.allclose(expected, np.array(found).T @ np.array(found), atol=1e-3 * expected.max())


def test_unknown_axes_are_named():
    with pytest.raises(GeometryError, match="'unreal'; there are arkit"):
        device_axes("unreal")
