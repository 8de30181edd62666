"""kapture folders."""

from pathlib import Path

import numpy as np
import pytest

from posed_example import CAMERAS, assert_same, posed_images
from relocalize.errors import FormatError
from relocalize.formats.kapture import detect
from relocalize.formats.kapture import read as read_kapture
from relocalize.formats.kapture import write as write_kapture
from relocalize.geometry import Rigid3

HALF = 0.5**0.5
CAMERA = "cam, my phone, camera, SIMPLE_RADIAL, 640, 480, 500, 320, 240, 0.1"


def write(folder: Path, **files: str) -> Path:
    sensors = folder / "sensors"
    sensors.mkdir(exist_ok=True)
    content = {
        "sensors": CAMERA,
        "records_camera": "0, cam, a/0.jpg\n1, cam, a/1.jpg\n2, cam, a/2.jpg",
        "trajectories": "0, cam, 1, 0, 0, 0, 0, 0, 0\n1, cam, 1, 0, 0, 0, 0, 0, 1",
    } | files
    for name, text in content.items():
        (sensors / f"{name}.txt").write_text(f"# kapture format: 1.1\n# columns\n{text}\n")
    return folder


def test_a_trajectory_maps_the_world_to_the_device(tmp_path: Path) -> None:
    quarter = f"0000,cam,{HALF}, 0, {HALF} ,0, 1, 2, 3"  # about y: world z becomes camera x
    path = write(tmp_path, trajectories=quarter)
    assert all(map(detect, (path, path / "sensors", path / "sensors" / "trajectories.txt")))
    registration = read_kapture(path)
    assert list(registration.poses) == ["a/0.jpg"]
    assert registration.remarks == ("2 images have no pose",)
    cam_from_world, camera = registration.poses["a/0.jpg"]
    np.testing.assert_allclose(cam_from_world @ np.array([0, 0, 5.0]), [6, 2, 3], atol=1e-12)
    assert camera == 0
    assert registration.camera_of("a/0.jpg", 640, 480).params == (500, 320, 240, 0.1)
    assert registration.stated.convention.name == "wxyz,cam_from_world,RDF,translation"


def test_rigs_are_followed_to_the_world_through_rigs(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        trajectories="0, car, 1, 0, 0, 0, 0, 0, 1\n1, cam, 1, 0, 0, 0, 5, 0, 0",
        rigs=f"roof, cam, {HALF}, 0, {HALF}, 0, 1, 0, 0\ncar, roof, 1, 0, 0, 0, 0, 2, 0",
    )
    registration = read_kapture(path)
    cam_from_roof = Rigid3.from_quat_wxyz([HALF, 0, HALF, 0], [1, 0, 0])
    roof_from_world = Rigid3(np.eye(3), np.array([0, 2, 1.0]))
    expected = cam_from_roof @ roof_from_world
    np.testing.assert_allclose(registration.poses["a/0.jpg"][0].matrix, expected.matrix, atol=1e-12)
    np.testing.assert_allclose(registration.poses["a/1.jpg"][0].translation, [5, 0, 0], atol=1e-12)


def test_a_second_pose_of_a_device_is_said(tmp_path: Path) -> None:
    twice = "0, cam, 1, 0, 0, 0, 0, 0, 0\n0, cam, 1, 0, 0, 0, 9, 9, 9"
    registration = read_kapture(write(tmp_path, trajectories=twice))
    np.testing.assert_array_equal(registration.poses["a/0.jpg"][0].translation, 0)
    assert "line 4: a second pose" in registration.remarks[1]


def test_rigs_in_a_circle_give_no_pose(tmp_path: Path) -> None:
    rigs = "a, cam, 1, 0, 0, 0, 0, 0, 0\ncam, a, 1, 0, 0, 0, 0, 0, 0\na, a, 1, 0, 0, 0, 0, 0, 0"
    registration = read_kapture(write(tmp_path, rigs=rigs))
    assert list(registration.poses) == ["a/0.jpg", "a/1.jpg"]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("2, cam, 0, 0, 0, 0, 0, 0, 0", "four zeros"),
        ("2, cam, 2, 0, 0, 0, 0, 0, 0", "quaternion of length 2"),
        ("2, cam, nan, 0, 0, 0, 0, 0, 0", "not finite"),
        ("2, cam, , , , , 0, 0, 0", "empty rotation"),
        ("2, cam, 1, 0, 0, 0", "6 columns"),
        ("2, cam, 1, 0, 0, zero, 0, 0, 0", "no number"),
    ],
)
def test_a_bad_pose_is_one_line_with_its_file_and_line(tmp_path: Path, row: str, said: str) -> None:
    good = "0, cam, 1, 0, 0, 0, 0, 0, 0\n1, cam, 1, 0, 0, 0, 0, 0, 1\n"
    registration = read_kapture(write(tmp_path, trajectories=good + row))
    assert list(registration.poses) == ["a/0.jpg", "a/1.jpg"]
    (problem,) = registration.problems
    assert said in problem and "trajectories.txt, line 5" in problem and "\n" not in problem


@pytest.mark.parametrize(
    "files",
    [
        {"sensors": "cam, , camera, OPENCV, 640, 480, 500"},
        {"sensors": "cam, , camera, SIMPLE_PINHOLE, 640, 480, nan, 1, 1"},
        {"sensors": "cam, , lidar"},
        {"sensors": "cam"},
        {"records_camera": "0, cam"},
        {"records_camera": "zero, cam, a.jpg"},
        {"records_camera": ""},
        {"trajectories": ""},
        {"trajectories": "zero, cam, 1, 0, 0, 0, 0, 0, 0"},
        {"trajectories": "5, cam, 1, 0, 0, 0, 0, 0, 0"},
        {"rigs": "lonely"},
    ],
)
def test_other_folders_are_refused_in_one_line(tmp_path: Path, files: dict[str, str]) -> None:
    with pytest.raises(FormatError) as caught:
        read_kapture(write(tmp_path, **files))
    assert "\n" not in str(caught.value)


def test_missing_files_are_said(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"sensors/sensors\.txt"):
        read_kapture(tmp_path)
    (write(tmp_path) / "sensors" / "trajectories.txt").unlink()
    with pytest.raises(FormatError, match=r"no trajectories\.txt"):
        read_kapture(tmp_path)


@pytest.mark.parametrize("model", CAMERAS)
def test_what_is_written_is_read_back(tmp_path: Path, model: str) -> None:
    posed = posed_images(tmp_path, (model, "PINHOLE"))
    out = tmp_path / "out"
    write_kapture(posed, out)
    assert detect(out)
    registration = read_kapture(out)
    assert_same(registration, posed)
    assert registration.model is not None
    np.testing.assert_array_equal(registration.model.points.positions, posed.model.points.positions)
    np.testing.assert_array_equal(registration.model.points.colors, posed.model.points.colors)
    assert registration.model.points.reprojection_errors.max() < 1e-5
    for name, image in posed.model.images.items():
        read = registration.model.images[name]
        seen = {
            int(row): tuple(xy) for row, xy in zip(read.point_rows, read.keypoints, strict=True)
        }
        assert seen == {
            int(row): tuple(xy) for row, xy in zip(image.point_rows, image.keypoints, strict=True)
        }
        file = out / "sensors" / "records_data" / name
        assert file.read_bytes() == posed.files[name].read_bytes()


def test_damaged_points_do_not_cost_the_poses(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_kapture(posed_images(tmp_path), out)
    observations = out / "reconstruction" / "observations.txt"
    text = observations.read_text()
    for bad in ("99, relocalize, walk0/frame-000.png, 0", "0, ../.., walk0/frame-000.png, 0", "0"):
        observations.write_text(text + bad + "\n")
        registration = read_kapture(out)
        assert registration.model is None and len(registration.poses) == 4
        assert "points are left out" in registration.remarks[0]


def test_what_the_format_cannot_hold_is_refused(tmp_path: Path) -> None:
    posed = posed_images(tmp_path)
    image = posed.model.images.pop("walk0/frame-000.png")
    posed.model.images["walk0/frame,000.png"] = image
    with pytest.raises(FormatError, match="commas"):
        write_kapture(posed, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.data
def test_the_samples_points_project_onto_their_keypoints(data_dir: Path) -> None:
    path = data_dir / "formats" / "kapture" / "maupertuis"
    assert detect(path)
    registration = read_kapture(path)
    assert len(registration.poses) == 4 and not registration.problems
    model = registration.model
    assert model is not None and len(model.points) == 1039
    assert np.median(model.points.reprojection_errors) < 1.0


@pytest.mark.data
def test_the_rig_of_the_stairs_sample_gives_the_data_sets_own_poses(data_dir: Path) -> None:
    """kapture's rig has the 7-Scenes pose; its color camera stands 2.5 cm beside it."""
    path = data_dir / "formats" / "kapture" / "stairs"
    registration = read_kapture(path)
    assert len(registration.poses) == 12 and not registration.problems
    depth_from_color = Rigid3.from_quat_wxyz(
        [-0.9999829690719851, -0.004080640735846227, 0.00394659107519435, 0.0013543840101732576],
        [-0.025558943178152542, 0.00010109636268061706, 0.002031832172948704],
    ).inverse()
    for name, (cam_from_world, _) in registration.poses.items():
        stem = name.removesuffix(".color.jpg")
        pose_file = data_dir / "formats" / "seven_scenes" / "stairs" / f"{stem}.pose.txt"
        world_from_depth = (depth_from_color @ cam_from_world).inverse()
        np.testing.assert_allclose(world_from_depth.matrix, np.loadtxt(pose_file), atol=1e-4)


@pytest.mark.data
def test_the_virtual_gallerys_six_cameras_have_poses(data_dir: Path) -> None:
    registration = read_kapture(data_dir / "formats" / "kapture" / "virtual_gallery_sensors")
    assert len(registration.poses) == 88 and not registration.problems
