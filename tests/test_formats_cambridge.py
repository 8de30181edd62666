"""Cambridge Landmarks: centres and w-first world-to-camera quaternions, written and read."""

from pathlib import Path

import numpy as np
import pytest

from relocalize.errors import FormatError
from relocalize.formats import read_registration
from relocalize.formats.cambridge import read as read_cambridge

HALF = float(np.sqrt(0.5))
HEADER = "Visual Landmark Dataset V1\nImageFile, Camera Position [X Y Z W P Q R]\n\n"
# A quarter turn of the world about its y axis: the camera's forward is the world's -x.
ROW = f"seq1/a.png 1 2 3 {HALF!r} 0 {HALF!r} 0"


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_row_is_the_centre_and_the_turn_from_world_to_camera(tmp_path):
    path = write(tmp_path / "dataset_train.txt", f"{HEADER}{ROW}\n")
    registration = read_registration(path)
    assert registration.format == "Cambridge Landmarks list"
    pose = registration.world_from_cam("seq1/a.png")
    np.testing.assert_allclose(pose.translation, [1, 2, 3], atol=1e-12)
    np.testing.assert_allclose(pose.rotation @ [0, 0, 1], [-1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(pose.rotation @ [0, 1, 0], [0, 1, 0], atol=1e-12)
    assert (registration.train, registration.test) == (("seq1/a.png",), ())
    assert registration.unit == "metre"


def test_a_folder_is_both_lists_and_a_list_is_one(tmp_path):
    write(tmp_path / "dataset_train.txt", f"{HEADER}{ROW}\n")
    write(tmp_path / "dataset_test.txt", f"{HEADER}seq2/b c.png 0 0 0 1 0 0 0\n")
    registration = read_registration(tmp_path)
    assert registration.train == ("seq1/a.png",)
    assert registration.test == ("seq2/b c.png",)
    alone = read_registration(tmp_path / "dataset_test.txt")
    assert (alone.train, alone.test) == ((), ("seq2/b c.png",))


@pytest.mark.parametrize(
    "header",
    ["", HEADER.splitlines()[0] + "\n", HEADER.removesuffix("\n"), HEADER + "\n\n"],
)
def test_no_row_is_lost_to_a_shorter_header(tmp_path, header):
    rows = f"{ROW}\n{ROW.replace('a.png', 'b.png')}\n"
    path = write(tmp_path / "list.txt", header + rows)
    registration = read_registration(path, "cambridge")
    assert list(registration.poses) == ["seq1/a.png", "seq1/b.png"]
    assert (registration.train, registration.test) == ((), ())


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("seq1/b.png 1 2 3 0 0 0 0", "four zeros"),
        ("seq1/b.png 1 2 nan 1 0 0 0", "not finite"),
        ("seq1/b.png 1 2 3 1 0 0", "7 columns"),
        ("seq1/b.png 1 2 3 one 0 0 0", "'one' is no number"),
        ("seq1/a.png 0 0 0 1 0 0 0", "a second time"),
        ("seq1/b.png 1e300 2 3 1 0 0 0", "1e+300 away"),
    ],
)
def test_a_bad_row_is_left_out_and_named_by_its_line(tmp_path, row, said):
    good = "\n".join(f"seq1/{name}.png 0 0 0 1 0 0 0" for name in "ac")
    path = write(tmp_path / "dataset_test.txt", f"{HEADER}{good}\n{row}\n")
    registration = read_registration(path)
    assert list(registration.poses) == ["seq1/a.png", "seq1/c.png"]
    assert f"{path}, line 6: " in registration.problems[0]
    assert said in registration.problems[0]


def test_folders_and_files_without_lists_are_refused_in_one_line(tmp_path):
    with pytest.raises(FormatError, match="neither dataset_train"):
        read_cambridge(tmp_path)
    for text in ("", HEADER, "\0", "a.jpg 1 0 0 0 1 2 3 500\n"):
        with pytest.raises(FormatError) as caught:
            read_cambridge(write(tmp_path / "dataset_train.txt", text))
        assert "\n" not in str(caught.value)
    with pytest.raises(FormatError, match=r"dataset_train\.txt, line 1"):
        read_cambridge(tmp_path)


@pytest.mark.data
def test_the_real_lists_stand_upright_and_look_at_the_facade(data_dir):
    """Photos are taken upright: under any other reading the cameras' up is not one direction."""
    for name, count, side in (
        ("ShopFacade_dataset_train.txt", 231, "train"),
        ("KingsCollege_dataset_test.txt", 343, "test"),
    ):
        registration = read_registration(data_dir / "formats" / "cambridge" / name)
        assert len(registration.poses) == len(getattr(registration, side)) == count
        assert not registration.problems
        poses = [registration.world_from_cam(image) for image in registration.poses]
        down = np.array([pose.rotation[:, 1] for pose in poses])
        # In these scenes gravity is along -z.
        assert down.mean(axis=0)[2] < -0.95
