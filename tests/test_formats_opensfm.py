"""OpenSfM's reconstruction.json."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from relocalize.errors import FormatError
from relocalize.formats.opensfm import detect
from relocalize.formats.opensfm import read as read_opensfm

CAMERA = {"projection_type": "perspective", "width": 800, "height": 600, "focal": 0.9}


def shot(camera: str = "c", **values: Any) -> dict[str, Any]:
    return {"rotation": [0, 0, 0], "translation": [0, 0, 0], "camera": camera} | values


def write(
    folder: Path, shots: dict[str, Any], cameras: dict[str, Any] | None = None, **more: Any
) -> Path:
    path = folder / "reconstruction.json"
    one = {"cameras": {"c": CAMERA} if cameras is None else cameras, "shots": shots}
    path.write_text(json.dumps([one | more]))
    return path


def test_a_shot_maps_the_world_to_the_camera(tmp_path: Path) -> None:
    turn = [0, math.pi / 2, 0]  # about y: world x becomes camera -z, world z becomes camera x
    path = write(tmp_path, {"a.jpg": shot(rotation=turn, translation=[1, 2, 3])})
    assert detect(path) and detect(tmp_path)
    cam_from_world, _ = read_opensfm(tmp_path).poses["a.jpg"]
    np.testing.assert_allclose(cam_from_world @ np.array([0, 0, 5.0]), [6, 2, 3], atol=1e-12)
    np.testing.assert_allclose(cam_from_world @ np.array([5.0, 0, 0]), [1, 2, -2], atol=1e-12)


@pytest.mark.parametrize(
    ("values", "model", "params"),
    [
        ({"k1": 0.1, "k2": 0.2}, "RADIAL", (720, 400, 300, 0.1, 0.2)),
        (
            {"projection_type": "fisheye", "k1": 0.1, "k2": 0.2},
            "RADIAL_FISHEYE",
            (720, 400, 300, 0.1, 0.2),
        ),
        (
            {
                "projection_type": "simple_radial",
                "focal_x": 1,
                "focal_y": 1,
                "c_x": 0.01,
                "k1": 0.1,
            },
            "SIMPLE_RADIAL",
            (800, 408, 300, 0.1),
        ),
        (
            {"projection_type": "radial", "focal_x": 1, "focal_y": 0.5, "c_y": -0.01, "k2": 0.1},
            "OPENCV",
            (800, 400, 400, 292, 0, 0.1, 0, 0),
        ),
        (
            {"projection_type": "brown", "focal_x": 1, "focal_y": 1}
            | {"k1": 0.1, "k2": 0.2, "k3": 0.3, "p1": 0.4, "p2": 0.5},
            "FULL_OPENCV",
            (800, 800, 400, 300, 0.1, 0.2, 0.4, 0.5, 0.3, 0, 0, 0),
        ),
        (
            {"projection_type": "fisheye_opencv", "focal_x": 1, "focal_y": 1}
            | {"k1": 0.1, "k2": 0.2, "k3": 0.3, "k4": 0.4},
            "OPENCV_FISHEYE",
            (800, 800, 400, 300, 0.1, 0.2, 0.3, 0.4),
        ),
    ],
)
def test_normalised_intrinsics_become_pixels(
    tmp_path: Path, values: dict[str, Any], model: str, params: tuple[float, ...]
) -> None:
    """The unit is the longer side, the origin the image's centre: w/2 from the corner."""
    path = write(tmp_path, {"a.jpg": shot()}, {"c": CAMERA | values})
    (camera,) = read_opensfm(path).cameras
    assert camera.model == model
    np.testing.assert_allclose(camera.params, params)


def test_a_camera_without_a_size_takes_the_images(tmp_path: Path) -> None:
    path = write(tmp_path, {"a.jpg": shot()}, {"c": {"focal": 0.9, "k1": 0.1, "k2": 0}})
    camera = read_opensfm(path).camera_of("a.jpg", 600, 800)
    assert (camera.model, camera.params) == ("SIMPLE_RADIAL", (720, 300, 400, 0.1))


def test_the_largest_reconstruction_is_read_and_gps_makes_it_metric(tmp_path: Path) -> None:
    gps = {"gps_dop": 5.0, "gps_position": [0, 0, 0]}
    large = {"cameras": {"c": CAMERA}, "shots": {f"{i}.jpg": shot(**gps) for i in range(3)}}
    small = {"cameras": {"c": CAMERA}, "shots": {"z.jpg": shot(**gps)}}
    reference = {"reference_lla": {"latitude": 1, "longitude": 2, "altitude": 3}}
    path = tmp_path / "reconstruction.json"
    path.write_text(json.dumps([small, large | reference]))
    registration = read_opensfm(path)
    assert list(registration.poses) == ["0.jpg", "1.jpg", "2.jpg"]
    assert "largest of 2 reconstructions" in registration.remarks[0]
    assert registration.unit == "metre" and "GPS" in str(registration.scale_from)
    path.write_text(json.dumps([large]))
    assert read_opensfm(path).unit == "map unit"


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (shot(rotation=[0, 0]), "want 3 numbers"),
        (shot(rotation=[0, math.nan, 0]), "want a finite number"),
        (shot(translation=[0, 0, 1e300]), "not a place"),
        (shot(camera="other"), "camera 'other'"),
        (shot(camera="round"), "'spherical' is none"),
        ([], "want an object"),
    ],
)
def test_a_bad_shot_is_one_line(tmp_path: Path, bad: Any, said: str) -> None:
    cameras = {"c": CAMERA, "round": {"projection_type": "spherical"}}
    path = write(tmp_path, {"a.jpg": shot(), "b.jpg": shot(), "bad.jpg": bad}, cameras)
    registration = read_opensfm(path)
    assert list(registration.poses) == ["a.jpg", "b.jpg"]
    (problem,) = registration.problems
    assert said in problem and "shot bad.jpg" in problem and "\n" not in problem


@pytest.mark.parametrize("text", ["{}", "[]", "[5]", "[{}]", '[{"shots": 5}]', "[{", '"x"'])
def test_another_file_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "reconstruction.json"
    path.write_text(text)
    with pytest.raises(FormatError) as caught:
        read_opensfm(path)
    assert "\n" not in str(caught.value)


@pytest.mark.data
@pytest.mark.parametrize(
    "name", ["reconstruction.json", "reconstruction_example.json", "reconstruction.meshed.json"]
)
def test_points_of_the_sample_lie_in_its_images(data_dir: Path, name: str) -> None:
    path = data_dir / "formats" / "opensfm" / "berlin" / name
    assert detect(path)
    registration = read_opensfm(path)
    assert set(registration.poses) == {"01.jpg", "02.jpg", "03.jpg"}
    assert not registration.problems
    (content,) = json.loads(path.read_text())
    points = np.array([point["coordinates"] for point in content["points"].values()])
    inside = np.zeros(len(points), dtype=int)
    for pose, _ in registration.poses.values():
        pixels = registration.cameras[0].img_from_cam(pose @ points)
        inside += np.all((pixels > 0) & (pixels < [3264, 2448]), axis=1)
    # Every point was triangulated from two or three of the three images; a point whose ray
    # leaves the lens polynomial's range has no pixel.
    assert np.mean(inside >= 2) > 0.98
