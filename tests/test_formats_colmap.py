"""COLMAP models, text and binary, with and without rigs and frames."""

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pycolmap
import pytest

from posed_example import CAMERAS, assert_same, posed_images
from relocalize.errors import FormatError
from relocalize.formats.colmap import detect, detect_text
from relocalize.formats.colmap import read as read_colmap
from relocalize.formats.colmap import write as write_colmap
from relocalize.formats.colmap import write_text as write_colmap_text
from relocalize.formats.posed_images import PosedImages
from relocalize.geometry import Rigid3
from relocalize.place import MapModel

HALF = 0.5**0.5
GOOD = (
    f"1 {HALF} 0 {HALF} 0 1 2 3 7 walk one/a.jpg\n100 50 5 101 51 -1\n2 1 0 0 0 0 0 0 7 b.jpg\n\n"
)


def write(folder: Path, **files: str) -> Path:
    content = {
        "cameras": "7 SIMPLE_RADIAL 640 480 500 320 240 0.1",
        "images": GOOD,
        "points3D": "5 0 0 5 10 20 30 0.5 1 0",
    } | files
    for name, text in content.items():
        (folder / f"{name}.txt").write_text(f"# Comment\n# Comment\n{text}\n")
    return folder


def test_a_row_maps_the_world_to_the_camera(tmp_path: Path) -> None:
    registration = read_colmap(write(tmp_path))
    assert list(registration.poses) == ["walk one/a.jpg", "b.jpg"] and not registration.problems
    cam_from_world, camera = registration.poses["walk one/a.jpg"]
    np.testing.assert_allclose(cam_from_world @ np.array([0, 0, 5.0]), [6, 2, 3], atol=1e-12)
    assert camera == 0
    assert registration.camera_of("b.jpg", 640, 480).params == (500, 320, 240, 0.1)
    assert registration.stated.convention.name == "wxyz,cam_from_world,RDF,translation"
    model = registration.model
    assert model is not None
    np.testing.assert_array_equal(model.images["walk one/a.jpg"].point_rows, [0, -1])
    np.testing.assert_array_equal(model.points.colors, [[10, 20, 30]])


@pytest.mark.parametrize(
    ("rows", "line", "said"),
    [
        ("3 0 0 0 0 0 0 0 7 c.jpg\n\n", 7, "four zeros"),
        ("3 2 0 0 0 0 0 0 7 c.jpg\n\n", 7, "quaternion of length 2"),
        ("3 nan 0 0 0 0 0 0 7 c.jpg\n\n", 7, "not finite"),
        ("3 1 0 0 0 0 inf 0 7 c.jpg\n\n", 7, "not finite"),
        ("3 1 0 0 0 0 0 0 9 c.jpg\n\n", 7, "no camera 9"),
        ("3 1 0 0 0 0 0 0 7 b.jpg\n\n", 7, "a second time"),
        ("3 1 0 0 0 0 0 c.jpg\n\n", 7, "8 columns"),
        ("3 1 0 0 zero 0 0 0 7 c.jpg\n\n", 7, "no number"),
        ("3 1 0 0 0 0 0 0 7 c.jpg\n1 2\n", 8, "keypoints are not"),
        ("3 1 0 0 0 0 0 0 7 c.jpg\nnan 2 1\n", 8, "keypoints are not"),
    ],
)
def test_a_bad_row_is_one_line_with_its_number(
    tmp_path: Path, rows: str, line: int, said: str
) -> None:
    registration = read_colmap(write(tmp_path, images=GOOD + rows))
    assert list(registration.poses) == ["walk one/a.jpg", "b.jpg"]
    (problem,) = registration.problems
    assert said in problem and f"images.txt, line {line}:" in problem and "\n" not in problem
    assert registration.model is not None and len(registration.model.images) == 2


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"cameras": "7 SIMPLE_RADIAL 640 480 500"}, "takes 4 finite parameters"),
        ({"cameras": "7 ROUND 640 480 500"}, "unknown camera model"),
        ({"cameras": "7 PINHOLE wide"}, "line 3 is no camera"),
        ({"cameras": ""}, "no camera 7"),
        ({"images": ""}, "without posed images"),
        ({"images": "a b c\n\nd e f"}, "2 of 2 rows"),
        ({"points3D": "5 0 0"}, "line 3 is no point"),
        ({"points3D": "5 0 nan 0 1 1 1 0"}, "line 3 is no point"),
        ({"points3D": "5 0 0 0 1 1 1 0\n5 0 0 0 1 1 1 0"}, "twice"),
    ],
)
def test_damaged_text_is_refused_in_one_line(
    tmp_path: Path, files: dict[str, str], said: str
) -> None:
    with pytest.raises(FormatError, match=said) as caught:
        read_colmap(write(tmp_path, **files))
    assert "\n" not in str(caught.value)


def test_a_zero_quaternion_in_a_binary_model_is_refused(tmp_path: Path) -> None:
    posed_images(tmp_path).model.write(tmp_path)
    path = tmp_path / "images.bin"
    data = bytearray(path.read_bytes())
    struct.pack_into("<4d", data, 8 + 4, 0, 0, 0, 0)  # the first image's, after count and id
    path.write_bytes(data)
    registration = read_colmap(tmp_path)
    assert list(registration.poses) == list(posed_images(tmp_path).model.images)[1:]
    assert "images.bin, row 0: " in registration.problems[0]
    assert "four zeros" in registration.problems[0]


def test_old_and_new_models_read_alike(tmp_path: Path) -> None:
    """The files of rigs and frames repeat the poses of images without them."""
    posed = posed_images(tmp_path)
    posed.model.write(tmp_path)
    assert (tmp_path / "frames.bin").is_file()
    new = read_colmap(tmp_path)
    (tmp_path / "frames.bin").unlink()
    (tmp_path / "rigs.bin").unlink()
    old = read_colmap(tmp_path)
    for name, (pose, _) in new.poses.items():
        np.testing.assert_array_equal(pose.matrix, old.poses[name][0].matrix)


def test_a_camera_on_a_rig_has_its_own_pose(tmp_path: Path) -> None:
    """COLMAP keeps frames' poses, and each image's composed one beside them."""
    cameras = [pycolmap.Camera.create_from_model_name(i, "PINHOLE", 50.0, 64, 48) for i in (1, 2)]
    rig = pycolmap.Rig(rig_id=1)
    rig.add_ref_sensor(cameras[0].sensor_id)
    second_from_rig = Rigid3.from_quat_wxyz([1, 0, 0.1, 0.2], [1, 0, 0])
    rig.add_sensor(cameras[1].sensor_id, second_from_rig.to_colmap())
    rig_from_world = Rigid3.from_quat_wxyz([1, 0.1, 0, 0], [0, 2, 0])
    frame = pycolmap.Frame(frame_id=1, rig_id=1)
    model = pycolmap.Reconstruction()
    for number, camera in enumerate(cameras, start=1):
        model.add_camera(camera)
        frame.add_data_id(pycolmap.data_t(camera.sensor_id, number))
    frame.rig_from_world = rig_from_world.to_colmap()
    model.add_rig(rig)
    model.add_frame(frame)
    for number in (1, 2):
        image = pycolmap.Image(name=f"{number}.png", camera_id=number, image_id=number)
        image.frame_id = 1
        model.add_image(image)
    for kind in ("binary", "text"):
        (tmp_path / kind).mkdir()
        getattr(model, f"write_{kind}")(str(tmp_path / kind))
        poses = read_colmap(tmp_path / kind).poses
        np.testing.assert_allclose(poses["1.png"][0].matrix, rig_from_world.matrix, atol=1e-12)
        expected = (second_from_rig @ rig_from_world).matrix
        np.testing.assert_allclose(poses["2.png"][0].matrix, expected, atol=1e-12)


Writer = Callable[[PosedImages, Path], None]


@pytest.mark.parametrize("model", CAMERAS)
@pytest.mark.parametrize(
    ("write_it", "is_it"), [(write_colmap, detect), (write_colmap_text, detect_text)]
)
def test_what_is_written_is_read_back(
    tmp_path: Path, model: str, write_it: Writer, is_it: Callable[[Path], bool]
) -> None:
    posed = posed_images(tmp_path, (model, "PINHOLE"))
    out = tmp_path / "out"
    write_it(posed, out)
    assert [detect(out), detect_text(out)] == [is_it is detect, is_it is detect_text]
    registration = read_colmap(out)
    assert_same(registration, posed)
    read = registration.model
    assert read is not None
    for field in ("ids", "positions", "colors", "reprojection_errors", "track_lengths"):
        np.testing.assert_array_equal(
            getattr(read.points, field), getattr(posed.model.points, field)
        )
    for name, image in posed.model.images.items():
        assert read.images[name].camera == image.camera
        np.testing.assert_array_equal(read.images[name].keypoints, image.keypoints)
        np.testing.assert_array_equal(read.images[name].point_rows, image.point_rows)
        assert (out / "images" / name).read_bytes() == posed.files[name].read_bytes()
    # COLMAP itself reads the same, which it would not if the two readers were wrong together.
    theirs = MapModel.from_colmap(pycolmap.Reconstruction(str(out / "sparse" / "0")))
    for name, image in theirs.images.items():
        np.testing.assert_allclose(
            image.cam_from_world.matrix, read.images[name].cam_from_world.matrix, atol=1e-12
        )
        np.testing.assert_array_equal(image.point_rows, read.images[name].point_rows)


def test_a_name_that_text_cannot_hold_is_refused(tmp_path: Path) -> None:
    posed = posed_images(tmp_path)
    posed.model.images["walk 0/a.png"] = posed.model.images.pop("walk0/frame-000.png")
    with pytest.raises(FormatError, match="blank"):
        write_colmap_text(posed, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.data
@pytest.mark.parametrize(
    ("sample", "images", "points"),
    [("formats/colmap/maupertuis/reconstruction", 4, 1039), ("lund_door/colmap_text", 12, 11384)],
)
def test_the_samples_read_as_colmap_reads_them(
    data_dir: Path, sample: str, images: int, points: int
) -> None:
    folder = data_dir / sample
    assert detect_text(folder) and not detect(folder)
    registration = read_colmap(folder)
    assert len(registration.poses) == images and not registration.problems
    model, theirs = registration.model, MapModel.from_colmap(pycolmap.Reconstruction(str(folder)))
    assert model is not None and len(model.points) == points
    np.testing.assert_array_equal(model.points.ids, theirs.points.ids)
    np.testing.assert_array_equal(model.points.track_lengths, theirs.points.track_lengths)
    for name, image in model.images.items():
        other = theirs.images[name]
        np.testing.assert_array_equal(image.point_rows, other.point_rows)
        np.testing.assert_allclose(
            image.cam_from_world.matrix, other.cam_from_world.matrix, atol=1e-5
        )
        seen = image.point_rows >= 0
        in_cam = image.cam_from_world @ model.points.positions[image.point_rows[seen]]
        assert np.all(in_cam[:, 2] > 0)
