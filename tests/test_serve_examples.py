"""The examples for clients: the part of the ROS node that needs no ROS."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from relocalize.geometry import Rigid3
from relocalize.localization import PoseEstimate
from relocalize.place.folder import METRE
from relocalize.serve.worker import camera_of as served_camera

sys.path.insert(0, str(Path(__file__).parents[1] / "examples" / "ros2"))
from pose_message import UNKNOWN, camera_of, pose_numbers

POSE = Rigid3(Rotation.from_euler("xyz", [0.3, -0.8, 1.9]).as_matrix(), np.array([1.0, -2, 3]))


def test_an_answer_as_ros_has_it():
    rng = np.random.default_rng(0)
    root = 1e-4 * rng.normal(size=(6, 6))
    answer = PoseEstimate("localized", METRE, 1.0, None, POSE, root @ root.T).to_json()
    numbers = pose_numbers(answer)
    assert numbers.position == (1.0, -2.0, 3.0)
    assert np.allclose(Rotation.from_quat(numbers.quat_xyzw).as_matrix(), POSE.rotation)
    # ROS's errors turn about the axes of the map: R exp(d) = exp(R d) R.
    errors = rng.normal(size=(500, 6)) @ root.T
    ros = []
    for error in errors:
        wrong = POSE.rotation @ Rotation.from_rotvec(error[3:]).as_matrix()
        turn = Rotation.from_matrix(wrong @ POSE.rotation.T).as_rotvec()
        ros.append([*error[:3], *turn])
    moment = np.array(ros).T @ np.array(ros)
    by = np.linalg.inv(root @ root.T) @ (errors.T @ errors)  # how far 500 are from their mean
    found = np.reshape(numbers.covariance, (6, 6))
    assert np.allclose(np.trace(np.linalg.inv(found) @ moment), np.trace(by), rtol=1e-3)


def test_what_is_not_known_is_not_made_up():
    failed = PoseEstimate("failed", METRE, 1.0, reason="dark").to_json()
    assert pose_numbers(failed) is None
    unsure = pose_numbers(PoseEstimate("localized", METRE, 1.0, None, POSE).to_json())
    assert unsure.covariance[0] == unsure.covariance[35] == UNKNOWN


def test_a_camera_info_as_the_service_has_it():
    k = [500.0, 0, 319.5, 0, 510.0, 239.5, 0, 0, 1]
    plain = served_camera(camera_of(640, 480, k, [0.0] * 5, "plumb_bob"), 640, 480)
    assert plain.model == "PINHOLE"
    assert plain.params == (500, 510, 320, 240)  # from the corner of the first pixel
    bent = served_camera(camera_of(640, 480, k, [0.1, 0, 0, 0, 0.02], "plumb_bob"), 640, 480)
    # OpenCV's formula for a point at x = y = 0.2.
    r2 = 0.08
    factor = 1 + 0.1 * r2 + 0.02 * r2**3
    expected = [500 * 0.2 * factor + 320, 510 * 0.2 * factor + 240]
    assert bent.img_from_cam([[0.2, 0.2, 1.0]])[0] == pytest.approx(expected)
    assert camera_of(640, 480, [0.0] * 9, [], "plumb_bob") is None
    assert camera_of(640, 480, k, [0.1] * 4, "equidistant") is None
