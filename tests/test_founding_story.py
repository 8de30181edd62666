"""The founding story's own parts: each mistake does what its name says, and nothing else."""

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from relocalize import Camera, RelocalizeError, Rigid3, Similarity3
from relocalize.formats import read_registration
from relocalize.geometry import align_camera_poses, position_error, rotation_error_deg

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))

from founding_mistakes import (
    Off,
    OtherTool,
    averaged_matrix,
    moved_by_matrix,
    off,
    reality_capture_table,
    registered_by,
    scaled,
    shuffled_split,
    skipped_rows,
    squeezed,
    taken_as,
    turned_away_deg,
    without_scale,
    written_w_last,
)

LENS = Camera("RADIAL", 800, 600, (585.0, 403.0, 297.5, -0.11, 0.025))
WALK = Camera("SIMPLE_PINHOLE", 960, 540, (720.0, 480.0, 270.0))


def walk(count: int = 40) -> dict[str, Rigid3]:
    """Cameras along an L of 10 m and 6 m."""
    rng = np.random.default_rng(3)
    at = np.linspace(0, 16, count)
    centres = np.stack([np.minimum(at, 10), np.maximum(at - 10, 0), np.full(count, 1.5)], axis=1)
    turns = Rotation.random(count, rng=rng).as_matrix()
    return {f"p{row:03d}.jpg": Rigid3(turns[row], centres[row]) for row in range(count)}


def test_the_table_reads_back_as_what_was_written(tmp_path: Path) -> None:
    poses = walk()
    path = tmp_path / "second.csv"
    path.write_text(reality_capture_table(poses, LENS), encoding="utf-8")
    found = read_registration(path)
    assert found.format == "RealityCapture table"
    assert not found.problems and not found.remarks
    assert list(found.poses) == list(poses)
    for name, pose in poses.items():
        assert position_error(found.world_from_cam(name), pose) <= 1e-6
        assert rotation_error_deg(found.world_from_cam(name), pose) <= 1e-5
    camera = found.camera_of("p000.jpg", 800, 600)
    assert camera.model == "RADIAL"
    assert camera.params == pytest.approx(LENS.params, rel=1e-6)


def test_the_other_tool_has_its_own_frame_and_a_few_gross_mistakes() -> None:
    truth = walk()
    names = sorted(truth)
    tool = OtherTool(gross=0.1)
    poses = registered_by(tool, truth, names[:20])
    found = align_camera_poses(list(truth.values()), list(poses.values()))
    assert found.b_from_a.scale == pytest.approx(tool.units_per_metre, rel=0.01)
    wrong = [name for name, good in zip(poses, found.inliers, strict=True) if not good]
    assert len(wrong) == 2
    assert set(wrong) <= set(names[:20])
    # Millimetres, in units of which 0.31 are a metre.
    assert np.median(found.position_residuals[found.inliers]) <= 0.01 * tool.units_per_metre


def test_without_scale_only_the_middle_is_where_it_was() -> None:
    right = Similarity3(3.0, Rotation.from_euler("z", 40, degrees=True).as_matrix(), np.ones(3))
    centres = np.array([[0.0, 0, 0], [4, 0, 0], [4, 2, 0]])
    wrong = without_scale(right, centres)
    assert wrong.scale == 1.0
    assert np.allclose(wrong @ centres.mean(axis=0), right @ centres.mean(axis=0))
    assert np.allclose(wrong.rotation, right.rotation)
    lengths = [np.linalg.norm(np.diff(one @ centres, axis=0), axis=1) for one in (wrong, right)]
    assert np.allclose(3 * lengths[0], lengths[1])


def test_averaged_matrices_are_right_only_where_all_agree() -> None:
    second = list(walk(12).values())
    turn = Rigid3(Rotation.from_euler("xyz", [30, 20, 10], degrees=True).as_matrix(), np.ones(3))
    first = [turn @ pose for pose in second]
    right = averaged_matrix(first, second)
    assert np.allclose(right, turn.matrix)
    assert position_error(moved_by_matrix(right, second[3]), first[3]) <= 1e-9
    wrong = [*first[1:], Rigid3(np.diag([-1.0, -1, 1]) @ first[0].rotation, np.zeros(3))]
    averaged = averaged_matrix(wrong, [*second[1:], second[0]])
    with pytest.raises(RelocalizeError, match="was it averaged"):
        Rigid3.from_matrix(averaged)
    assert position_error(moved_by_matrix(averaged, second[3]), first[3]) > 0.1


def test_scaled_poses_keep_their_rotation() -> None:
    pose = walk(3)["p002.jpg"]
    assert np.allclose(scaled(pose, 3).translation, 3 * pose.translation)
    assert np.allclose(scaled(pose, 3).rotation, pose.rotation)


def test_a_quaternion_in_the_wrong_order_moves_the_camera_too() -> None:
    pose = Rigid3.from_quat_wxyz([0.8, 0.6, 0, 0], [1.0, 2, 3])
    inverse = pose.inverse()
    w, x, y, z = inverse.quat_wxyz
    wrong = written_w_last(pose).inverse()
    expected = Rigid3.from_quat_wxyz([z, w, x, y], inverse.translation)
    assert np.allclose(wrong.matrix, expected.matrix)
    assert rotation_error_deg(written_w_last(pose), pose) > 30
    assert position_error(written_w_last(pose), pose) > 0.5


def test_a_skipped_row_gives_every_image_its_neighbours_pose() -> None:
    poses = walk(5)
    names = list(poses)
    shifted = skipped_rows(names, poses, 1)
    assert list(shifted) == names[:-1]
    assert all(shifted[names[row]] is poses[names[row + 1]] for row in range(4))


def test_cameras_are_taken_for_each_other() -> None:
    photo = np.zeros((600, 800, 3), np.uint8)
    photo[:, 400:] = 200
    wide = squeezed(photo, WALK)
    assert wide.shape == (540, 960, 3)
    assert wide[270, 470, 0] == 0 and wide[270, 490, 0] == 200
    wrong = taken_as(WALK, photo)
    assert (wrong.width, wrong.height, wrong.params) == (800, 600, WALK.params)


def test_shuffled_frames_lie_between_frames_that_train() -> None:
    names = [f"walk/frame-{row:06d}.jpg" for row in range(100)]
    split = shuffled_split(names, 0.1)
    assert len(split.test) == 10
    assert sorted((*split.train, *split.test)) == names
    rows = [names.index(name) for name in split.test]
    assert rows != list(range(rows[0], rows[0] + 10))
    assert shuffled_split(names, 0.1).test == split.test


def test_medians_count_refusals_as_infinitely_far() -> None:
    truth = walk(5)
    near = {
        name: Rigid3(pose.rotation, np.add(pose.translation, [0.1, 0, 0]))
        for name, pose in truth.items()
    }
    found = off(near, truth)
    assert (found.n, found.refused) == (5, 0)
    assert found.position == pytest.approx(0.1)
    assert found.rotation_deg == pytest.approx(0, abs=1e-6)
    some = {name: pose if name < "p002.jpg" else None for name, pose in near.items()}
    assert off(some, truth) == Off(np.inf, np.inf, 5, 3)
    assert off({"p000.jpg": near["p000.jpg"]}, truth).n == 1


def test_turned_away_is_from_the_nearest_frame() -> None:
    ahead = Rigid3(np.eye(3), np.zeros(3))
    far = Rigid3(Rotation.from_euler("y", 90, degrees=True).as_matrix(), np.array([5.0, 0, 0]))
    photo = Rigid3(Rotation.from_euler("y", 30, degrees=True).as_matrix(), np.array([1.0, 0, 0]))
    assert turned_away_deg(photo, [ahead, far]) == pytest.approx(30)
    assert turned_away_deg(photo, [far]) == pytest.approx(60)


def test_the_walk_turns_round_where_it_is_farthest(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from founding_story import Corridor

    there = walk(20)
    back = {f"q{row:03d}.jpg": pose for row, pose in enumerate(reversed(there.values()))}
    frames = {**there, **back}
    corridor = Corridor(tmp_path, frames, {}, LENS, np.zeros((6, 2)))
    assert corridor.farthest([f"walk/{name}" for name in frames]) == "walk/p019.jpg"
    assert corridor.farthest(list(there)[:15]) == "p014.jpg"


@pytest.mark.slow
def test_the_table_and_the_images_say_every_row(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from founding_images import Seen, draw_corridor, draw_prices
    from founding_prices import Price
    from founding_story import as_markdown, as_text

    rows = [
        Price("none: all of it right", Off(0.4, 2.0, 9, 0), Off(0.02, 0.2, 9, 1), False, "proven"),
        Price("aspect", Off(3.1, 40.0, 9, 0), Off(np.inf, np.inf, 9, 6), False, "no pose"),
        Price("validation by shuffled frames", Off(0.05, 0.5, 9, 0), None, True, "near"),
    ]
    table = as_markdown(rows)
    assert "| none: all of it right | 0.40 m, 2.0° | 2.0 cm, 0.2° |" in table
    assert "| aspect | 3.10 m, 40.0° | no answer |" in table
    assert "| validation by shuffled frames | claims 5.0 cm, 0.5° | – |" in table
    assert "| aspect | no pose |" in table
    assert any("no pose" in line for line in as_text(rows))
    draw_prices(rows, 12.0, tmp_path / "prices.svg")
    drawn = (tmp_path / "prices.svg").read_text()
    for said in ("aspect", "3.1 m, 40°", "2 cm", "more than half refused", "the story: 12 m"):
        assert said in drawn
    corner = np.array([[0.0, 0], [8, 0], [8, 6], [6, 6], [6, 2], [0, 2]])
    truth = {name: pose.translation[:2] for name, pose in walk(9).items()}
    some = {name: at + 0.1 for name, at in truth.items() if name != "p003.jpg"}
    line = np.array(list(truth.values()))
    draw_corridor(Seen(corner, line, line / 3, truth, some, some), tmp_path / "corridor.png")
    assert 5_000 < (tmp_path / "corridor.png").stat().st_size < 300_000
