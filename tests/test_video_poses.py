"""A video's trajectory: statuses, files that others read, going on after a kill, the overlay."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from localization_place import CAMERA as ROOM_CAMERA
from localization_place import copy_of_room, looking_at, render
from numbers_place import CAMERA, make_numbers_place, poses_of_a_walk
from relocalize import Camera, Place, Rigid3
from relocalize.absolute_pose.shared_camera import SharedCamera
from relocalize.cli.main import main
from relocalize.errors import CaptureError
from relocalize.formats.tum import read as read_tum
from relocalize.geometry import position_error
from relocalize.localization import PoseEstimate
from relocalize.localization.video import ClipSettings, localize_clip
from relocalize.place import Frame
from relocalize.place.folder import METRE
from relocalize.plain import from_plain, to_plain

COUNT, FPS = 40, 10
METRIC = Frame("z", "stated", METRE, "measured")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return make_numbers_place(tmp_path / "room", poses_of_a_walk(24), frame=METRIC)


def write_clip(path: Path, count: int = COUNT) -> Path:
    """A video whose frame k is a grey of 20 + 5 k, which tells the localizer below which it is."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        stream.options = {"crf": "1"}
        stream.time_base = Fraction(1, FPS)
        for k in range(count):
            grey = np.full((240, 320, 3), 20 + 5 * k, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        container.mux(stream.encode(None))
    return path


TRUTH = poses_of_a_walk(COUNT)


class Knowing:
    """A localizer that reads the frame's number off its grey: some fail, one is wrong."""

    unit = METRE
    failing = frozenset(range(20, 24))
    wrong = frozenset({10})

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.break_at: int | None = None

    def calibrate(self, images) -> None:
        return None

    def localize(self, image, camera=None) -> PoseEstimate:
        k = round((float(image.mean()) - 20) / 5)
        if k == self.break_at:
            raise KeyboardInterrupt
        self.asked.append(k)
        if k in self.failing:
            return PoseEstimate("failed", METRE, 1.0, reason="a wall")
        rng = np.random.default_rng(k)
        turn = Rotation.from_rotvec(rng.normal(0, 0.01, 3)).as_matrix()
        off = rng.normal(0, 0.03, 3) + (3.0 if k in self.wrong else 0.0)
        pose = Rigid3(TRUTH[k].rotation @ turn, TRUTH[k].translation + off)
        covariance = np.diag([0.03**2] * 3 + [0.01**2] * 3)
        return PoseEstimate("localized", METRE, 1.0, None, pose, covariance, 99, camera)


@pytest.fixture
def knowing(monkeypatch) -> Knowing:
    localizer = Knowing()
    monkeypatch.setattr("relocalize.localization.video.clip.fitted", lambda place, name: localizer)
    return localizer


def frames_in(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]


def test_every_frame_has_a_pose_and_says_whose_word_it_is(
    place: Place, knowing: Knowing, tmp_path: Path
) -> None:
    clip = localize_clip(place, write_clip(tmp_path / "a walk.mp4"))
    assert knowing.asked == list(range(COUNT))
    statuses = [pose.status for pose in clip.poses]
    assert [k for k, status in enumerate(statuses) if status == "bridged"] == [20, 21, 22, 23]
    assert [k for k, status in enumerate(statuses) if status == "rejected"] == [10]
    assert clip.poses[21].frame.estimate.reason == "a wall"
    errors = np.array(
        [position_error(p.world_from_cam, true) for p, true in zip(clip.poses, TRUTH, strict=True)]
    )
    raw = [
        position_error(p.frame.estimate.world_from_cam, true)
        for p, true in zip(clip.poses, TRUTH, strict=True)
        if p.status == "localized"
    ]
    localized = np.array([status == "localized" for status in statuses])
    assert np.median(errors[localized]) < 0.75 * np.median(raw)
    assert errors.max() < 0.15
    assert clip.poses[22].position_sigma > 1.5 * clip.poses[5].position_sigma


def test_the_files_are_what_others_read(place: Place, knowing: Knowing, tmp_path: Path) -> None:
    out = tmp_path / "out"
    clip = localize_clip(place, write_clip(tmp_path / "walk.mp4"), out)
    for name, count in (("trajectory.txt", COUNT - 5), ("trajectory_bridged.txt", COUNT)):
        read = read_tum(out / name)
        assert len(read.poses) == count
        times = sorted(read.times.values())
        assert times[0] == 0.0 and times[-1] == pytest.approx((COUNT - 1) / FPS, abs=1e-6)
    first = next(iter(read.poses))
    assert np.allclose(read.world_from_cam(first).matrix, clip.poses[0].world_from_cam.matrix)
    rows = [json.loads(line) for line in (out / "poses.jsonl").read_text().splitlines()]
    assert [row["frame"] for row in rows] == list(range(COUNT))
    assert rows[10]["status"] == "rejected" and rows[10]["raw_position"] is not None
    assert rows[21]["raw_position"] is None and rows[21]["position_sigma"] > 0
    drawn = frames_in(out / "overlay.mp4")
    assert len(drawn) == COUNT and drawn[0].shape == (240, 320, 3)
    for k in (5, 30):  # plan in the lower right, line above, points of the map between
        assert drawn[k][170:230, 250:310].std() > 5
        assert drawn[k][:20].std() > 5
        assert np.abs(drawn[k][30:150].astype(int) - (20 + 5 * k)).max() > 60


def test_a_killed_run_goes_on_where_it_was(place: Place, knowing: Knowing, tmp_path: Path) -> None:
    video, out = write_clip(tmp_path / "walk.mp4"), tmp_path / "out"
    knowing.break_at = 15
    with pytest.raises(KeyboardInterrupt):
        localize_clip(place, video, out)
    assert not (out / "trajectory.txt").exists()
    log = out / "frames.jsonl"
    log.write_text(log.read_text()[:-40])  # the kill came in the middle of a line
    knowing.break_at, knowing.asked = None, []
    again = localize_clip(place, video, out, ClipSettings(overlay=False))
    assert knowing.asked == list(range(14, COUNT))
    whole = localize_clip(place, video, tmp_path / "fresh", ClipSettings(overlay=False))
    assert [p.to_json() for p in again.poses] == [p.to_json() for p in whole.poses]
    knowing.asked = []
    localize_clip(place, video, out, ClipSettings(every=4, overlay=False))
    assert knowing.asked == list(range(0, COUNT, 4))  # other settings: nothing of it is used


def test_where_all_fails_nothing_is_made_up(place: Place, knowing: Knowing, tmp_path: Path) -> None:
    knowing.failing = frozenset(range(COUNT))
    clip = localize_clip(place, write_clip(tmp_path / "walk.mp4"), tmp_path / "out")
    assert clip.counts["lost"] == COUNT
    assert clip.remark == f"not smoothed: 0 of {COUNT} frames are localized; a trajectory needs 4"
    assert all(pose.world_from_cam is None for pose in clip.poses)
    rows = (tmp_path / "out" / "trajectory_bridged.txt").read_text().splitlines()
    assert all(row.startswith("#") for row in rows)


def test_far_beyond_what_was_seen_a_frame_is_lost(
    place: Place, knowing: Knowing, tmp_path: Path
) -> None:
    knowing.failing = frozenset(range(8, COUNT))
    knowing.wrong = frozenset()
    settings = ClipSettings(overlay=False)
    clip = localize_clip(place, write_clip(tmp_path / "walk.mp4"), tmp_path / "out", settings)
    statuses = [pose.status for pose in clip.poses]
    assert statuses[:8] == ["localized"] * 8
    assert statuses[8] == "bridged" and statuses[-1] == "lost"
    assert clip.poses[-1].world_from_cam is None
    first = statuses.index("lost")
    assert set(statuses[8:first]) == {"bridged"} and set(statuses[first:]) == {"lost"}


def test_a_clip_that_was_cut_says_up_to_where_it_could_be_read(
    place: Place, knowing: Knowing, tmp_path: Path, capsys
) -> None:
    whole = write_clip(tmp_path / "whole.mkv")
    clip = localize_clip(place, whole, tmp_path / "a", ClipSettings(every=15, overlay=False))
    assert clip.broke is None  # the last frame that was asked for is 0.9 s before the end
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: len(whole.read_bytes()) * 6 // 10])
    with pytest.raises(SystemExit) as ended:
        main(["localize", str(place.root), "--video", str(cut), "--no-overlay"])
    said = capsys.readouterr().out
    assert ended.value.code == 0
    assert "the video can be decoded up to second" in said and "of 4.0" in said
    rows = (place.root / "trajectories" / "cut" / "poses.jsonl").read_text().splitlines()
    assert 10 < len(rows) < COUNT - 10


def test_wrong_input_is_one_line(place: Place, knowing: Knowing, tmp_path: Path, capsys) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    with pytest.raises(CaptureError, match="cannot be opened as a video"):
        localize_clip(place, text)
    with pytest.raises(CaptureError, match="every is 0"):
        localize_clip(place, text, settings=ClipSettings(every=0))
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((9, 9, 3), np.uint8))
    for given, said in (
        (["--video", str(tmp_path / "none.mp4")], "does not exist"),
        ([str(tmp_path / "a.png"), "--video", str(text)], "exclude each other"),
    ):
        with pytest.raises(SystemExit):
            main(["localize", str(place.root), *given])
        err = capsys.readouterr().err
        assert said in err and err.count("\n") == 1
    assert not (place.root / "trajectories").exists()


def test_the_command_prints_one_object(
    place: Place, knowing: Knowing, tmp_path: Path, capsys
) -> None:
    video = write_clip(tmp_path / "my walk.mp4")
    with pytest.raises(SystemExit) as ended:
        main(["localize", str(place.root), "--video", str(video), "--json", "--no-overlay"])
    assert ended.value.code == 0
    value = json.loads(capsys.readouterr().out)
    assert (value["localized"], value["rejected"], value["bridged"]) == (COUNT - 5, 1, 4)
    assert value["unit"] == METRE and 0 < value["median_position_sigma"] < 0.03
    assert Path(value["files"]["trajectory.txt"]).parent == place.root / "trajectories" / "my-walk"
    assert "overlay.mp4" not in value["files"]
    assert CAMERA.width == 640  # the clip's own size is another: its camera is not the map's


def test_what_an_inexact_camera_does_to_a_pose_is_what_least_squares_answers() -> None:
    rng = np.random.default_rng(4)
    camera = Camera("SIMPLE_RADIAL", 640, 480, (525.0, 320.0, 240.0, -0.02))
    pose = TRUTH[7]
    points = pose @ (rng.uniform([-1, -0.8, 2], [1, 0.8, 5], (80, 3)))
    pixels = camera.img_from_cam(pose.inverse() @ points)
    for row, size in ((0, 0.8), (3, 0.004)):
        params = list(camera.params)
        params[row] += size
        wrong = Camera("SIMPLE_RADIAL", 640, 480, tuple(params))

        def moved(step: np.ndarray) -> Rigid3:
            turn = Rotation.from_rotvec(step[3:]).as_matrix()
            return Rigid3(pose.rotation @ turn, pose.translation + step[:3])

        def residuals(step: np.ndarray, wrong: Camera = wrong) -> np.ndarray:
            return (wrong.img_from_cam(moved(step).inverse() @ points) - pixels).ravel()

        shift = least_squares(residuals, np.zeros(6), x_scale="jac").x
        covariance = np.zeros((2, 2))
        covariance[row // 3, row // 3] = size**2
        found = SharedCamera(camera, covariance).pose_covariance(pose, points)
        assert np.allclose(found, np.outer(shift, shift), rtol=0.05, atol=0.02 * shift.max() ** 2)
        assert np.linalg.norm(shift[:3]) > 1e-3
    assert not SharedCamera(camera).pose_covariance(pose, points).any()


def test_a_camera_is_written_down_with_what_is_not_known_of_it() -> None:
    camera = Camera("SIMPLE_RADIAL", 640, 480, (525.0, 320.0, 240.0, -0.02))
    for covariance in (None, np.array([[0.8, 0.001], [0.001, 4e-6]])):
        plain = json.loads(json.dumps(to_plain(SharedCamera(camera, covariance))))
        again = from_plain(SharedCamera, plain)
        assert again.camera == camera
        assert (again.covariance is None) == (covariance is None)
        assert covariance is None or np.array_equal(again.covariance, covariance)


@pytest.mark.slow
def test_a_clip_of_an_unknown_camera_is_localized_in_a_room(
    made_once: Callable[..., Path], tmp_path: Path
) -> None:
    room = copy_of_room(made_once, tmp_path)
    angles = np.linspace(0.0, 1.6, 16)
    truth = [
        looking_at((0.9 * np.cos(a) - 0.5, 0.9 * np.sin(a) - 0.5, 0.1), (4.0, 3.8, -0.2))
        for a in angles
    ]
    video = tmp_path / "clip.mp4"
    with av.open(str(video), "w") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = (
            ROOM_CAMERA.width,
            ROOM_CAMERA.height,
            "yuv420p",
        )
        for pose in truth:
            image = render(pose, ROOM_CAMERA)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    clip = localize_clip(room, video, tmp_path / "out", ClipSettings(overlay=False))
    assert clip.camera is not None
    assert clip.camera.focal_px == pytest.approx(ROOM_CAMERA.focal_px, rel=0.01)
    assert clip.counts["localized"] == len(truth)
    errors = [
        position_error(pose.world_from_cam, true)
        for pose, true in zip(clip.poses, truth, strict=True)
    ]
    assert max(errors) < 0.05 and np.median(errors) < 0.02
