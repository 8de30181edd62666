"""transforms.json of nerfstudio and instant-ngp."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from posed_example import CAMERAS, assert_same, posed_images
from relocalize.errors import FormatError
from relocalize.formats.lenses import SizelessCamera
from relocalize.formats.nerfstudio import detect
from relocalize.formats.nerfstudio import read as read_nerfstudio
from relocalize.formats.nerfstudio import write as write_nerfstudio

IDENTITY = np.eye(4).tolist()


def frame(name: str = "images/a.png", **values: Any) -> dict[str, Any]:
    return {"file_path": name, "transform_matrix": IDENTITY} | values


def write(folder: Path, frames: list[Any], **meta: Any) -> Path:
    path = folder / "transforms.json"
    path.write_text(json.dumps({"frames": frames} | meta))
    return path


SIZED = {"w": 640, "h": 480, "fl_x": 500.0, "fl_y": 510.0, "cx": 321.0, "cy": 239.5}


def test_the_camera_looks_along_minus_z_with_y_up(tmp_path: Path) -> None:
    """The document's own words: +X right, +Y up, -Z the look-at direction; camera-to-world."""
    matrix = np.eye(4)
    matrix[:3, :3] = [[0, 0, -1], [1, 0, 0], [0, -1, 0]]  # columns: camera x, y, z in the world
    matrix[:3, 3] = [1, 2, 3]
    path = write(tmp_path, [frame(transform_matrix=matrix.tolist())], **SIZED)
    registration = read_nerfstudio(path)
    pose = registration.world_from_cam("images/a.png")
    np.testing.assert_allclose(pose.translation, [1, 2, 3])
    np.testing.assert_allclose(pose.rotation[:, 2], [1, 0, 0], atol=1e-12)  # forward = -z column
    np.testing.assert_allclose(pose.rotation[:, 1], [0, 0, 1], atol=1e-12)  # down = -y column
    camera = registration.camera_of("images/a.png", 640, 480)
    assert (camera.model, camera.params[:4]) == ("OPENCV", (500.0, 510.0, 321.0, 239.5))
    assert registration.unit == "map unit"


@pytest.mark.parametrize(
    ("values", "model", "params"),
    [
        ({"camera_model": "PINHOLE"}, "PINHOLE", (500, 510, 321, 239.5)),
        ({"fl_y": 500, "camera_model": "SIMPLE_PINHOLE"}, "SIMPLE_PINHOLE", (500, 321, 239.5)),
        ({"fl_y": 500}, "SIMPLE_RADIAL", (500, 321, 239.5, 0)),
        ({"fl_y": 500, "k1": 0.1}, "SIMPLE_RADIAL", (500, 321, 239.5, 0.1)),
        ({"k1": 0.1, "k2": 0.2}, "OPENCV", (500, 510, 321, 239.5, 0.1, 0.2, 0, 0)),
        (
            {"distortion_params": [0.1, 0.2, 0, 0, 0.3, 0.4]},
            "OPENCV",
            (500, 510, 321, 239.5, 0.1, 0.2, 0.3, 0.4),
        ),
        (
            {"k1": 0.1, "k2": 0.2, "k3": 0.3, "k4": 0.4, "is_fisheye": True},
            "OPENCV_FISHEYE",
            (500, 510, 321, 239.5, 0.1, 0.2, 0.3, 0.4),
        ),
        ({"cx": None, "cy": None, "fl_y": 500}, "SIMPLE_RADIAL", (500, 320, 240, 0)),
    ],
)
def test_intrinsics_of_the_file_and_of_a_frame(
    tmp_path: Path, values: dict[str, Any], model: str, params: tuple[float, ...]
) -> None:
    whole = write(tmp_path, [frame()], **(SIZED | values))
    camera = read_nerfstudio(whole).camera_of("images/a.png", 640, 480)
    assert (camera.model, camera.params) == (model, params)
    one_model = {"camera_model": values["camera_model"]} if "camera_model" in values else {}
    frames = [frame(**(SIZED | values)), frame("b.png", **(SIZED | {"h": 481}))]
    for file in (one_model, {}):
        registration = read_nerfstudio(write(tmp_path, frames, **file))
        assert registration.camera_of("images/a.png", 640, 480) == camera
        assert len(registration.cameras) == 2


def test_intrinsics_within_intrinsics_are_read(tmp_path: Path) -> None:
    lens = {key: SIZED[key] for key in ("fl_x", "fl_y", "cx", "cy")}
    matrix = [[500.0, 0, 321.0], [0, 510.0, 239.5], [0, 0, 1]]
    for inner in (lens, matrix):
        for at in ({"frames": [frame(intrinsics=inner)]}, {"intrinsics": inner}):
            path = write(tmp_path, **{"frames": [frame()], "w": 640, "h": 480} | at)
            camera = read_nerfstudio(path).camera_of("images/a.png", 640, 480)
            assert camera.params[:4] == (500.0, 510.0, 321.0, 239.5)


def test_a_fourth_radial_term_is_followed_by_three(tmp_path: Path) -> None:
    k1, k2, k3, k4 = 0.05, -0.02, 0.004, 0.003
    path = write(tmp_path, [frame()], **SIZED, k1=k1, k2=k2, k3=k3, k4=k4)
    camera = read_nerfstudio(path).camera_of("images/a.png", 640, 480)
    assert camera.model == "FULL_OPENCV"
    grid = np.meshgrid(np.linspace(-0.55, 0.55, 9), np.linspace(-0.4, 0.4, 9))
    x, y = (values.ravel() for values in grid)
    r2 = x**2 + y**2
    factor = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3 + k4 * r2**4
    exact = np.stack([500 * x * factor + 321, 510 * y * factor + 239.5], axis=1)
    rays = np.stack([x, y, np.ones_like(x)], axis=1)
    assert np.abs(camera.img_from_cam(rays) - exact).max() < 0.05


def test_an_angle_of_view_is_a_focal_length(tmp_path: Path) -> None:
    angle = 2 * math.atan(0.4)
    path = write(tmp_path, [frame("./train/r_0")], camera_angle_x=angle)
    registration = read_nerfstudio(path)
    assert isinstance(registration.cameras[0], SizelessCamera) and registration.remarks
    assert registration.camera_of("train/r_0", 800, 800).focal_px == pytest.approx(1000)
    assert registration.camera_of("train/r_0", 400, 800).focal_px == pytest.approx(500)


def test_a_fisheye_needs_no_size_of_its_images(tmp_path: Path) -> None:
    lens = {key: value for key, value in SIZED.items() if key not in {"w", "h"}}
    terms = {"k1": 0.1, "k2": 0.2, "k3": 0.3, "k4": 0.4}
    path = write(tmp_path, [frame()], camera_model="OPENCV_FISHEYE", **lens, **terms)
    camera = read_nerfstudio(path).camera_of("images/a.png", 640, 480)
    assert camera.model == "OPENCV_FISHEYE"
    assert camera.params == (500, 510, 321, 239.5, 0.1, 0.2, 0.3, 0.4)


def test_splits_come_from_lists_and_from_file_names(tmp_path: Path) -> None:
    listed = write(
        tmp_path,
        [frame("a.png"), frame("./b.png"), frame("c.png")],
        train_filenames=["a.png", "gone.png"],
        val_filenames=["./b.png"],
        test_filenames=["./b.png"],
        **SIZED,
    )
    registration = read_nerfstudio(listed)
    assert (registration.train, registration.test) == (("a.png",), ("b.png",))
    synthetic = tmp_path / "synthetic"
    synthetic.mkdir()
    for side in ("train", "val", "test"):
        meta = {"camera_angle_x": 0.7, "frames": [frame(f"./{side}/r_0")]}
        (synthetic / f"transforms_{side}.json").write_text(json.dumps(meta))
    registration = read_nerfstudio(synthetic)
    assert list(registration.poses) == ["train/r_0", "val/r_0", "test/r_0"]
    assert (registration.train, registration.test) == (("train/r_0",), ("test/r_0",))
    assert any("neither train nor test" in remark for remark in registration.remarks)


def test_a_moved_world_is_said(tmp_path: Path) -> None:
    moved = [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, -1, 0]]
    path = write(tmp_path, [frame()], applied_transform=moved, **SIZED)
    registration = read_nerfstudio(path)
    np.testing.assert_allclose(registration.world_from_cam("images/a.png").translation, 0)
    assert "applied_transform is not undone" in registration.remarks[0]


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"file_path": "b.png"}, "no 'transform_matrix'"),
        ({"transform_matrix": IDENTITY}, "no 'file_path'"),
        (frame("b.png", transform_matrix=np.zeros((4, 4)).tolist()), "last row"),
        (
            frame("b.png", transform_matrix=[[math.nan] * 4] * 4),
            "b.png: 'transform_matrix' has NaN in it, want a finite number",
        ),
        (
            frame("b.png", transform_matrix=[*(2 * np.eye(4)).tolist()[:3], [0, 0, 0, 1]]),
            "averaged",
        ),
        (frame("b.png", transform_matrix=[[1, 2], [3, 4]]), "want numbers of shape"),
        (frame("a.png"), "a second time"),
        (frame("b.png", fl_x=-5), "focal length of"),
        (frame("b.png", fl_x="wide"), "want a number"),
        (frame("b.png", k4=5.0), "end at k3"),
        (7, "want an object"),
    ],
)
def test_a_bad_frame_is_one_line(tmp_path: Path, bad: Any, said: str) -> None:
    path = write(tmp_path, [frame("a.png"), frame("c.png"), bad], **SIZED)
    registration = read_nerfstudio(path)
    assert list(registration.poses) == ["a.png", "c.png"]
    (problem,) = registration.problems
    assert said in problem and "frame 2" in problem and "\n" not in problem


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{}", "no 'frames'"),
        ("[]", "want an object"),
        ('{"frames": [', "no JSON"),
        ('{"frames": 5}', "want a list"),
        (json.dumps({"camera_model": "EQUIRECTANGULAR", "frames": [frame()]}), "EQUIRECTANGULAR"),
    ],
)
def test_another_file_is_refused_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "transforms.json"
    path.write_text(text)
    with pytest.raises(FormatError, match=said) as caught:
        read_nerfstudio(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("model", CAMERAS)
def test_what_is_written_is_read_back(tmp_path: Path, model: str) -> None:
    posed = posed_images(tmp_path, (model,))
    out = tmp_path / "out"
    write_nerfstudio(posed, out)
    assert detect(out) and detect(out / "transforms.json")
    content = json.loads((out / "transforms.json").read_text())
    assert content.get("is_fisheye", False) == model.endswith("FISHEYE")
    registration = read_nerfstudio(out)
    assert_same(registration, posed, {name: f"images/{name}" for name in posed.files})
    assert registration.train == tuple(f"images/{name}" for name in posed.train)
    assert registration.test == tuple(f"images/{name}" for name in posed.test)
    for name, file in posed.files.items():
        assert (out / "images" / name).read_bytes() == file.read_bytes()
    ply = (out / "sparse_pc.ply").read_text().split("end_header\n")[1].splitlines()
    np.testing.assert_allclose(
        np.loadtxt(ply)[:, :3], posed.model.points.positions, rtol=1e-8, atol=1e-8
    )


def test_cameras_of_several_models_are_written_per_frame(tmp_path: Path) -> None:
    posed = posed_images(tmp_path, ("SIMPLE_RADIAL", "OPENCV", "PINHOLE"))
    write_nerfstudio(posed, tmp_path / "out")
    names = {name: f"images/{name}" for name in posed.files}
    assert_same(read_nerfstudio(tmp_path / "out"), posed, names)
    mixed = posed_images(tmp_path, ("OPENCV_FISHEYE", "OPENCV"))
    with pytest.raises(FormatError, match="one camera model for all"):
        write_nerfstudio(mixed, tmp_path / "mixed")
    assert not (tmp_path / "mixed").exists()


@pytest.mark.data
def test_the_fox_is_read(data_dir: Path) -> None:
    path = data_dir / "fox" / "transforms.json"
    assert detect(path)
    registration = read_nerfstudio(path)
    assert len(registration.poses) == 67 and not registration.problems
    (camera,) = registration.cameras
    assert camera.model == "OPENCV" and (camera.width, camera.height) == (1080, 1920)
    # The cameras stand around the fox and look at it: every viewing ray passes near one point.
    poses = [registration.world_from_cam(name) for name in registration.poses]
    centres = np.array([pose.translation for pose in poses])
    ahead = np.array([pose.rotation[:, 2] for pose in poses])
    normal = np.eye(3) - ahead[:, :, None] * ahead[:, None, :]
    middle = np.linalg.solve(normal.sum(0), np.einsum("nij,nj->i", normal, centres))
    assert np.all(np.einsum("nj,nj->n", middle - centres, ahead) > 0)
