"""Export: what another tool gets is what the Place holds, also where images change size."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.spatial.transform import Rotation

from relocalize.cli.main import main
from relocalize.errors import FormatError, PlaceError
from relocalize.formats import Registration, read_registration
from relocalize.formats.registry import FORMATS
from relocalize.formats.resizing import ASPECTS, Resizing
from relocalize.geometry import Camera, Rigid3
from relocalize.place import (
    Capture,
    CapturedImage,
    Frame,
    MapModel,
    Place,
    Points,
    PosedImage,
    Split,
    atomic,
)
from relocalize.verbs.export import export

CAMERA = Camera("SIMPLE_RADIAL", 64, 48, (60.0, 31.0, 25.0, 0.05))
POINTS = np.array([[0.2, 0.1, 4.0], [-0.8, 0.3, 5.0], [0.9, -0.6, 3.0], [1.9, 0.0, 4.5]])
WRITERS = [name for name, one in FORMATS.items() if one.write is not None]


def names(capture: str, count: int) -> list[str]:
    return [f"{capture}/frame-{i:06d}.png" for i in range(count)]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Place:
    """Two captures of one camera, twelve posed images that see four points exactly."""
    place = Place.create(tmp_path_factory.mktemp("export") / "place")
    rng = np.random.default_rng(3)
    turns = Rotation.from_rotvec(rng.normal(0, 0.05, (12, 3))).as_matrix()
    images = {}
    for row, name in enumerate(names("walk", 9) + names("visit", 3)):
        pose = Rigid3(turns[row], rng.normal(0, 0.1, 3))
        pixels = CAMERA.img_from_cam(pose @ POINTS).astype(np.float32)
        seen = np.all((pixels >= 0) & (pixels <= (64, 48)), axis=1)
        images[name] = PosedImage(name, CAMERA, 1, pose, pixels[seen], np.flatnonzero(seen))
        path = place.image_path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (48, 64, 3), np.uint8)).save(path)
    with place.lock():
        for capture, count in (("walk", 9), ("visit", 3)):
            place.write_capture(
                Capture(
                    capture,
                    "video",
                    "a.mp4",
                    (CAMERA,),
                    tuple(
                        CapturedImage(name, time_s=0.1 * i)
                        for i, name in enumerate(names(capture, count))
                    ),
                )
            )
        place.record_poses(poses_from="made", frame=Frame(unit="metre", scale_from="made"))
        points = Points(
            np.arange(1, 5), POINTS, np.full((4, 3), 9, np.uint8), np.zeros(4), np.full(4, 12)
        )
        with atomic.new_folder(place.map_dir) as folder:
            MapModel(dict(sorted(images.items())), points).write(folder)
        walk = names("walk", 9)
        place.write_split(Split("blocks", "blocks", tuple(walk[:4]), tuple(walk[6:])))
    return place


# -- every writer ----------------------------------------------------------------------------


def listed_as(read: Registration, centre: np.ndarray) -> str:
    """How a format names the image with this camera centre; some have names of their own."""
    gaps = {
        one: np.linalg.norm(read.world_from_cam(one).translation - centre) for one in read.poses
    }
    return min(gaps, key=gaps.__getitem__)


@pytest.mark.parametrize("name", WRITERS)
def test_what_is_read_back_is_what_was_written(made, tmp_path, name):
    export(made, tmp_path / "out", name, split="none")
    read = read_registration(tmp_path / "out", name)
    assert len(read.poses) == 12
    assert not read.problems
    seen = set()
    for image in made.map.images.values():
        listed = listed_as(read, image.world_from_cam.translation)
        seen.add(listed)
        want = image.world_from_cam.matrix
        np.testing.assert_allclose(read.world_from_cam(listed).matrix, want, atol=1e-9)
        assert read.camera_of(listed, 64, 48) == CAMERA
    if FORMATS[name].poses_only:
        assert read.unit == made.unit
    assert len(seen) == 12


BESIDE = [name for name, one in FORMATS.items() if one.poses_only]


@pytest.mark.parametrize("name", BESIDE)
def test_what_the_format_has_no_place_for_lies_beside_it_and_is_said(made, tmp_path, name):
    report = export(made, tmp_path / "out", name, split="none")
    (said,) = report.remarks
    assert "no place for intrinsics" in said
    assert "cameras.json" in said
    assert CAMERA.model in said
    (tmp_path / "out" / "cameras.json").unlink()
    read = read_registration(tmp_path / "out", name)
    assert len(read.poses) == 12
    assert all(read.camera_of(one, 64, 48) != CAMERA for one in read.poses)


@pytest.mark.parametrize("name", BESIDE)
@pytest.mark.parametrize(
    "damage",
    [
        "{",
        "[]",
        '{"unit": "inch", "cameras": [], "images": {}}',
        '{"unit": "metre", "cameras": [{"model": "PINHOLE"}], "images": {}}',
        '{"unit": "metre", "cameras": [{"model": "PINHOLE", "width": 4, "height": 4, '
        '"params": [1, 1]}], "images": {}}',
        '{"unit": "metre", "cameras": 7, "images": 3}',
    ],
)
def test_damaged_cameras_are_one_line(made, tmp_path, name, damage):
    export(made, tmp_path / "out", name, split="none")
    (tmp_path / "out" / "cameras.json").write_text(damage)
    with pytest.raises(FormatError, match=r"cameras\.json") as error:
        read_registration(tmp_path / "out", name)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("name", WRITERS)
def test_what_is_written_is_recognised(made, tmp_path, name):
    export(made, tmp_path / "out", name)
    detected = [other for other, one in FORMATS.items() if one.detect(tmp_path / "out")]
    assert FORMATS[detected[0]].read == FORMATS[name].read


@pytest.mark.parametrize("name", WRITERS)
def test_a_failing_export_leaves_nothing(made, tmp_path, name, monkeypatch):
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("relocalize.place.Place.read_image", fail)
        with pytest.raises(OSError, match="No space"):
            export(made, tmp_path / "out", name, resize=(32, 24))
    assert not list(tmp_path.iterdir())


def test_what_a_kill_left_is_cleared_away_by_the_next_export(made, tmp_path):
    command = [sys.executable, "-m", "relocalize", "export", str(made.root)]
    command += [str(tmp_path / "out"), "--format", "cambridge", "--resize", "4000x3000"]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    images = tmp_path / ".writing-out" / "images"
    started = time.monotonic()
    while not images.is_dir() and running.poll() is None and time.monotonic() - started < 60:
        time.sleep(0.01)
    assert running.poll() is None, "the export ended before it could be killed"
    running.kill()
    running.wait()
    assert not (tmp_path / "out").exists()
    assert images.is_dir()
    export(made, tmp_path / "out", "cambridge")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


# -- which images ----------------------------------------------------------------------------


def test_the_only_split_is_taken_and_its_gap_left_out(made, tmp_path):
    report = export(made, tmp_path / "out", "cambridge")
    assert (report.images, report.train, report.test, report.not_in_split) == (7, 4, 3, 5)
    read = read_registration(tmp_path / "out")
    walk = names("walk", 9)
    assert (read.train, read.test) == (tuple(walk[:4]), tuple(walk[6:]))
    assert sorted(path.name for path in (tmp_path / "out" / "walk").iterdir()) == sorted(
        Path(name).name for name in read.poses
    )


def test_one_capture_is_exported_with_its_times(made, tmp_path):
    export(made, tmp_path / "out", "tum", split="none", capture="visit")
    rows = (tmp_path / "out" / "groundtruth.txt").read_text().splitlines()
    assert [float(row.split()[0]) for row in rows[2:]] == [0.0, 0.1, 0.2]
    assert len(list((tmp_path / "out" / "rgb" / "visit").iterdir())) == 3


def test_captures_that_both_begin_at_0_seconds_do_not_share_times(made, tmp_path):
    export(made, tmp_path / "out", "tum", split="none")
    assert len(read_registration(tmp_path / "out").poses) == 12


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("pose-list", {}, "does not write 'pose-list'; it writes .*cambridge"),
        ("obj", {}, "unknown format 'obj'"),
        ("tum", {"split": "other"}, "no split 'other'"),
        ("tum", {"capture": "other"}, "no capture 'other'"),
        ("tum", {"capture": "visit", "split": "blocks"}, "in capture visit and in split blocks"),
        ("tum", {"resize": (0, 10)}, "sides of 1 to 65535"),
        ("tum", {"resize": (10, 10**6)}, "sides of 1 to 65535"),
    ],
)
def test_what_cannot_be_exported_is_one_line_and_leaves_nothing(
    made, tmp_path, name, settings, said
):
    with pytest.raises((FormatError, PlaceError), match=said) as caught:
        export(made, tmp_path / "out", name, **settings)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(made, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "full", tmp_path / "file", made.images_dir / "new"):
        with pytest.raises(FormatError, match=r"not empty|there already|lies in the Place"):
            export(made, out, "tum")
    (tmp_path / "empty").mkdir()
    export(made, tmp_path / "empty", "tum")
    assert (tmp_path / "full" / "mine.txt").read_text() == "mine"


# -- other sizes -----------------------------------------------------------------------------

SIZES = st.tuples(st.integers(8, 300), st.integers(8, 300))
CAMERAS = [
    ("SIMPLE_PINHOLE", ()),
    ("PINHOLE", ()),
    ("SIMPLE_RADIAL", (0.1,)),
    ("RADIAL", (0.1, -0.05)),
    ("OPENCV", (0.1, -0.05, 0.01, -0.02)),
    ("FULL_OPENCV", (0.1, -0.05, 0.01, -0.02, 0.01, 0.02, 0.01, 0.0)),
    ("SIMPLE_FISHEYE", ()),
    ("SIMPLE_DIVISION", (-0.1,)),
    ("SIMPLE_RADIAL_FISHEYE", (0.1,)),
    ("RADIAL_FISHEYE", (0.1, 0.02)),
    ("OPENCV_FISHEYE", (0.1, 0.02, 0.01, 0.0)),
    ("FOV", (0.5,)),
]


@given(size=SIZES, new_size=SIZES, aspect=st.sampled_from(ASPECTS), which=st.sampled_from(CAMERAS))
def test_the_camera_moves_pixels_as_the_image_does(size, new_size, aspect, which):
    """Projecting with the new camera is projecting with the old one, then resizing."""
    model, terms = which
    width, height = size
    focals = (
        (90.0,)
        if len(Camera.from_focal(9, 9, 9.0, model=model).params) == 3 + len(terms)
        else (90.0, 95.0)
    )
    camera = Camera(model, width, height, (*focals, width / 2 + 3, height / 2 - 2, *terms))
    change = Resizing.to(size, new_size, aspect)
    resized = change.camera(camera)
    assert (resized.width, resized.height) == new_size
    moved = change.points(camera.img_from_cam(POINTS))
    np.testing.assert_allclose(resized.img_from_cam(POINTS), moved, rtol=1e-6, atol=1e-4)


@given(size=SIZES, new_size=SIZES, aspect=st.sampled_from(ASPECTS))
def test_the_image_moves_as_its_points_do(size, new_size, aspect):
    """The centroid of a blurred spot in the resized image is where `points` says."""
    width, height = size
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    ramp_x, ramp_y = 20 + 200 * x / width, 20 + 200 * y / height
    image = np.stack([ramp_x, ramp_y, ramp_x], axis=2).astype(np.uint8)
    change = Resizing.to(size, new_size, aspect)
    resized = change.pixels(image)
    assert resized.shape == (new_size[1], new_size[0], 3)
    middle = np.array([[width / 2, height / 2]], dtype=np.float32)
    column, row = change.points(middle)[0]
    red, green, _ = resized[
        min(int(row), new_size[1] - 1), min(int(column), new_size[0] - 1)
    ].astype(float)
    # One pixel of the coarser of the two images.
    assert abs(red - 120) <= 200 * max(1 / width, 1 / change.target[2]) + 2
    assert abs(green - 120) <= 200 * max(1 / height, 1 / change.target[3]) + 2


def test_the_classical_size_keeps_the_shape_of_16_to_9_and_says_what_it_does_to_4_to_3():
    assert Resizing.to((1920, 1080), (455, 256), "crop").description == (
        "1920x1080 to 455x256: whole, shape kept"
    )
    assert Resizing.to((640, 480), (455, 256), "crop").description == (
        "640x480 to 455x256: cropped to the middle 640x360"
    )
    assert Resizing.to((640, 480), (455, 256), "pad").description == (
        "640x480 to 455x256: 341x256 between black bars"
    )
    assert Resizing.to((640, 480), (455, 256), "stretch").description == (
        "640x480 to 455x256: stretched by 33.3% across"
    )


@pytest.mark.parametrize("aspect", ASPECTS)
def test_observations_stay_where_the_points_project(made, tmp_path, aspect):
    export(made, tmp_path / "out", "colmap", split="none", resize=(45, 25), aspect=aspect)
    model = read_registration(tmp_path / "out").model
    assert model is not None
    assert len(model.points) >= 3
    for image in model.images.values():
        seen = image.point_rows >= 0
        points = image.cam_from_world @ model.points.positions[image.point_rows[seen]]
        projected = image.camera.img_from_cam(points)
        np.testing.assert_allclose(projected, image.keypoints[seen], atol=1e-3)
        assert np.all((image.keypoints >= 0) & (image.keypoints <= (45, 25)))


# -- the classical PoseNet layout ------------------------------------------------------------


def test_the_mean_image_is_of_the_train_images_only(made, tmp_path):
    report = export(made, tmp_path / "out", "cambridge", resize=(40, 30), mean_image=True)
    assert report.mean_image_of == 4
    read = read_registration(tmp_path / "out")
    train = [np.asarray(Image.open(tmp_path / "out" / name)) for name in read.train]
    mean = np.load(tmp_path / "out" / "mean.npy")
    assert mean.shape == (30, 40, 3)
    np.testing.assert_allclose(mean, np.mean(train, axis=0), atol=1e-4)
    shown = np.asarray(Image.open(tmp_path / "out" / "mean.png")).astype(float)
    assert np.abs(shown - mean).max() <= 0.5


def test_the_command_writes_the_classical_layout(made, tmp_path, capsys):
    arguments = ["export", str(made.root), str(tmp_path / "out"), "--format", "cambridge"]
    arguments += ["--resize", "455x256", "--mean-image"]
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    printed = capsys.readouterr()
    assert ended.value.code == 0
    assert "7 images are in" in printed.out
    assert "64x48 to 455x256: cropped to the middle 64x36" in printed.out
    assert "of the 4 train images" in printed.out
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("dataset_train.txt", "dataset_test.txt", "cameras.json", "walk"),
        *("mean.npy", "mean.png"),
    }
    with Image.open(tmp_path / "out" / "walk" / "frame-000000.png") as image:
        assert image.size == (455, 256)
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 1
    assert "is not empty" in capsys.readouterr().err


def test_json_is_one_object_and_a_bad_size_one_line(made, tmp_path, capsys):
    arguments = ["export", str(made.root), str(tmp_path / "out"), "--format", "tum"]
    with pytest.raises(SystemExit):
        main([*arguments, "--json"])
    report = json.loads(capsys.readouterr().out)
    assert (report["images"], report["format"], report["resized"]) == (12, "TUM trajectory", [])
    for size in ("455", "455x", "axb", "-1x5"):
        with pytest.raises(SystemExit) as ended:
            main([*arguments, f"--resize={size}"])
        assert ended.value.code == 1
        assert capsys.readouterr().err.count("\n") == 1
