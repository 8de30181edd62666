"""NavVis poses: a scan's XML, its lists, and which way its cameras look."""

from pathlib import Path

import numpy as np
import pytest

from relocalize.errors import FormatError
from relocalize.formats import read_registration
from relocalize.formats.navvis import UPRIGHT
from relocalize.formats.navvis import read as read_navvis

HALF = float(np.sqrt(0.5))


def pose(name: str, quat_wxyz=(1, 0, 0, 0), position=(1, 2, 3)) -> str:
    tags = [f"<{tag}>{value}</{tag}>" for tag, value in zip("xyz", position, strict=True)]
    turns = [f"<{tag}>{value}</{tag}>" for tag, value in zip("wxyz", quat_wxyz, strict=True)]
    return (
        f"<pose><id>{name}</id><translation>{''.join(tags)}</translation>"
        f"<rotation>{''.join(turns)}</rotation></pose>"
    )


def scan(folder: Path, *poses: str, name: str = "2020-01-02_03.04.05") -> Path:
    path = folder / f"{name}_poses.xml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"<?xml version='1.0'?><poses>{''.join(poses)}</poses>")
    return path


def test_a_pose_is_the_camera_in_the_scan_with_w_first(tmp_path):
    # A quarter turn about y: the camera's forward (z) is the scan's x.
    path = scan(tmp_path, pose("00000-cam0", (HALF, 0, HALF, 0)))
    registration = read_registration(path)
    found = registration.world_from_cam("2020-01-02_03.04.05/00000-cam0.jpg")
    np.testing.assert_allclose(found.translation, [1, 2, 3], atol=1e-12)
    np.testing.assert_allclose(found.rotation @ [0, 0, 1], [1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(found.rotation @ [0, 1, 0], [0, 1, 0], atol=1e-12)
    assert UPRIGHT.name in registration.remarks[0]


def test_lists_in_the_folder_or_above_it_become_train_and_test(tmp_path):
    path = scan(tmp_path / "poses", *(pose(f"0000{i}-cam0") for i in range(4)))
    names = [f"2020-01-02_03.04.05/0000{i}-cam0.jpg" for i in range(4)]
    (tmp_path / "tum_train.txt").write_text("\n".join([names[0], names[2], "another/scan.jpg"]))
    (tmp_path / "tum_test.txt").write_text(names[3] + "\n")
    for given in (path, path.parent, tmp_path):
        registration = read_registration(given)
        assert registration.train == (names[0], names[2])
        assert registration.test == (names[3],)
        assert len(registration.poses) == 4


def test_two_scans_have_two_frames_and_one_is_asked_for(tmp_path):
    for name in ("a", "b"):
        scan(tmp_path, pose("0"), name=name)
    with pytest.raises(FormatError, match="2 scans"):
        read_navvis(tmp_path)
    with pytest.raises(FormatError, match="no scan"):
        read_navvis(tmp_path / "absent")


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (pose("b", (0, 0, 0, 0)), "four zeros"),
        (pose("b", ("nan", 0, 0, 0)), "rotation/w"),
        (pose("b", position=(1, "", 3)), "translation/y"),
        (pose(""), "no id"),
        (pose("a"), "a second time"),
        ("<pose><id>b</id></pose>", "translation/x"),
    ],
)
def test_a_bad_pose_is_left_out_and_named_by_its_number(tmp_path, bad, said):
    registration = read_registration(scan(tmp_path, pose("a"), bad, pose("c")))
    assert len(registration.poses) == 2
    assert ", pose 2: " in registration.problems[0]
    assert said in registration.problems[0]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<poses>",
        "<poses/>",
        "<bundle><pose/></bundle>",
        "no XML",
        '<!DOCTYPE poses [<!ENTITY a "aaaa">]><poses>&a;</poses>',
        "<poses>" + "<pose>" * 10_000,
        "<poses>" + "<pose><id>a</id></pose>" * 3 + "</poses>",
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path, text):
    path = tmp_path / "x_poses.xml"
    path.write_text(text)
    with pytest.raises(FormatError) as caught:
        read_navvis(path)
    assert "\n" not in str(caught.value)


@pytest.mark.data
def test_of_the_real_trolleys_cameras_five_verify_pose_and_one_up(data_dir):
    """Shows the convention: only camera-to-world with z forward puts cam5 upwards."""
    registration = read_registration(data_dir / "formats" / "navvis")
    assert len(registration.poses) == 1314
    assert (len(registration.train), len(registration.test)) == (875, 220)
    forward = {
        name: registration.world_from_cam(name).rotation[:, 2] for name in registration.poses
    }
    up = np.array([axis for name, axis in forward.items() if "cam5" in name])
    around = np.array([axis for name, axis in forward.items() if "cam5" not in name])
    assert up[:, 2].min() > 0.98
    assert np.abs(around[:, 2]).max() < 0.2
    # And away from the middle of the cameras of one place.
    for place in range(0, 200, 20):
        poses = [
            registration.world_from_cam(f"2015-08-16_15.34.11/{place:05d}-cam{i}.jpg")
            for i in range(5)
        ]
        middle = np.mean([one.translation for one in poses], axis=0)
        for one in poses:
            outward = (one.translation - middle) / np.linalg.norm(one.translation - middle)
            assert outward @ one.rotation[:, 2] > 0.9
