"""7-Scenes folders."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from posed_example import posed_images
from relocalize.errors import FormatError
from relocalize.formats.seven_scenes import detect
from relocalize.formats.seven_scenes import read as read_seven_scenes
from relocalize.formats.seven_scenes import write as write_seven_scenes
from relocalize.geometry import Rigid3
from relocalize.geometry.transforms import rotation_angle_deg

POSE = "0 0 1 1\n0 1 0 2\n-1 0 0 3\n0 0 0 1\n"


def write(folder: Path, poses: dict[str, str], **lists: str) -> Path:
    for name, text in poses.items():
        file = folder / f"{name}.pose.txt"
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    for name, text in lists.items():
        (folder / f"{name}.txt").write_text(text)
    return folder


def test_a_pose_maps_the_camera_to_the_world(tmp_path: Path) -> None:
    scene = write(tmp_path, {"seq-01/frame-000000": POSE.replace("\n", "\r\n")})
    assert detect(scene) and detect(scene / "seq-01")
    registration = read_seven_scenes(scene)
    pose = registration.world_from_cam("seq-01/frame-000000.color.png")
    np.testing.assert_allclose(pose @ np.array([0, 0, 5.0]), [6, 2, 3])
    assert registration.unit == "metre"
    camera = registration.camera_of("seq-01/frame-000000.color.png", 640, 480)
    assert (camera.model, camera.params) == ("SIMPLE_PINHOLE", (525, 320, 240))
    assert "no calibration" in registration.remarks[0]
    assert list(read_seven_scenes(scene / "seq-01").poses) == ["frame-000000.color.png"]


def test_images_of_another_size_have_no_known_focal(tmp_path: Path) -> None:
    scene = write(tmp_path, {"seq-01/frame-000000": POSE})
    Image.new("RGB", (80, 45)).save(scene / "seq-01" / "frame-000000.color.jpg")
    registration = read_seven_scenes(scene)
    assert registration.poses["seq-01/frame-000000.color.jpg"][1] is None
    assert "640 x 480" in registration.remarks[0]


def test_lists_of_sequences_are_the_split(tmp_path: Path) -> None:
    poses = {f"seq-{number:02d}/frame-000000": POSE for number in (1, 2, 10)}
    scene = write(
        tmp_path, poses, TrainSplit="sequence10\nsequence1\n", TestSplit="sequence2\nnew\n"
    )
    registration = read_seven_scenes(scene)
    frame = "frame-000000.color.png"
    assert registration.train == (f"seq-10/{frame}", f"seq-01/{frame}")
    assert registration.test == (f"seq-02/{frame}",)
    assert any("'new' is no sequence" in remark for remark in registration.remarks)
    assert detect(scene / "TrainSplit.txt")
    assert len(read_seven_scenes(scene / "TrainSplit.txt").poses) == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0 0 0 0\n" * 4, "matrix of zeros"),
        ("nan nan nan nan\n" * 4, "not finite"),
        ("-1.#IND 0 0 0\n" * 4, "no number"),
        ("inf 0 0 0\n" * 4, "not finite"),
        (POSE.replace("1\n", "2\n"), "last row"),
        (POSE.replace("0 1 0 2", "0 2 0 2"), "no rotation"),
        ("1 2 3\n", "want a camera-to-world"),
        ("", "want a camera-to-world"),
        ("7" * 20_000, "more than 10000 bytes"),
        ("\0", "no text file"),
    ],
)
def test_a_bad_pose_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    good = {f"seq-01/frame-00000{number}": POSE for number in (0, 1)}
    registration = read_seven_scenes(write(tmp_path, good | {"seq-01/frame-000002": text}))
    assert len(registration.poses) == 2
    (problem,) = registration.problems
    assert said in problem and "seq-01/frame-000002.pose.txt: " in problem
    assert "\n" not in problem


def test_other_folders_are_refused_in_one_line(tmp_path: Path) -> None:
    assert not detect(tmp_path)
    with pytest.raises(FormatError, match="it has no seq-01"):
        read_seven_scenes(tmp_path)
    with pytest.raises(FormatError, match="1 of 1 rows"):
        read_seven_scenes(write(tmp_path, {"seq-01/frame-000000": "words"}))


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    posed = posed_images(tmp_path, ("SIMPLE_PINHOLE",))
    out = tmp_path / "out"
    write_seven_scenes(posed, out)
    registration = read_seven_scenes(out)
    rows = [line.split(" ", 1) for line in (out / "names.txt").read_text().splitlines()]
    written = {name: frame for frame, name in rows}
    for name, image in posed.model.images.items():
        pose = registration.poses[written[name]][0]
        assert np.abs(pose.matrix - image.cam_from_world.matrix).max() < 1e-9
        assert (out / written[name]).read_bytes() == posed.files[name].read_bytes()
    assert set(registration.train) == {written[name] for name in posed.train}
    assert set(registration.test) == {written[name] for name in posed.test}
    assert not registration.problems and len(registration.poses) == len(written)


def test_images_become_png_and_no_split_writes_no_lists(tmp_path: Path) -> None:
    posed = posed_images(tmp_path)
    name = "walk0/frame-000.png"
    photo = tmp_path / "photo.jpg"
    Image.new("RGB", (64, 48), (200, 10, 10)).save(photo)
    posed = replace(posed, train=(), test=(), files=posed.files | {name: photo})
    out = tmp_path / "out"
    write_seven_scenes(posed, out)
    with Image.open(out / "seq-01" / "frame-000000.color.png") as image:
        assert image.format == "PNG" and image.size == (64, 48)
    assert not (out / "TrainSplit.txt").exists()
    photo.write_bytes(b"no image")
    with pytest.raises(FormatError, match="is not an image"):
        write_seven_scenes(posed, tmp_path / "again")
    assert not (tmp_path / "again").exists()


@pytest.mark.data
def test_the_stairs_are_read(data_dir: Path) -> None:
    scene = data_dir / "formats" / "seven_scenes" / "stairs"
    assert detect(scene)
    registration = read_seven_scenes(scene)
    assert len(registration.poses) == 12 and not registration.problems
    assert {name[:6] for name in registration.train} == {"seq-02", "seq-03"}
    assert {name[:6] for name in registration.test} == {"seq-01", "seq-04"}


@pytest.mark.data
def test_the_stairs_poses_stand_beside_those_of_the_published_list(data_dir: Path) -> None:
    """The list has the color camera, the folder the depth camera 2 to 4 cm beside it."""
    registration = read_seven_scenes(data_dir / "formats" / "seven_scenes" / "stairs")
    lists = data_dir / "published_estimates" / "pgt" / "dslam" / "7scenes"
    rows = [
        line.split()
        for side in ("train", "test")
        for line in (lists / f"stairs_{side}.txt").read_text().splitlines()
    ]
    listed = {name.removesuffix(".png"): np.array(values, float) for name, *values in rows}
    for name in registration.poses:
        values = listed[name.removesuffix(".jpg")]
        truth = Rigid3.from_quat_wxyz(values[:4], values[4:7]).inverse()
        read = registration.world_from_cam(name)
        assert 0.01 < np.linalg.norm(read.translation - truth.translation) < 0.05
        assert rotation_angle_deg(read.rotation.T @ truth.rotation) < 1.0
