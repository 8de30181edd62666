"""openMVG's sfm_data.json."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from relocalize.errors import FormatError
from relocalize.formats.openmvg import detect
from relocalize.formats.openmvg import read as read_openmvg

NO_ID = 4294967295
QUARTER = [[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]]


def view(key: int, **values: Any) -> dict[str, Any]:
    data = {"local_path": "", "filename": f"{key}.jpg", "width": 640, "height": 480}
    data |= {"id_view": key, "id_intrinsic": 0, "id_pose": key} | values
    wrapper = {"id": 2147483649 + key, "data": data}
    return {"key": key, "value": {"polymorphic_id": 1073741824, "ptr_wrapper": wrapper}}


def pose(key: int, rotation: Any = QUARTER, center: Any = (1.0, 2.0, 3.0)) -> dict[str, Any]:
    return {"key": key, "value": {"rotation": rotation, "center": list(center)}}


def intrinsic(**values: Any) -> dict[str, Any]:
    data = {"width": 640, "height": 480, "focal_length": 500, "principal_point": [319.5, 239.5]}
    value = {"polymorphic_id": 2147483649, "polymorphic_name": "pinhole"}
    return {"key": 0, "value": value | {"ptr_wrapper": {"id": 1, "data": data | values}}}


def write(folder: Path, seen: list[Any], poses: list[Any], **more: Any) -> Path:
    path = folder / "sfm_data.json"
    content = {"sfm_data_version": "0.3", "root_path": "/x", "views": seen, "extrinsics": poses}
    path.write_text(json.dumps(content | {"intrinsics": [intrinsic()]} | more))
    return path


def test_a_pose_is_a_world_to_camera_rotation_and_a_centre(tmp_path: Path) -> None:
    path = write(tmp_path, [view(0, local_path="walk"), view(1, id_pose=NO_ID)], [pose(0)])
    assert detect(path) and detect(tmp_path)
    registration = read_openmvg(path)
    assert list(registration.poses) == ["walk/0.jpg"]
    assert registration.remarks == ("1 views have no pose",)
    cam_from_world, _ = registration.poses["walk/0.jpg"]
    np.testing.assert_allclose(cam_from_world.inverse().translation, [1, 2, 3], atol=1e-12)
    np.testing.assert_allclose(cam_from_world @ np.array([1.0, 2, 8]), [5, 0, 0], atol=1e-12)


@pytest.mark.parametrize(
    ("values", "model", "params"),
    [
        ({}, "SIMPLE_RADIAL", (500, 320, 240, 0)),
        ({"disto_k1": [0.1]}, "SIMPLE_RADIAL", (500, 320, 240, 0.1)),
        (
            {"disto_k3": [0.1, 0.2, 0.3]},
            "FULL_OPENCV",
            (500, 500, 320, 240, 0.1, 0.2, 0, 0, 0.3, 0, 0, 0),
        ),
        (
            {"disto_t2": [0.1, 0.2, 0.3, 0.4, 0.5]},
            "FULL_OPENCV",
            (500, 500, 320, 240, 0.1, 0.2, 0.4, 0.5, 0.3, 0, 0, 0),
        ),
        (
            {"fisheye": [0.1, 0.2, 0.3, 0.4]},
            "OPENCV_FISHEYE",
            (500, 500, 320, 240, 0.1, 0.2, 0.3, 0.4),
        ),
    ],
)
def test_intrinsics_count_from_the_first_pixels_centre(
    tmp_path: Path, values: dict[str, Any], model: str, params: tuple[float, ...]
) -> None:
    path = write(tmp_path, [view(0)], [pose(0)], intrinsics=[intrinsic(**values)])
    (camera,) = read_openmvg(path).cameras
    assert (camera.model, camera.params) == (model, params)


@pytest.mark.parametrize(
    ("bad_view", "bad_pose", "said"),
    [
        (view(2), pose(2, [[1, 0], [0, 1]]), "want numbers of shape"),
        (view(2), pose(2, np.ones((3, 3)).tolist()), "no rotation"),
        (view(2), pose(2, np.zeros((3, 3)).tolist()), "no rotation"),
        (view(2), pose(2, center=[0, math.nan, 0]), "want a finite number"),
        (view(2, filename=5), pose(2), "'filename' is 5"),
        (view(2, filename="0.jpg"), pose(2), "a second time"),
        ({"key": 2, "value": 5}, pose(2), "want an object"),
    ],
)
def test_a_bad_view_is_one_line(tmp_path: Path, bad_view: Any, bad_pose: Any, said: str) -> None:
    path = write(tmp_path, [view(0), view(1), bad_view], [pose(0), pose(1), bad_pose])
    registration = read_openmvg(path)
    assert list(registration.poses) == ["0.jpg", "1.jpg"]
    (problem,) = registration.problems
    assert said in problem and "view 2" in problem and "\n" not in problem


@pytest.mark.parametrize(
    "more",
    [
        {"views": 5},
        {"views": []},
        {"views": [{"key": 0}]},
        {"extrinsics": [5]},
        {"intrinsics": [{"key": 0, "value": {"ptr_wrapper": {"data": {}}}}]},
        {"sfm_data_version": None},
    ],
)
def test_another_file_is_refused_in_one_line(tmp_path: Path, more: dict[str, Any]) -> None:
    path = write(tmp_path, [view(0)], [pose(0)], **more)
    with pytest.raises(FormatError) as caught:
        read_openmvg(path)
    assert "\n" not in str(caught.value)


def test_structure_comes_along_and_a_broken_one_does_not_cost_the_poses(tmp_path: Path) -> None:
    seen = [{"key": key, "value": {"id_feat": 0, "x": [100.0, 50.0]}} for key in (0, 1, 7)]
    landmark = {"key": 0, "value": {"X": [9.0, 2.0, 3.0], "observations": seen}}
    views, poses = [view(0), view(1)], [pose(0), pose(1)]
    model = read_openmvg(write(tmp_path, views, poses, structure=[landmark])).model
    assert model is not None
    np.testing.assert_array_equal(model.points.track_lengths, [2])
    np.testing.assert_allclose(model.images["1.jpg"].keypoints, [[100.5, 50.5]])
    landmark["value"] = {"X": [1, 2]}
    registration = read_openmvg(write(tmp_path, views, poses, structure=[landmark]))
    assert registration.model is None and len(registration.poses) == 2
    assert "'X' is [1, 2]" in registration.remarks[0]


@pytest.mark.data
def test_the_samples_structure_projects_onto_its_observations(data_dir: Path) -> None:
    path = data_dir / "formats" / "openmvg" / "sfm_data.json"
    assert detect(path)
    registration = read_openmvg(path)
    assert len(registration.poses) == 4 and not registration.problems
    model = registration.model
    assert model is not None and len(model.points) == 365
    assert np.median(model.points.reprojection_errors) < 1.0
    for image in model.images.values():
        assert len(image.keypoints) > 100
        in_cam = image.cam_from_world @ model.points.positions[image.point_rows]
        assert np.all(in_cam[:, 2] > 0)
        off = image.camera.img_from_cam(in_cam) - image.keypoints
        assert np.abs(np.median(off, axis=0)).max() < 0.1
