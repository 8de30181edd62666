"""`relocalize score`: anyone's estimates against a truth, in one line where they make no sense."""

import json
import re

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from numbers_place import make_numbers_place, noisy, poses_of_a_walk, similarity, write_pose_list
from relocalize.cli.main import main
from relocalize.errors import EvaluationError, RelocalizeError
from relocalize.evaluation import PoseErrors, score
from relocalize.formats import read_registration
from relocalize.geometry import Rigid3
from relocalize.place import Frame, Split

COUNT = 40
TRUE = {f"seq/frame-{row:06d}.color.png": pose for row, pose in enumerate(poses_of_a_walk(COUNT))}


@pytest.fixture
def truth(tmp_path):
    return write_pose_list(tmp_path / "truth.txt", TRUE)


@pytest.fixture
def estimates(tmp_path):
    def written(poses, name="estimates.txt"):
        return write_pose_list(tmp_path / name, poses)

    return written


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(["score", *map(str, arguments)])
    out, err = capsys.readouterr()
    return ended.value.code, out, err


def moved(pose, metres, degrees):
    turn = Rotation.from_rotvec([np.radians(degrees), 0, 0]).as_matrix()
    return Rigid3(pose.rotation @ turn, pose.translation + np.array([0, 0, metres]))


def test_known_errors_give_known_scores(truth, estimates, capsys):
    sizes = [0.01, 0.04, 0.2, 0.6]
    off = {
        name: moved(pose, sizes[row % 4], 1 + row % 4)
        for row, (name, pose) in enumerate(TRUE.items())
    }
    code, out, _ = run(capsys, estimates(off), truth, "--json")
    result = json.loads(out, parse_constant=pytest.fail)
    assert code == 0
    assert (result["n"], result["failed"], result["unit"]) == (COUNT, 0, "metre")
    assert result["median_position"] == pytest.approx(0.12)
    assert result["median_rotation_deg"] == pytest.approx(2.5)
    assert result["mean_position"] == pytest.approx(np.mean(sizes))
    assert result["recall"]["0.02m_2deg"] == 0.25
    assert result["recall"]["0.05m_5deg"] == 0.5
    assert result["recall"]["5m_10deg"] == 1
    low, high = result["intervals"]["median_position"]
    assert low <= 0.12 <= high
    assert result["axes"]["median_z"] == pytest.approx(0.12)
    assert result["axes"]["median_x"] == pytest.approx(0, abs=1e-9)


def test_images_without_an_estimate_and_rows_of_nan_have_failed(truth, estimates, capsys):
    some = dict(list(TRUE.items())[:30])
    path = estimates(some)
    rows = path.read_text().splitlines()
    for row in range(24):
        rows[row] = f"{rows[row].split()[0]} {'nan ' * 7}"
    path.write_text("\n".join(rows) + "\n")
    code, out, _ = run(capsys, path, truth, "--json")
    result = json.loads(out)
    assert code == 0
    assert (result["n"], result["failed"], result["left_out"]) == (40, 34, 24)
    assert result["median_position"] is None
    assert result["answered"]["n"] == 6
    assert result["answered"]["median_position"] == pytest.approx(0, abs=1e-9)
    assert result["recall"]["0.05m_5deg"] == 6 / 40
    code, out, _ = run(capsys, path, truth)
    assert "6 of 40 images answered, 24 rows are no pose" in out
    assert max(map(len, out.splitlines())) <= 80


def test_names_are_matched_as_at_import(truth, estimates):
    short = {name.split("/")[1].replace(".color.png", ".jpg"): p for name, p in TRUE.items()}
    short["stranger.jpg"] = Rigid3.identity()
    result = score(estimates(short), truth).to_json()
    assert (result["failed"], result["strangers"]) == (0, 1)


def test_estimates_in_another_frame_are_aligned_only_where_asked(truth, estimates, capsys):
    sim3 = similarity(3)
    frame = dict(
        zip(TRUE, map(sim3.move_camera, noisy(list(TRUE.values()), 0.002, 0.1)), strict=True)
    )
    path = estimates(frame)
    apart = score(path, truth)
    assert apart.to_json()["median_position"] > 1
    code, out, _ = run(capsys, path, truth, "--align", "--json")
    result = json.loads(out)
    assert code == 0
    assert result["median_position"] < 0.005
    assert result["aligned"]["scale"] == pytest.approx(1 / sim3.scale, rel=1e-2)
    _, out, _ = run(capsys, path, truth, "--align")
    assert "which flatters" in " ".join(out.split())


def test_two_files_of_estimates_are_compared_with_a_p_value(truth, estimates, capsys):
    near = dict(zip(TRUE, noisy(list(TRUE.values()), 0.005, 0.2), strict=True))
    far = dict(zip(TRUE, noisy(list(TRUE.values()), 0.05, 0.2, seed=1), strict=True))
    code, out, _ = run(
        capsys,
        estimates(near, "m_near.txt"),
        truth,
        "--against",
        estimates(far, "m_far.txt"),
        "--json",
    )
    result = json.loads(out)
    position = next(one for one in result["paired"] if one["metric"] == "median_position")
    assert code == 0
    assert position["difference"] < 0
    assert position["p"] < 0.05
    assert result["against"][0]["median_position"] > result["median_position"]
    _, out, _ = run(
        capsys, estimates(near, "m_near.txt"), truth, "--against", estimates(far, "m_far.txt")
    )
    assert "near against far: position p = 0.016" in out
    assert max(map(len, out.splitlines())) <= 80


def test_a_notebook_shows_the_tables_of_the_command_and_a_repr_is_one_line(truth, estimates):
    half = dict(list(TRUE.items())[::2])
    result = score(estimates(half, "<half>.txt"), truth, against=[estimates(TRUE, "all.txt")])
    shown = result._repr_mimebundle_([], [])["text/html"]
    assert shown.count("95%") == 2 and "\nall " in shown
    assert "&lt;half&gt;" in shown and "<half>" not in shown
    assert re.fullmatch(
        r"<Score of 40 images against .*half>.txt – cm –°, .* 0\.00°>", repr(result)
    )


def test_which_images_count_can_be_given(truth, estimates, tmp_path):
    half = dict(list(TRUE.items())[::2])
    path = estimates(half)
    assert score(path, truth).to_json()["failed"] == 20
    listed = tmp_path / "test.txt"
    listed.write_text("# of the split\n" + "\n".join(half) + "\nstranger.png\n")
    only = score(path, truth, only=listed)
    assert (len(only.images), only.to_json()["failed"]) == (20, 0)
    listed.write_text("stranger.png\n")
    with pytest.raises(EvaluationError, match="none of the 1 names in"):
        score(path, truth, only=listed)


def test_a_place_is_a_truth_and_its_split_says_what_counts(tmp_path, estimates):
    place = make_numbers_place(tmp_path / "place", poses_of_a_walk(8))
    names = list(place.map.images)
    place.write_split(Split("half", "list", names[:4], names[4:]))
    path = estimates({name: place.map.images[name].world_from_cam for name in names[4:6]})
    result = score(path, place.root, split="half").to_json()
    assert (result["n"], result["failed"]) == (4, 2)
    assert result["unit"] == "map unit"
    assert set(result["recall"].values()) == {None}
    metric = score(path, place.root, split="half", unit="metre").to_json()
    assert metric["recall"]["0.05m_5deg"] == 0.5
    up = make_numbers_place(tmp_path / "up", poses_of_a_walk(8), frame=Frame(up="z", up_from="a"))
    assert score(path, up.root).to_json()["up"]["from"] == "a"


def test_a_unit_less_truth_has_no_recall_and_says_why(tmp_path, estimates, capsys):
    place = make_numbers_place(tmp_path / "place", poses_of_a_walk(8))
    path = estimates({name: i.world_from_cam for name, i in place.map.images.items()})
    code, out, _ = run(capsys, path, place.root)
    assert code == 0
    assert "No recall" in out
    assert "--unit metre" in " ".join(out.split())


def test_one_image_has_a_score_and_no_interval(truth, estimates, tmp_path, capsys):
    name = next(iter(TRUE))
    one = write_pose_list(tmp_path / "one.txt", {name: TRUE[name]})
    code, out, _ = run(capsys, estimates({name: moved(TRUE[name], 0.03, 2)}), one)
    assert code == 0
    assert "3.00" in out
    assert "too few to say" in " ".join(out.split())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "holds no estimates"),
        ("# nothing was localized\n", "holds no estimates"),
        (f"a.png {'nan ' * 7}\n", "each of its 1 rows has a number that is not finite"),
        ("other-1.png 1 0 0 0 0 0 0\nother-2.png 1 0 0 0 1 0 0\n", "no name in"),
        ("not a pose at all\n", "known format"),
    ],
)
def test_what_cannot_be_scored_is_one_line(truth, tmp_path, capsys, content, said):
    path = tmp_path / "estimates.txt"
    path.write_text(content)
    code, out, err = run(capsys, path, truth)
    assert (code, out) == (1, "")
    assert said in err
    assert len(err.strip().splitlines()) == 1


def test_an_empty_truth_is_said_to_be_empty(truth, tmp_path, capsys):
    empty = tmp_path / "empty.txt"
    empty.write_text("")
    code, out, err = run(capsys, truth, empty)
    assert (code, out) == (1, "")
    assert err.strip() == f"error: {empty} holds no true poses: no row but comments"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"split": "blocks"}, "is no Place"),
        ({"unit": "mile"}, "unit 'mile'"),
        ({"format": "pigeon"}, "unknown format 'pigeon'"),
    ],
)
def test_wrong_settings_are_one_line(truth, settings, said):
    with pytest.raises(RelocalizeError, match=said) as caught:
        score(truth, truth, **settings)
    assert "\n" not in str(caught.value)


def test_an_alignment_that_nothing_determines_is_refused(truth, estimates):
    name = next(iter(TRUE))
    for poses in ({name: TRUE[name]}, dict.fromkeys(TRUE, Rigid3.identity())):
        with pytest.raises(EvaluationError, match="cannot be aligned"):
            score(estimates(poses), truth, align=True)


def test_trajectories_are_matched_by_time_and_the_truths_other_poses_do_not_count(tmp_path):
    def trajectory(name, poses, times):
        rows = []
        for pose, at in zip(poses, times, strict=True):
            w, x, y, z = pose.quat_wxyz
            rows.append(" ".join(map(repr, map(float, (at, *pose.translation, x, y, z, w)))))
        path = tmp_path / name
        path.write_text("# timestamp tx ty tz qx qy qz qw\n" + "\n".join(rows) + "\n")
        return path

    poses = list(TRUE.values())
    times = [1305031102.0 + 0.1 * row for row in range(COUNT)]
    truth = trajectory("truth.txt", poses, times)
    some = trajectory(
        "some.txt", [moved(p, 0.03, 1) for p in poses[:30]], np.add(times[:30], 0.004)
    )
    one = score(some, truth)
    assert (len(one.images), one.to_json()["failed"]) == (30, 0)
    assert one.to_json()["median_position"] == pytest.approx(0.03)
    fewer = trajectory("fewer.txt", poses[:10], times[:10])
    both = score(some, truth, against=[fewer]).to_json()
    assert (both["failed"], both["against"][0]["failed"]) == (0, 20)
    late = trajectory("late.txt", poses, np.add(times, 1000))
    with pytest.raises(EvaluationError, match=r"no time in .* of 1305032102 to 1305032105\.9 s"):
        score(late, truth)


@pytest.mark.data
def test_published_estimates_score_as_their_raw_columns_say(data_dir):
    """hloc's estimates of 7-Scenes heads (Brachmann et al., ICCV 2021), scored two ways.

    The other way shares no code with the library: scipy's rotations on the files' own columns.
    """
    folder = data_dir / "published_estimates"
    files = (
        folder / "estimates/sfm/7scenes/heads_hloc.txt",
        folder / "pgt/sfm/7scenes/heads_test.txt",
    )
    found = score(*files)
    columns = []
    for file in files:
        rows = sorted(line.split() for line in file.read_text().splitlines())
        columns.append(np.array([row[1:8] for row in rows], dtype=float))
    turns = [Rotation.from_quat(side[:, :4], scalar_first=True) for side in columns]
    centres = [-turn.inv().apply(side[:, 4:]) for turn, side in zip(turns, columns, strict=True)]
    distance = np.linalg.norm(centres[0] - centres[1], axis=1)
    angle = np.degrees((turns[0] * turns[1].inv()).magnitude())
    (errors,) = found.comparison.errors.values()
    assert errors.position == pytest.approx(distance, abs=1e-9)
    assert errors.rotation_deg == pytest.approx(angle, abs=1e-6)
    share = float(((distance <= 0.05) & (angle <= 5)).mean())
    assert found.to_json()["recall"]["0.05m_5deg"] == share


@pytest.mark.data
def test_errors_that_a_method_stated_of_itself_are_the_ones_we_find(data_dir):
    """DSAC* wrote its errors against this truth behind each of its estimates, by its own code."""
    folder = data_dir / "published_estimates"
    estimates = read_registration(folder / "estimates/sfm/7scenes/stairs_dsac_rgb.txt")
    truth = read_registration(folder / "pgt/sfm/7scenes/stairs_test.txt")
    names = list(estimates.poses)
    errors = PoseErrors.of(
        [estimates.world_from_cam(name) for name in names],
        [truth.world_from_cam(name) for name in names],
    )
    stated = np.array(
        [[float(value) for value in estimates.columns[name].values()] for name in names]
    )
    # The poses have 6 decimals, and so do the truth's: an angle is known to 1e-4 degrees.
    assert np.abs(errors.position - stated[:, 1]).max() < 1e-4
    assert np.abs(errors.rotation_deg - stated[:, 0]).max() < 1e-3
