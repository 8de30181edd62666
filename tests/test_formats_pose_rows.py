"""What every reader's rows are checked for, whatever the format."""

from pathlib import Path

import numpy as np
import pytest

from relocalize.errors import FormatError
from relocalize.formats import pose_list
from relocalize.formats.pose_rows import PoseRows
from relocalize.geometry import Convention

MIRROR = np.diag([1.0, 1.0, -1.0])


def rows(*matrices: np.ndarray) -> PoseRows:
    convention = Convention("matrix", camera_axes="RDF")
    collected = PoseRows(Path("poses.txt"), "test", convention, "a matrix")
    for number, matrix in enumerate(matrices, start=1):
        with collected.row(f"line {number}"):
            collected.add(f"{number}.jpg", matrix, [number, 0, number])
    return collected


def test_a_few_mirrored_matrices_are_left_out_with_their_line() -> None:
    read = rows(np.eye(3), MIRROR, np.eye(3)).registration(unit="metre")
    assert list(read.poses) == ["1.jpg", "3.jpg"]
    assert read.problems == (
        "poses.txt, line 2: 2.jpg: the others are not mirrored, as its matrix is",
    )
    assert read.remarks == ()


def test_a_world_that_is_mirrored_throughout_is_read_and_said() -> None:
    read = rows(MIRROR, MIRROR, np.eye(3)).registration(unit="metre")
    assert list(read.poses) == ["1.jpg", "2.jpg"]
    assert len(read.remarks) == 1
    assert np.allclose(read.world_from_cam("2.jpg").rotation, np.eye(3))
    assert np.allclose(read.world_from_cam("2.jpg").translation, [2, 0, -2])


@pytest.mark.parametrize(
    "matrix", [2 * np.eye(3), 0.5 * (np.eye(3) + np.diag([-1.0, -1.0, 1.0])), np.zeros((3, 3))]
)
def test_scaled_and_averaged_matrices_are_no_rotations(matrix: np.ndarray) -> None:
    collected = rows(np.eye(3), np.eye(3), matrix)
    assert len(collected) == 2
    assert "line 3: 3.jpg: no rotation" in collected.problems[0]
    with pytest.raises(FormatError, match="is no test"):
        rows(matrix).registration(unit="metre")


def test_other_conventions_are_read_from_the_numbers_of_the_file() -> None:
    turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    read = rows(turn, np.eye(3)).registration(unit="metre")
    other = read.under(Convention("matrix", "cam_from_world", "RDF", "translation"))
    assert np.allclose(other.poses["1.jpg"][0].rotation, turn)
    assert np.allclose(other.poses["1.jpg"][0].translation, [1, 0, 1])
    assert other.under(read.stated.convention).poses["1.jpg"][0].matrix == pytest.approx(
        read.poses["1.jpg"][0].matrix
    )


def test_rows_of_nan_are_left_out_and_do_not_make_a_file_something_else(tmp_path: Path) -> None:
    path = tmp_path / "estimates.txt"
    row = "1 0 0 0 0.5 0 0"
    path.write_text(f"a.png {'nan ' * 7}\nb.png {'NaN ' * 7}\nc.png {row}\n")
    assert pose_list.detect(path)
    read = pose_list.read(path)
    assert list(read.poses) == ["c.png"]
    assert read.problems[0] == f"{path}, line 1: a.png has a number that is not finite"
    path.write_text(f"a.png {'nan ' * 7}\n")
    assert pose_list.detect(path)
    with pytest.raises(FormatError, match="holds no pose: each of its 1 rows"):
        pose_list.read(path)
    path.write_text(f"a.png {'nan ' * 7}\nno pose\nnor this\nc.png {row}\n")
    assert not pose_list.detect(path)


def test_errors_that_a_method_appends_to_its_estimates_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "estimates.txt"
    path.write_text("a.png 1 0 0 0 0.5 0 0 0.25 0.0125\n")
    read = pose_list.read(path)
    assert read.columns == {"a.png": {"rotation_error_deg": "0.25", "position_error": "0.0125"}}
    assert read.poses["a.png"][1] is None  # no focal length
