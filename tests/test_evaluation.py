"""Evaluation: known errors give known numbers, failures are infinite, train alone aligns."""

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console
from scipy.spatial.transform import Rotation

from relocalize.cli.main import main
from relocalize.errors import EvaluationError, PlaceError, RelocalizeError
from relocalize.evaluation import THRESHOLDS, PoseErrors, Scores, evaluate, scoring
from relocalize.evaluation.leakage import Nearness, errors_by_nearness, nearest_views
from relocalize.evaluation.metrics import Times
from relocalize.evaluation.table import results_table
from relocalize.evaluation.truth import truth_from_file
from relocalize.geometry import Rigid3, Similarity3
from relocalize.localization import PoseEstimate
from relocalize.mapping import MapReport
from relocalize.place import Place, Split
from relocalize.plain import to_strict_json
from relocalize.verbs import build as pipeline
from relocalize.verbs.import_poses import import_poses

COUNT = 40  # images of the synthetic walk; every 5th is test


def walk_poses(count: int = COUNT) -> dict[str, Rigid3]:
    """``world_from_cam`` along a bent path, looking around."""
    return {
        f"frame-{i:06d}.jpg": Rigid3(
            Rotation.from_euler("yx", [7 * i, 3 * (i % 5)], degrees=True).as_matrix(),
            np.array([0.1 * i, 0.3 * np.sin(0.3 * i), 0.02 * i * i / 10]),
        )
        for i in range(count)
    }


def pose_list(path: Path, world_from_cam: dict[str, Rigid3]) -> Path:
    rows = []
    for name, pose in world_from_cam.items():
        inverse = pose.inverse()
        numbers = (*inverse.quat_wxyz, *inverse.translation, 60.0)
        rows.append(" ".join([name, *(repr(float(number)) for number in numbers)]))
    path.write_text("\n".join(rows) + "\n")
    return path


class Scripted:
    """A localizer that is off the truth by given amounts; images carry their number."""

    map_noise = None

    def __init__(self, world_from_cam, errors):
        self.world_from_cam, self.errors, self.cameras = world_from_cam, errors, []

    def localize(self, image, camera=None):
        self.cameras.append(camera)
        index = round(float(image.mean()) / 5)
        offset, angle_deg = self.errors(index)
        if not np.isfinite(offset):
            return PoseEstimate("failed", "metre", 1.0, reason="too few matches")
        true = self.world_from_cam[f"frame-{index:06d}.jpg"]
        turn = Rotation.from_rotvec([np.radians(angle_deg), 0, 0]).as_matrix()
        pose = Rigid3(true.rotation @ turn, true.translation + np.array([0, 0, offset]))
        return PoseEstimate("localized", "metre", 1.0, world_from_cam=pose, inliers=50)


@pytest.fixture
def walk(tmp_path):
    """A Place of `COUNT` imported images with a split."""
    images = tmp_path / "images"
    images.mkdir()
    poses = walk_poses()
    for index, name in enumerate(poses):
        Image.new("RGB", (64, 48), (5 * index,) * 3).save(images / name, quality=95)
    place = Place.create(tmp_path / "place")
    listed = pose_list(tmp_path / "poses.txt", poses)
    import_poses(listed, place, images, convention="stated", capture="walk")
    names = [f"walk/{name}" for name in poses]
    test = names[2::5]
    place.write_split(Split("fifth", "list", tuple(n for n in names if n not in test), tuple(test)))
    return place


@pytest.fixture
def script(monkeypatch):
    """Makes every localizer a `Scripted` one; returns them by name."""

    def scripted(errors):
        made = {}

        def fitted(place, name, split=None):
            made[name] = Scripted(walk_poses(), errors)
            return made[name]

        monkeypatch.setattr(scoring, "fitted", fitted)
        monkeypatch.setattr(scoring, "folder_and_kind", lambda *_: None)  # whatever its name
        return made

    return scripted


# -- metrics --------------------------------------------------------------------------------


def errors_of(pairs):
    """Errors of known sizes; their directions are not looked at."""
    position, rotation = np.array(pairs, dtype=float).reshape(-1, 2).T
    return PoseErrors(position, rotation, np.zeros((len(pairs), 3)), np.zeros((len(pairs), 3)))


def scores(pairs, *, metric=True):
    return Scores.of(errors_of(pairs), metric=metric)


def test_known_errors_give_known_medians_and_recalls():
    row = scores([(0.01, 1), (0.02, 2), (0.04, 4), (0.04, 6), (0.3, 1), (4, 9), (9, 1)])
    assert row.median_position == 0.04
    assert row.median_rotation_deg == 2
    assert {key: round(7 * share) for key, share in row.recall.items()} == {
        "0.02m_2deg": 2,
        "0.05m_5deg": 3,
        "0.1m_5deg": 3,
        "0.25m_2deg": 2,
        "0.5m_5deg": 4,
        "5m_10deg": 6,
    }
    assert (row.failed, row.n) == (0, 7)
    assert row.mean_position == pytest.approx(13.41 / 7)
    assert row.mean_rotation_deg == pytest.approx(24 / 7)
    assert Times.of(range(1, 8), range(1, 8)).ms_median == 4


def test_failures_are_infinite_in_medians_and_outside_every_recall():
    row = scores([(0.01, 1), (np.inf, np.inf), (np.inf, np.inf)])
    assert row.median_position == np.inf
    assert row.failed == 2
    assert set(row.recall.values()) == {1 / 3}
    assert scores([(0.01, 1), (0.03, 1), (np.inf, np.inf)]).median_position == 0.03
    assert scores([(0.01, 1), (np.inf, np.inf)]).median_position == np.inf


def test_json_has_no_number_that_json_does_not_know():
    row = to_strict_json(scores([(np.inf, np.inf)]))
    assert row["median_position"] is None
    json.dumps(row, allow_nan=False)
    unknown = to_strict_json(scores([(0.01, 1)], metric=False))
    assert set(unknown["recall"].values()) == {None}


@given(
    st.lists(
        st.tuples(st.floats(0, 20) | st.just(np.inf), st.floats(0, 180)), min_size=1, max_size=30
    )
)
def test_recall_grows_with_its_threshold_and_failures_only_lower_it(pairs):
    recalls = [scores(pairs).recall[one.key] for one in THRESHOLDS]
    assert recalls[0] <= recalls[1] <= recalls[2]
    more = scores([*pairs, (np.inf, np.inf)]).recall
    assert all(more[one.key] <= share for one, share in zip(THRESHOLDS, recalls, strict=True))


def test_a_pose_error_is_of_centres_and_of_the_turn_between():
    true = Rigid3(Rotation.from_euler("x", 40, degrees=True).as_matrix(), np.array([1.0, 2, 3]))
    off = Rigid3(Rotation.from_euler("x", 43, degrees=True).as_matrix(), np.array([1.0, 2, 3.05]))
    errors = PoseErrors.of([off, None], [true, true])
    assert errors.position[0] == pytest.approx(0.05)
    assert errors.rotation_deg[0] == pytest.approx(3)
    assert list(errors.failed) == [False, True]


def test_the_nearest_view_is_the_one_that_shows_the_same():
    here = Rigid3.identity()
    turned = Rigid3(Rotation.from_euler("y", 90, degrees=True).as_matrix(), np.zeros(3))
    shifted = Rigid3(np.eye(3), np.array([0.5, 0, 0]))
    ((distance, angle_deg, change_deg),) = nearest_views([turned, shifted], [here], scene_depth=3.0)
    assert distance == pytest.approx(0.5)
    assert angle_deg == pytest.approx(0)
    assert change_deg == pytest.approx(np.degrees(0.5 / 3))


# -- evaluate -------------------------------------------------------------------------------


def test_an_evaluation_finds_the_errors_that_were_made(walk, script):
    script(lambda index: (0.03, 1.5) if index % 2 else (0.2, 1.0))
    result = evaluate(walk).to_json()
    assert (result["split"], result["aligned"]) == ("fifth", None)
    assert list(result["localizers"]) == ["constant", "retrieval", "structure"]
    row = result["localizers"]["structure"]
    assert (row["n"], row["failed"]) == (8, 0)
    assert row["median_position"] == pytest.approx(0.115, abs=1e-6)
    assert row["median_rotation_deg"] == pytest.approx(1.25, abs=1e-4)
    assert row["recall"]["0.05m_5deg"] == 0.5
    assert row["recall"]["0.25m_2deg"] == 1
    assert 0 <= row["ms_median"] <= row["ms_p95"]


def test_a_notebook_shows_the_tables_and_a_repr_is_one_line(walk, script):
    script(lambda index: (0.03, 1.5))
    result = evaluate(walk)
    assert repr(result) == (
        "<Evaluation of split 'fifth' on 8 test images: constant 3.00 cm 1.50°, "
        "retrieval 3.00 cm 1.50°, structure 3.00 cm 1.50°>"
    )
    shown = result._repr_mimebundle_([], [])["text/html"]
    lines = [line.split() for line in re.sub(r"<.*?>", "", shown).splitlines()]
    assert ["localizer", "fail", "cm", "deg"] in [line[:4] for line in lines]
    assert ["structure", "0", "3.00", "1.50"] in [line[:4] for line in lines]


def test_failures_count_and_their_reasons_are_kept(walk, script):
    script(lambda index: (np.inf, np.inf) if index > 10 else (0.01, 1.0))
    row = evaluate(walk).to_json()["localizers"]["structure"]
    assert (row["n"], row["failed"], row["median_position"]) == (8, 6, None)
    assert row["recall"]["5m_10deg"] == 0.25
    stored = json.loads((walk.report_dir("fifth") / "results.json").read_text())
    last = stored["per_image"][-1]["localizers"]["structure"]
    assert (last["status"], last["reason"]) == ("failed", "too few matches")
    assert last["position_error"] is None
    assert stored["made"]["with"]["relocalize"]


def test_the_calibration_that_train_images_share_is_given(walk, script):
    made = script(lambda index: (0.0, 0.0))
    evaluate(walk)
    cameras = made["structure"].cameras
    assert len(cameras) == 8
    assert all(camera.focal_px == 60 and camera.known == "exact" for camera in cameras)


def test_a_place_without_a_split_gets_blocks_of_time(walk, script):
    script(lambda index: (0.0, 0.0))
    (walk.root / "splits" / "fifth.json").unlink()
    result = evaluate(walk)
    split = walk.split("blocks")
    assert result.split == "blocks"
    numbers = {side: [int(n[-10:-4]) for n in getattr(split, side)] for side in ("train", "test")}
    distance = min(abs(a - b) for a in numbers["train"] for b in numbers["test"])
    assert distance >= 2  # a gap: no train frame next to a test frame


SIM3 = Similarity3(
    2.5,
    Rotation.from_euler("zyx", [30, -20, 110], degrees=True).as_matrix(),
    np.array([5.0, 1, -2]),
)


def other_frame(poses: dict[str, Rigid3]) -> dict[str, Rigid3]:
    """The walk's poses in another world frame, under another tool's names."""
    return {
        name.replace(".jpg", ".color.png"): SIM3.move_camera(pose) for name, pose in poses.items()
    }


def test_truth_in_another_frame_and_scale_gives_errors_in_its_unit(walk, script, tmp_path):
    script(lambda index: (0.02, 1.0))
    truth = pose_list(tmp_path / "truth.txt", other_frame(walk_poses()))
    result = evaluate(walk, truth=truth).to_json()
    assert result["aligned"]["images"] == 32
    assert result["aligned"]["scale"] == pytest.approx(2.5)
    assert result["aligned"]["median_position"] < 1e-6
    row = result["localizers"]["structure"]
    assert row["median_position"] == pytest.approx(0.05, abs=1e-6)
    assert row["median_rotation_deg"] == pytest.approx(1.0, abs=1e-4)


def test_the_alignment_uses_train_images_only(walk, tmp_path):
    split = walk.split("fifth")
    poses = other_frame(walk_poses())
    clean = truth_from_file(pose_list(tmp_path / "clean.txt", poses), walk, split)
    rng = np.random.default_rng(0)
    for name in split.test:
        key = Path(name).name.replace(".jpg", ".color.png")
        poses[key] = Rigid3(Rotation.random(rng=rng).as_matrix(), rng.normal(size=3) * 100)
    corrupt = truth_from_file(pose_list(tmp_path / "corrupt.txt", poses), walk, split)
    for field in ("scale", "rotation", "translation"):
        np.testing.assert_array_equal(
            getattr(clean.truth_from_place, field), getattr(corrupt.truth_from_place, field)
        )


def test_a_few_wrong_train_poses_do_not_move_the_alignment(walk, tmp_path):
    split = walk.split("fifth")
    poses = other_frame(walk_poses())
    for name in split.train[:6]:
        key = Path(name).name.replace(".jpg", ".color.png")
        poses[key] = Rigid3(np.eye(3), np.full(3, 50.0))
    truth = truth_from_file(pose_list(tmp_path / "wrong.txt", poses), walk, split)
    assert truth.truth_from_place.scale == pytest.approx(2.5, rel=1e-6)
    assert truth.alignment.inliers.sum() == 26


def test_images_without_truth_are_not_scored_and_said(walk, script, tmp_path):
    script(lambda index: (0.0, 0.0))
    poses = walk_poses()
    del poses["frame-000002.jpg"]
    result = evaluate(walk, truth=pose_list(tmp_path / "truth.txt", poses)).to_json()
    assert result["localizers"]["structure"]["n"] == 7
    assert result["images"]["not_scored"] == 1


def test_truth_of_another_place_is_refused_in_one_line(walk, tmp_path):
    strangers = {f"other-{i}.jpg": Rigid3.identity() for i in range(9)}
    with pytest.raises(EvaluationError, match=r"other-0\.jpg") as caught:
        evaluate(walk, truth=pose_list(tmp_path / "truth.txt", strangers))
    assert "\n" not in str(caught.value)
    standing = dict.fromkeys(walk_poses(), Rigid3.identity())
    with pytest.raises(EvaluationError, match="in one place"):
        evaluate(walk, truth=pose_list(tmp_path / "standing.txt", standing))


def test_a_map_without_metres_has_no_recall(walk, script):
    script(lambda index: (0.03, 1.0))
    walk.record_poses(poses_from="structure from motion", frame=type(walk.frame)())
    result = evaluate(walk).to_json()
    assert result["unit"] == "map unit"
    assert set(result["localizers"]["structure"]["recall"].values()) == {None}
    assert result["localizers"]["structure"]["median_position"] == pytest.approx(0.03, abs=1e-6)


def test_the_command_prints_strict_json_and_a_table_of_80_columns(walk, script, capsys):
    script(lambda index: (np.inf, np.inf) if index > 10 else (0.01, 1.0))
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", str(walk.root), "--json"])
    assert ended.value.code == 0

    def refuse(constant):
        raise ValueError(constant)

    result = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert result["localizers"]["structure"]["failed"] == 6
    with pytest.raises(SystemExit):
        main(["evaluate", str(walk.root)])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert any(line.split()[:3] == ["structure", "6", "–"] for line in lines)


def test_an_evaluation_that_is_stopped_goes_on_where_it_was(walk, script):
    def dies(index):
        if index > 20:
            raise KeyboardInterrupt
        return 0.03, 1.0

    script(dies)
    with pytest.raises(KeyboardInterrupt):
        evaluate(walk)
    log = walk.report_dir("fifth") / "answers.jsonl"
    log.write_text(log.read_text()[:-30])  # as a kill within a write leaves it
    made = script(lambda index: (0.03, 1.0))
    row = evaluate(walk).to_json()["localizers"]["structure"]
    assert row["n"] == 8
    assert row["median_position"] == pytest.approx(0.03, abs=1e-9)
    assert len(made["constant"].cameras) == 4  # of 8: the first four were answered before
    assert len(made["structure"].cameras) == 5  # its last answer was cut short
    assert not log.exists()


def test_answers_of_another_split_are_not_taken_over(walk, script):
    def dies(index):
        if index > 20:
            raise KeyboardInterrupt
        return 0.5, 1.0

    script(dies)
    with pytest.raises(KeyboardInterrupt):
        evaluate(walk)
    old = walk.split("fifth")
    walk.write_split(Split("fifth", "list", old.train[1:], old.test))
    made = script(lambda index: (0.03, 1.0))
    evaluate(walk)
    assert len(made["structure"].cameras) == 8


@pytest.mark.parametrize("arguments", [{"split": "nowhere"}, {"localizers": ["magic"]}])
def test_what_is_not_there_is_said_in_one_line_before_anything_is_written(walk, arguments):
    (walk.root / "splits" / "fifth.json").unlink()
    with pytest.raises(RelocalizeError) as caught:
        evaluate(walk, **arguments)
    assert "\n" not in str(caught.value)
    assert not walk.split_names


def test_a_place_without_poses_says_what_to_do(tmp_path):
    with pytest.raises(PlaceError, match="relocalize map"):
        evaluate(Place.create(tmp_path / "empty"))


# -- build ----------------------------------------------------------------------------------


@pytest.fixture
def build(walk, script, monkeypatch, capsys):
    """`relocalize build` on a Place whose frames and map are there; returns its JSON."""
    script(lambda index: (0.03, 1.0))
    report = MapReport(COUNT, COUNT, COUNT, COUNT, 0, 0.0, unchanged=True)
    monkeypatch.setattr(pipeline, "capture_frames", lambda *args, **options: None)
    monkeypatch.setattr(pipeline, "map_place", lambda place, settings: report)
    monkeypatch.setattr(pipeline, "fitted", lambda place, name, split=None: None)
    monkeypatch.setattr(pipeline, "localizer_type", lambda name: None)

    def run(*options):
        with pytest.raises(SystemExit) as ended:
            main(["build", "walk.mp4", str(walk.root), "--no-train", "--json", *options])
        assert ended.value.code == 0
        return json.loads(capsys.readouterr().out)

    return run


def test_build_ends_with_numbers_and_a_report_and_does_nothing_twice(build, walk, monkeypatch):
    first = build()
    assert list(first["stages"]) == ["frames", "map", "split", "fit", "evaluate", "report"]
    assert first["evaluation"]["localizers"]["structure"]["median_position"] == pytest.approx(0.03)
    assert Path(first["report"]).is_file()
    stamp = (walk.report_dir("fifth") / "results.json").stat().st_mtime_ns
    assert build()["evaluation"] == first["evaluation"]
    assert (walk.report_dir("fifth") / "results.json").stat().st_mtime_ns == stamp


@pytest.mark.parametrize("change", ["split", "truth", "localizer"])
def test_build_evaluates_again_when_what_it_rests_on_changes(build, walk, tmp_path, change):
    build()
    path = walk.report_dir("fifth") / "results.json"
    stamp = path.stat().st_mtime_ns
    if change == "split":
        old = walk.split("fifth")
        walk.write_split(Split("fifth", "list", old.train[:-1], old.test))
        build()
    elif change == "truth":
        truth = pose_list(tmp_path / "truth.txt", other_frame(walk_poses()))
        assert build("--truth", str(truth))["evaluation"]["aligned"]["scale"] == pytest.approx(2.5)
    else:
        assert "more" in build("--localizer", "structure", "more")["evaluation"]["localizers"]
    assert path.stat().st_mtime_ns != stamp


def test_build_of_too_few_images_for_a_test_set_still_ends_well(build, walk, monkeypatch):
    (walk.root / "splits" / "fifth.json").unlink()
    monkeypatch.setattr(pipeline, "_LEAST_IMAGES", COUNT + 1)
    result = build()
    assert (result["evaluation"], result["report"]) == (None, None)
    assert list(result["stages"]) == ["frames", "map", "split", "fit"]


# -- leakage, and what is known of the truth ------------------------------------------------


def stored(place, split):
    return json.loads((place.report_dir(split) / "results.json").read_text())


def test_errors_are_there_as_a_function_of_the_nearest_train_view(walk, script):
    script(lambda index: (0.01 * index, 1.0))
    result = evaluate(walk).to_json()
    rows = stored(walk, "fifth")["per_image"]
    by_frames = result["leakage"]["frames"]
    assert by_frames["bins"] == [
        {
            "from": 1.0,
            "to": 1.0,
            "n": 8,
            "localizers": {
                name: {
                    "failed": 0,
                    "median_position": pytest.approx(0.195),
                    "median_rotation_deg": pytest.approx(1.0, abs=1e-4),
                }
                for name in ("constant", "retrieval", "structure")
            },
        }
    ]
    assert by_frames["rank_correlation"]["structure"] is None  # 1 frame everywhere
    # The walk gets faster, so later images are farther from their neighbours, and worse.
    assert result["leakage"]["distance"]["rank_correlation"]["structure"] > 0.5
    assert result["leakage"]["seconds"] is None
    assert result["nearest_train_view"]["median_frames"] == 1
    assert {row["nearest_train_frames"] for row in rows} == {1.0}
    assert all(row["nearest_train_seconds"] is None for row in rows)


def test_bins_hold_equally_many_images_in_order():
    distance = np.random.default_rng(0).permutation(65) / 10
    errors = {"a": errors_of([(value, 1) for value in distance])}
    nearness = Nearness(distance, distance, distance, np.full(65, np.nan), distance)
    found = errors_by_nearness(nearness, errors)["distance"]
    assert [one["n"] for one in found["bins"]] == [11, 11, 11, 11, 11, 10]
    edges = [end for one in found["bins"] for end in (one["from"], one["to"])]
    assert edges == sorted(edges)
    assert found["bins"][0]["localizers"]["a"]["median_position"] == pytest.approx(0.5)
    assert found["rank_correlation"]["a"] == pytest.approx(1)


def test_errors_of_single_images_are_taken_apart(walk, script):
    script(lambda index: (np.inf, 0) if index == 2 else (0.03, 1.5))
    result = evaluate(walk).to_json()
    failed, other = (
        row["localizers"]["structure"] for row in stored(walk, "fifth")["per_image"][:2]
    )
    assert other["position_error_xyz"] == pytest.approx([0, 0, 0.03])
    parts = [other[f"{name}_error_deg"] for name in ("heading", "pitch", "roll")]
    assert np.linalg.norm(parts) == pytest.approx(1.5, abs=1e-4)
    assert failed["position_error_xyz"] is None
    assert failed["heading_error_deg"] is None
    assert result["localizers"]["structure"]["axes"]["median_z"] == pytest.approx(0.03)


def test_what_a_truth_from_a_file_is_exact_to_is_said_and_errors_below_are_counted(
    walk, script, tmp_path
):
    script(lambda index: (0.0002, 0.01) if index % 2 else (0.2, 5.0))
    rng = np.random.default_rng(0)
    poses = {
        name: Rigid3(pose.rotation, pose.translation + rng.normal(0, 0.004, 3))
        for name, pose in walk_poses().items()
    }
    result = evaluate(walk, truth=pose_list(tmp_path / "truth.txt", poses)).to_json()
    sigma = result["truth_sigma"]
    assert sigma["n"] == 8
    assert sigma["median_position"] == pytest.approx(0.004 * np.sqrt(3), rel=0.35)
    below = result["localizers"]["structure"]["below_truth_sigma"]
    assert 0.1 <= below["position"] <= 0.5
    assert stored(walk, "fifth")["per_image"][0]["truth_sigma"]["position"] > 0


def test_of_imported_poses_nothing_is_claimed_without_the_images_word(walk, script):
    script(lambda index: (0.01, 1.0))
    result = evaluate(walk).to_json()
    assert result["truth_sigma"] is None
    assert result["localizers"]["structure"]["below_truth_sigma"] is None


def test_another_splits_evaluation_stands_beside(walk, script, capsys):
    script(lambda index: (0.03, 1.0))
    names = [f"walk/{name}" for name in walk_poses()]
    walk.write_split(Split("random", "random", tuple(names[::2]), tuple(names[1::2])))
    with pytest.raises(EvaluationError, match=r"relocalize evaluate .* --split random"):
        evaluate(walk, split="fifth", beside="random")
    evaluate(walk, split="random")
    result = evaluate(walk, split="fifth", beside="random").to_json()
    assert result["beside"]["rule"] == "random"
    assert result["beside"]["localizers"]["structure"]["n"] == 20
    assert stored(walk, "fifth")["beside"] == result["beside"]
    with pytest.raises(SystemExit):
        main(["evaluate", str(walk.root), "--split", "fifth", "--beside", "random"])
    out = capsys.readouterr().out
    assert "For comparison, split random (random), nearest train view" in out
    assert "structure: 3.00 cm, 1.00 deg, 100% in 5 cm 5°, 0 failed" in out
    walk.record_poses(poses_from="structure from motion", frame=type(walk.frame)())
    with pytest.raises(EvaluationError, match="unit 'metre'"):
        evaluate(walk, split="fifth", beside="random")


def test_the_table_greys_what_is_below_the_truths_own_error(walk, script, tmp_path):
    script(lambda index: (0.0001, 20.0))
    rng = np.random.default_rng(0)
    poses = {
        name: Rigid3(pose.rotation, pose.translation + rng.normal(0, 0.01, 3))
        for name, pose in walk_poses().items()
    }
    exact = evaluate(walk).to_json()
    rough = evaluate(walk, truth=pose_list(tmp_path / "t.txt", poses)).to_json()
    rough["localizers"]["structure"]["median_position"] = 0.001
    styles = {}
    for which, results in (("exact", exact), ("rough", rough)):
        console = Console(width=80, record=True, force_terminal=True, file=io.StringIO())
        console.print(results_table(results))
        text = console.export_text(styles=True)
        styles[which] = re.search(r"structure.*", text).group()
    assert "\x1b[2m" in styles["rough"]
    assert "\x1b[2m" not in styles["exact"]


def test_one_test_image_and_all_failed_are_evaluations_like_others(walk, script, capsys):
    script(lambda index: (np.inf, np.inf))
    names = [f"walk/{name}" for name in walk_poses()]
    walk.write_split(Split("one", "list", tuple(names[:30]), (names[35],)))
    result = evaluate(walk, split="one").to_json()
    row = result["localizers"]["structure"]
    assert (row["n"], row["failed"], row["answered"], row["median_position"]) == (1, 1, None, None)
    assert row["intervals"]["median_position"] is None
    assert {one["p"] for one in result["paired"]} == {1.0}
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", str(walk.root), "--split", "one"])
    assert ended.value.code == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80
