"""Trajectories of TUM, KITTI and EuRoC: exact poses, images found by time or by row."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from relocalize.errors import FormatError
from relocalize.formats import Registration, read_registration
from relocalize.formats.euroc import read as read_euroc
from relocalize.formats.kitti import read as read_kitti
from relocalize.formats.names import match_times, nearest_in_time, seconds_of
from relocalize.formats.registry import FORMATS
from relocalize.formats.tum import read as read_tum
from relocalize.geometry import Camera, Rigid3
from relocalize.geometry.transforms import mean_rotation, rotation_angle_deg
from relocalize.place import Place
from relocalize.verbs.import_poses import import_poses

HALF = float(np.sqrt(0.5))
# A camera at (1, 2, 3) that has turned right by 90 degrees: it looks along the world's x.
TURNED = Rigid3([[0, 0, 1], [0, 1, 0], [-1, 0, 0]], [1, 2, 3])

EUROC_HEADER = (
    "#timestamp, p_RS_R_x [m], p_RS_R_y [m], p_RS_R_z [m], q_RS_w [], q_RS_x [], q_RS_y [], "
    "q_RS_z [], v_RS_R_x [m s^-1]\n"
)
SENSOR = """# General sensor definitions.
sensor_type: camera
comment: a camera that looks along the body's y, its x along the body's x

T_BS:
  cols: 4
  rows: 4
  data: [1.0, 0.0, 0.0, 0.1,  # T_BS maps camera points to the body
         0.0, 0.0, 1.0, 0.2,
         0.0, -1.0, 0.0, 0.3,
         0.0, 0.0, 0.0, 1.0]

rate_hz: 20
resolution: [752, 480]
camera_model: pinhole
intrinsics: [458.654, 457.296, 367.215, 248.375] #fu, fv, cu, cv
distortion_model: radial-tangential
distortion_coefficients: [-0.28, 0.07, 0.0002, 1.8e-05]
"""


def image_files(folder: Path, names: list[str]) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 48), "gray").save(path)
    return folder


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def only_pose(registration: Registration) -> Rigid3:
    (name,) = registration.poses
    return registration.world_from_cam(name)


def assert_same(pose: Rigid3, want: Rigid3) -> None:
    np.testing.assert_allclose(pose.matrix, want.matrix, atol=1e-12)


# -- exact truth -----------------------------------------------------------------------------


def test_a_tum_row_is_the_camera_in_the_world_with_w_last(tmp_path):
    path = write(tmp_path / "t.txt", f"# timestamp tx ty tz\n1.5 1 2 3 0 {HALF!r} 0 {HALF!r}\n")
    registration = read_registration(path)
    assert registration.format == "TUM trajectory"
    assert registration.times == {"1.5": 1.5}
    assert_same(only_pose(registration), TURNED)


def test_a_kitti_row_is_the_camera_in_the_world_as_a_matrix(tmp_path):
    path = write(tmp_path / "00.txt", "0 0 1 1 0 1 0 2 -1 0 0 3\n")
    registration = read_registration(path)
    assert registration.format == "KITTI trajectory"
    assert list(registration.poses) == ["000000"]
    assert_same(only_pose(registration), TURNED)


def test_a_euroc_row_is_the_body_in_the_world_with_w_first(tmp_path):
    path = write(
        tmp_path / "data.csv",
        f"{EUROC_HEADER}1403715524907143168,1,2,3,{HALF!r},0,{HALF!r},0,9\n",
    )
    registration = read_registration(path)
    assert registration.format == "EuRoC trajectory"
    assert_same(only_pose(registration), TURNED)
    assert "not of a camera" in registration.remarks[0]
    assert registration.times["1403715524907143168"] == pytest.approx(1403715524.907143, abs=1e-6)


def test_euroc_poses_become_a_cameras_by_its_sensor_yaml(tmp_path):
    row = "1403715524907143168,1,2,3,1,0,0,0\n"
    path = write(tmp_path / "mav0" / "state_groundtruth_estimate0" / "data.csv", EUROC_HEADER + row)
    write(path.with_name("sensor.yaml"), "sensor_type: visual-inertial\nT_BS:\n  data: [1]\n")
    write(tmp_path / "mav0" / "cam0" / "sensor.yaml", SENSOR)
    registration = read_registration(tmp_path / "mav0")
    pose = only_pose(registration)
    # The body stands unturned at (1, 2, 3): the camera's forward is the world's y.
    np.testing.assert_allclose(pose.translation, [1.1, 2.2, 3.3], atol=1e-12)
    np.testing.assert_allclose(pose.rotation @ [0, 0, 1], [0, 1, 0], atol=1e-12)
    np.testing.assert_allclose(pose.rotation @ [0, 1, 0], [0, 0, -1], atol=1e-12)
    # Its pixel (0, 0) is the first pixel's centre, ours that pixel's corner.
    assert registration.cameras == (
        Camera(
            "OPENCV",
            752,
            480,
            (458.654, 457.296, 367.715, 248.875, -0.28, 0.07, 0.0002, 1.8e-05),
        ),
    )
    assert "cam0/sensor.yaml" in registration.remarks[0]


def test_a_tum_folder_gives_each_image_the_pose_nearest_in_time(tmp_path):
    rows = [f"{10 + 0.01 * i:.4f} {i} 0 0 0 0 0 1" for i in range(100)]
    write(tmp_path / "groundtruth.txt", "\n".join(rows))
    listed = ["10.0262 rgb/10.0262.png", "10.5 rgb/a  b.png", "12.0 rgb/late.png"]
    write(tmp_path / "rgb.txt", "# timestamp filename\n" + "\n".join(listed))
    registration = read_registration(tmp_path)
    assert list(registration.poses) == ["rgb/10.0262.png", "rgb/a  b.png"]
    assert registration.world_from_cam("rgb/10.0262.png").translation[0] == 3
    assert registration.world_from_cam("rgb/a  b.png").translation[0] == 50
    assert not registration.times
    assert "rgb/late.png (nearest: 1.010 s)" in registration.remarks[1]
    assert registration.stated.names == tuple(registration.poses)


# -- images without names in the file ------------------------------------------------------


def import_all(source: Path, images: Path, place: Path):
    return import_poses(source, place, images, convention="stated")


def test_tum_images_are_found_by_the_time_that_names_them(tmp_path):
    rows = [f"{1305031102 + 0.1 * i:.4f} {i} 0 0 0 0 0 1" for i in range(20)]
    source = write(tmp_path / "t.txt", "\n".join(rows))
    names = ["1305031102.1000.png", "1305031102.209.png", "1305031102.45.png", "cover.png"]
    images = image_files(tmp_path / "images", names)
    report = import_all(source, images, tmp_path / "place")
    assert report.posed == 2
    place = Place.open(tmp_path / "place")
    x = {name: image.world_from_cam.translation[0] for name, image in place.map.images.items()}
    assert x == {
        "imported/1305031102.1000.png": pytest.approx(1),
        "imported/1305031102.209.png": pytest.approx(2),
    }
    why = {dropped.source: dropped.reason for dropped in report.left_out}
    assert "nearest 0.05 s away" in why["1305031102.45.png"]
    assert "no time" in why["cover.png"]


def test_euroc_images_are_found_by_their_nanoseconds(tmp_path):
    stamps = [1403715524907143168 + 5_000_000 * i for i in range(10)]
    source = write(
        tmp_path / "data.csv",
        EUROC_HEADER + "".join(f"{stamp},{i},0,0,1,0,0,0\n" for i, stamp in enumerate(stamps)),
    )
    names = [f"{stamps[3]}.png", f"{stamps[6] + 1_000_000}.png", f"{stamps[9] + 90_000_000}.png"]
    report = import_all(source, image_files(tmp_path / "images", names), tmp_path / "place")
    images = Place.open(tmp_path / "place").map.images
    assert [image.world_from_cam.translation[0] for image in images.values()] == [3, 6]
    assert report.left_out[-1].reason.endswith("nearest 0.09 s away")


@pytest.mark.parametrize("stamp", ["{}", "{}.0", "{:.18e}"])
def test_whole_seconds_are_numbers_of_frames_where_these_are_the_images(tmp_path, stamp):
    rows = [f"{stamp.format(i)} {i} 0 0 0 0 0 1" for i in range(12)]  # as DROID-SLAM writes them
    source = write(tmp_path / "t.txt", "\n".join(rows))
    images = image_files(tmp_path / "images", [f"frame-{i:06d}.png" for i in range(12)])
    import_all(source, images, tmp_path / "place")
    for name, image in Place.open(tmp_path / "place").map.images.items():
        assert int(name[-10:-4]) == image.world_from_cam.translation[0]


@pytest.mark.parametrize("seconds", ["{}", "{}.5"])
@pytest.mark.parametrize("every", [1, 30])
def test_seconds_of_a_video_are_no_numbers_of_its_frames(tmp_path, seconds, every):
    rows = [f"{seconds.format(i)} {i} 0 0 0 0 0 1" for i in range(12)]
    source = write(tmp_path / "t.txt", "\n".join(rows))
    names = [f"frame-{i:06d}.png" for i in range(0, 360, every)]
    with pytest.raises(FormatError, match=r"no time in seconds|which is the first pose's"):
        import_all(source, image_files(tmp_path / "images", names), tmp_path / "place")


@pytest.mark.parametrize("pattern", ["{:06d}.png", "{:010d}.jpg", "frame-{}.jpg", "image_0/{}.png"])
def test_kitti_images_are_found_by_their_row(tmp_path, pattern):
    rows = [f"1 0 0 {i} 0 1 0 0 0 0 1 0" for i in range(12)]
    source = write(tmp_path / "00.txt", "\n".join(rows))
    images = image_files(tmp_path / "images", [pattern.format(i) for i in range(12)])
    import_all(source, images, tmp_path / "place")
    for name, image in Place.open(tmp_path / "place").map.images.items():
        assert name.split(".")[0].endswith(str(int(image.world_from_cam.translation[0])))


# Images that count from 1, some of which are missing; every sixth frame of the video that the rows
# count; nodes of a graph, which has not all of them.
@pytest.mark.parametrize("numbers", [range(1, 13), range(1, 10), range(0, 72, 6), [1, 2, 5, 8, 13]])
@pytest.mark.parametrize("pattern", ["{:06d}.png", "frame-{}.jpg"])
def test_images_that_count_otherwise_than_the_rows_are_not_shifted(tmp_path, pattern, numbers):
    source = write(tmp_path / "00.txt", "1 0 0 0 0 1 0 0 0 0 1 0\n" * 12)
    images = image_files(tmp_path / "images", [pattern.format(i) for i in numbers])
    with pytest.raises(FormatError, match="which is the first pose's"):
        import_all(source, images, tmp_path / "place")


@pytest.mark.parametrize("numbers", [range(30), range(0, 40, 8), range(4, 9)])
def test_rows_of_some_images_and_images_beyond_the_last_row_are_no_other_count(tmp_path, numbers):
    rows = [f"1 0 0 {i} 0 1 0 0 0 0 1 0" for i in range(12)]
    source = write(tmp_path / "00.txt", "\n".join(rows))
    images = image_files(tmp_path / "images", [f"{i:06d}.png" for i in numbers])
    import_all(source, images, tmp_path / "place")
    for name, image in Place.open(tmp_path / "place").map.images.items():
        assert int(name.split("/")[1][:6]) == image.world_from_cam.translation[0]


def test_the_first_of_all_images_of_tanks_and_temples_is_frame_0(tmp_path):
    frames = [f"{i} {i} 0\n1 0 0 {i}\n0 1 0 0\n0 0 1 0\n0 0 0 1\n" for i in range(12)]
    source = write(tmp_path / "Barn_COLMAP_SfM.log", "".join(frames))
    images = image_files(tmp_path / "images", [f"{i + 1:06d}.jpg" for i in range(12)])
    import_all(source, images, tmp_path / "place")
    for name, image in Place.open(tmp_path / "place").map.images.items():
        assert int(name.split("/")[1][:6]) == image.world_from_cam.translation[0] + 1
    (images / "000005.jpg").unlink()
    with pytest.raises(FormatError, match="which is the first pose's"):
        import_all(source, images, tmp_path / "other")


# The third is ORB-SLAM3's.
@pytest.mark.parametrize(
    "stamp", ["{}.175304123", "{}175304123", "{}175304123.000000", "{}.175304123e+00"]
)
@pytest.mark.parametrize(
    "name", ["{}.175304.png", "{}175304123.png", "left_{}.1753.png", "{}_175304123.png"]
)
def test_ros_stamps_of_any_writing_meet(tmp_path, stamp, name):
    rows = [f"{stamp.format(1305031102 + i)} {i} 0 0 0 0 0 1" for i in range(3)]
    source = write(tmp_path / "poses.txt", "\n".join(rows))
    names = [name.format(1305031102 + i) for i in range(3)]
    assert list(match_times(read_registration(source).times, names).present_of.values()) == names


def test_images_of_two_cameras_do_not_share_the_poses_of_one():
    images = ["left_1305031102.175304.png", "right_1305031102.175304.png"]
    match = match_times({"1305031102.1753": 1305031102.1753}, images)
    assert not match.present_of
    assert set(match.why.values()) == {"another image has the same time"}


def test_no_pose_is_used_twice_and_the_nearest_pairs_come_first():
    times = {"a": 0.0, "b": 0.03}
    pose_of, gap_of = nearest_in_time(times, {"x": 0.014, "y": 0.001, "z": 0.3})
    assert pose_of == {"y": "a", "x": "b"}
    assert gap_of["x"] == pytest.approx(0.014)
    assert gap_of["z"] == pytest.approx(0.27)


def test_two_images_of_one_time_are_ambiguous_and_not_drawn_lots_for():
    match = match_times({"1.5": 1.5}, ["cam0/1.5.png", "cam1/1.5.png"])
    assert list(match.ambiguous) == ["1.5"]
    assert not match.present_of


@pytest.mark.parametrize(
    ("stem", "seconds"),
    [
        ("1305031102.1753", 1305031102.1753),
        ("0.5", 0.5),
        ("1403715524907143168", 1403715524.907143168),
        ("1305031102", 1305031102.0),
        ("1305031102175", 1305031102.175),
        ("1305031102175304", 1305031102.175304),
        ("1305031102_175304123", 1305031102.175304123),
        ("cam0-1305031102.1753", 1305031102.1753),
        ("IMG_20231130_175304", None),  # a date
        ("PXL_20231130_175304123", None),
        ("000123", None),  # a frame's number, which is no time
        ("frame-000123", None),
        ("-1.5", None),
        ("1e3", None),
        ("", None),
    ],
)
def test_what_counts_as_a_time(stem, seconds):
    assert seconds_of(stem) == (None if seconds is None else pytest.approx(seconds))


def test_a_hundred_thousand_poses_of_one_instant_do_not_take_minutes():
    times = {f"{i}": 1.0 for i in range(100_000)}
    wanted = {f"p{i}": 1.0 for i in range(1000)}
    assert len(nearest_in_time(times, wanted)[0]) <= 1000


# -- bad rows and files ----------------------------------------------------------------------


GOOD = {
    "tum": [f"{i}.5 {i} 2 3 0 0 0 1" for i in range(8)],
    "kitti": [f"1 0 0 {i} 0 1 0 2 0 0 1 3" for i in range(8)],
    "euroc": [f"14037155249071431{i:02d},{i},2,3,1,0,0,0" for i in range(8)],
}


@pytest.mark.parametrize(
    ("name", "row", "said"),
    [
        ("tum", "9.5 1 2 3 0 0 0 0", "four zeros"),
        ("tum", "9.5 nan 2 3 0 0 0 1", "not finite"),
        ("tum", "-1 1 2 3 0 0 0 1", "a time of -1"),
        ("tum", "nan 1 2 3 0 0 0 1", "a time of nan"),
        ("tum", "0.5 1 2 3 0 0 0 1", "a second time"),
        ("tum", "9.5 1 2 3 0 0 0 1 7", "9 columns"),
        ("tum", "9.5 1 2 x 0 0 0 1", "'x' is no number"),
        ("tum", "9.5 1 2 3 0 0 0 2", "length 2"),
        ("kitti", "2 0 0 0 0 2 0 2 0 0 2 3", "no rotation"),
        ("kitti", "1 0 0 0 0 1 0 2 0 0 1", "11 columns"),
        ("kitti", "1 0 0 inf 0 1 0 2 0 0 1 3", "not finite"),
        ("kitti", "1 0 0 1e308 0 1 0 2 0 0 1 3", "1e+308 away"),
        ("euroc", "1403715524.9,1,2,3,1,0,0,0", "want nanoseconds"),
        ("euroc", "1403715524907143199,1,2,3,1,0", "6 columns"),
        ("euroc", "1403715524907143199,1,2,,1,0,0,0", "is no number"),
    ],
)
def test_a_bad_row_is_left_out_and_named_by_its_line(tmp_path, name, row, said):
    path = write(tmp_path / "t.txt", "\n".join([*GOOD[name][:4], row, *GOOD[name][4:]]))
    registration = read_registration(path, name)
    assert len(registration.poses) == 8
    assert len(registration.problems) == 1
    assert f"{path}, line 5: " in registration.problems[0]
    assert said in registration.problems[0]


@pytest.mark.parametrize("name", GOOD)
def test_a_trajectory_is_no_pose_list(tmp_path, name):
    path = write(tmp_path / "t.txt", "\n".join(GOOD[name]))
    with pytest.raises(FormatError, match="is no pose list"):
        read_registration(path, "pose-list")


@pytest.mark.parametrize("name", GOOD)
def test_other_text_is_refused_in_one_line(tmp_path, name):
    for text in ("", "\n#\n", "hello\nworld\n", "1,2,3\n" * 9, "\0", "\ufeff"):
        with pytest.raises(FormatError) as caught:
            read_registration(write(tmp_path / "t.txt", text), name)
        assert "\n" not in str(caught.value)
    with pytest.raises(FormatError):
        FORMATS[name].read(tmp_path / "absent")


@pytest.mark.parametrize(
    "text",
    [
        SENSOR.replace("T_BS", "T_XX"),
        SENSOR.replace("1.0, 0.0, 0.0, 0.1", "1.0, 0.5, 0.0, 0.1"),
        SENSOR.replace("458.654", "nan"),
        SENSOR.replace("0.2,", "0.2, 7,"),
        SENSOR.replace("[752, 480]", "[0, 480]"),
    ],
)
def test_a_damaged_sensor_yaml_is_refused_in_one_line(tmp_path, text):
    path = write(tmp_path / "data.csv", EUROC_HEADER + "1403715524907143168,1,2,3,1,0,0,0\n")
    write(tmp_path / "sensor.yaml", text)
    with pytest.raises(FormatError, match=r"sensor\.yaml is no camera"):
        read_euroc(path)


def test_images_and_poses_of_two_recordings_are_refused(tmp_path):
    write(tmp_path / "groundtruth.txt", "1.5 1 2 3 0 0 0 1\n")
    write(tmp_path / "rgb.txt", "900.5 rgb/a.png\n")
    with pytest.raises(FormatError, match="one recording"):
        read_tum(tmp_path)
    write(tmp_path / "rgb.txt", "900.5\n")
    with pytest.raises(FormatError, match="want timestamp filename"):
        read_tum(tmp_path)


# -- the team's samples ----------------------------------------------------------------------


@pytest.mark.data
def test_real_trajectories_are_told_apart_and_read_whole(data_dir):
    folder = data_dir / "formats" / "trajectories"
    found = {
        path.name: (registration.format.split()[0], len(registration.poses))
        for path in sorted(folder.iterdir())
        for registration in [read_registration(path)]
    }
    assert found == {
        "KITTI_00_gt.txt": ("KITTI", 4541),
        "V102.txt": ("TUM", 803),
        "V102_groundtruth_head.csv": ("EuRoC", 1999),
        "fr2_desk_ORB.txt": ("TUM", 2893),
        "freiburg1_xyz-ORB_kf_mono.txt": ("TUM", 32),
        "freiburg1_xyz-groundtruth.txt": ("TUM", 3000),
        "freiburg1_xyz-rgbdslam_drift.txt": ("TUM", 788),
    }


@pytest.mark.data
def test_the_kitti_car_drives_where_its_camera_looks(data_dir):
    registration = read_kitti(data_dir / "formats" / "trajectories" / "KITTI_00_gt.txt")
    poses = [registration.world_from_cam(name) for name in registration.poses]
    steps = np.diff([pose.translation for pose in poses], axis=0)
    forward = np.array([pose.rotation[:, 2] for pose in poses[:-1]])
    moving = np.linalg.norm(steps, axis=1) > 0.2
    along = np.sum(steps * forward, axis=1)[moving] / np.linalg.norm(steps[moving], axis=1)
    assert np.median(along) > 0.999
    assert along.min() > 0.8  # corners, where the camera swings out


@pytest.mark.data
def test_an_estimated_trajectory_lies_along_the_true_one(data_dir):
    """Two TUM files of one recording, read alike, agree to the tracker's drift."""
    folder = data_dir / "formats" / "trajectories"
    truth, estimate = (
        read_tum(folder / f"freiburg1_xyz-{name}.txt") for name in ("groundtruth", "rgbdslam_drift")
    )
    pose_of, _ = nearest_in_time(truth.times, estimate.times)
    assert len(pose_of) > 700
    # Each has a world of its own, but one rotation between the worlds has to do for all poses.
    worlds = [
        truth.world_from_cam(true).rotation @ estimate.world_from_cam(name).rotation.T
        for name, true in pose_of.items()
    ]
    between = mean_rotation(worlds)
    angles = [rotation_angle_deg(between.T @ world) for world in worlds]
    assert np.median(angles) < 1
    assert max(angles) < 10
