"""Wrong input through the whole command line: one clear line, and the Place stays usable."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from relocalize import Place
from relocalize.cli import main as cli

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def relocalize(capfd: pytest.CaptureFixture[str]) -> Run:
    """Run the command in this process: exit code, and all that reached stdout and stderr.

    From the file descriptors, so that what native libraries write is seen as well.
    """

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main([str(argument) for argument in arguments])
        output = capfd.readouterr()
        return int(ended.value.code or 0), output.out, output.err

    return run


def noise(seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 255, (240, 320, 3), dtype=np.uint8)


def folder_of(path: Path, images: list[NDArray[np.uint8]]) -> Path:
    path.mkdir()
    for number, pixels in enumerate(images):
        Image.fromarray(pixels).save(path / f"{number}.png")
    return path


def error_line(err: str) -> str:
    """The one line that says what is wrong; all other lines are progress."""
    lines = err.splitlines()
    assert [line for line in lines if line.startswith("error: ")] == lines[-1:]
    return lines[-1]


def only_progress(err: str) -> bool:
    """No traceback, and no log of a native library (glog begins lines like ``E20261231``)."""
    return "Traceback" not in err and not any(
        line[:1] in "IWEF" and line[1:5].isdigit() for line in err.splitlines()
    )


def test_images_without_features_are_one_line_and_no_obstacle(
    tmp_path: Path, relocalize: Run
) -> None:
    black = [np.full((240, 320, 3), grey, np.uint8) for grey in (0, 1, 2)]
    photos = folder_of(tmp_path / "black", [*black, np.zeros((1, 1, 3), np.uint8)])
    code, out, err = relocalize("build", photos, tmp_path / "place")
    assert (code, out) == (1, "")
    assert "4 images show nothing that could be recognized" in error_line(err)
    assert only_progress(err)
    assert relocalize("info", tmp_path / "place")[0] == 0


def test_unrelated_images_are_one_line_however_often_they_are_mapped(
    tmp_path: Path, relocalize: Run
) -> None:
    # Some without matches, one without features: pairs like these must not be in the way of the
    # second run, which finds them tried.
    images = [noise(1), noise(2), noise(3), np.zeros((240, 320, 3), np.uint8)]
    photos = folder_of(tmp_path / "photos", images)
    for _ in range(2):
        code, out, err = relocalize("build", photos, tmp_path / "place")
        assert (code, out) == (1, "")
        assert "no two of the 4 images could be set in relation" in error_line(err)
        assert only_progress(err)
    assert not Place.open(tmp_path / "place").has_map


def test_a_video_without_frames_is_one_line(tmp_path: Path, relocalize: Run) -> None:
    video = tmp_path / "nothing.mp4"
    with av.open(str(video), "w") as container:
        stream = container.add_stream("mpeg4", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        container.start_encoding()
    code, out, err = relocalize("frames", video, tmp_path / "place")
    assert (code, out) == (1, "")
    assert "no video track" in error_line(err)
    assert "only nothing" not in err
    assert not (tmp_path / "place").exists()


def test_a_damaged_map_is_one_line_for_readers_and_is_mapped_again(
    tmp_path: Path, corridor_place: Place, relocalize: Run
) -> None:
    root = tmp_path / "place"
    shutil.copytree(corridor_place.root, root)
    for name in ("points3D.bin", "map.json", "database.db"):
        file = root / "map" / name
        whole = file.read_bytes()
        file.write_bytes(whole[: len(whole) // 2])
    photo = folder_of(tmp_path / "photos", [noise(1)]) / "0.png"
    for command in (["info", root], ["localize", root, photo], ["evaluate", root]):
        code, out, err = relocalize(*command)
        assert (code, out) == (1, "")
        assert "points3D.bin is damaged" in error_line(err)
        assert "relocalize map" in error_line(err)
        assert only_progress(err)
    code, out, err = relocalize("map", root)
    assert code == 0
    assert "mapping again" in err
    assert "extracting features again" in err
    assert only_progress(err)
    assert Place.open(root).map.images.keys() == corridor_place.map.images.keys()


def test_each_photo_that_cannot_be_localized_is_one_json_line(
    tmp_path: Path, corridor_place: Place, relocalize: Run
) -> None:
    photos = folder_of(
        tmp_path / "photos",
        [np.zeros((240, 320, 3), np.uint8), np.zeros((1, 1, 3), np.uint8), noise(5)],
    )
    (photos / "text.jpg").write_text("no image")
    root = tmp_path / "place"
    shutil.copytree(corridor_place.root, root)
    code, out, err = relocalize("localize", root, photos, "--json", "--localizer", "retrieval")
    rows = [json.loads(line, parse_constant=pytest.fail) for line in out.splitlines()]
    assert code == 0
    assert [Path(row["image"]).name for row in rows] == ["0.png", "1.png", "2.png", "text.jpg"]
    assert [row["status"] for row in rows[:2]] == ["failed", "failed"]
    assert rows[3]["status"] == "failed"
    assert all(row["reason"] for row in rows if row["status"] == "failed")
    assert {tuple(row) for row in rows} == {
        (
            *("image", "localizer", "status", "reason", "world_from_cam", "position"),
            *("quat_wxyz", "position_sigma", "rotation_sigma_deg", "covariance", "unit"),
            *("inliers", "captures", "camera", "milliseconds"),
        )
    }
    assert only_progress(err)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--scale", "walk/nowhere.jpg", "walk/frame-000000.jpg", "1"), "'walk/nowhere.jpg'"),
        (("--scale", "walk/frame-000000.jpg@left", "walk/frame-000000.jpg", "1"), "IMAGE@X,Y"),
        (("--scale", "walk/frame-000000.jpg", "walk/frame-000000.jpg@9,9", "nan"), "length nan"),
        (("--reference", "no_such_poses.txt"), "no_such_poses.txt does not exist"),
    ],
)
def test_a_wrong_length_or_reference_is_said_before_any_work(
    arguments: tuple[str, ...], said: str, corridor_place: Place, relocalize: Run
) -> None:
    code, out, err = relocalize("map", corridor_place.root, *arguments)
    assert (code, out) == (1, "")
    assert said in error_line(err)
    assert err.count("\n") == 1  # nothing was mapped before it was said


def test_a_length_for_imported_poses_is_refused_and_not_ignored(
    tmp_path: Path, corridor_place: Place, relocalize: Run
) -> None:
    root = tmp_path / "imported"
    poses = (corridor_place.map_dir, root, "--images", corridor_place.images_dir)
    assert relocalize("import", *poses)[0] == 0
    first, last = [image.name for _, image in Place.open(root).images()][:2]
    code, out, err = relocalize("map", root, "--scale", first, last, "1")
    assert (code, out) == (1, "")
    assert "measured lengths and references are for maps made here" in error_line(err)
    assert Place.open(root).unit == "map unit"


@pytest.mark.parametrize("command", ["info", "map", "evaluate", "report"])
def test_what_the_file_system_refuses_is_one_line(command: str, relocalize: Run) -> None:
    code, out, err = relocalize(command, "n" * 5000)
    assert (code, out) == (1, "")
    assert "too long" in error_line(err)
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "wrong", [("--localizer", "nowhere-known"), ("--truth", "no_such_poses.txt")]
)
def test_build_says_what_it_cannot_do_in_the_end_before_it_begins(
    wrong: tuple[str, str], tmp_path: Path, relocalize: Run
) -> None:
    photos = folder_of(tmp_path / "photos", [noise(1), noise(2), noise(3)])
    code, out, err = relocalize("build", photos, tmp_path / "place", *wrong)
    assert (code, out) == (1, "")
    assert wrong[1] in error_line(err)
    assert err.count("\n") == 1
    assert not (tmp_path / "place").exists()
