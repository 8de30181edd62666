"""Bringing a Place's frame onto another, from the command line to the files."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from localization_place import copy_of_room
from numbers_place import (
    CAMERA,
    make_numbers_place,
    noisy,
    poses_of_a_walk,
    similarity,
    write_pose_list,
)
from relocalize import MapModel, Place, Rigid3, Similarity3
from relocalize.cli.main import main
from relocalize.errors import GeometryError, MappingError
from relocalize.geometry import position_error, rotation_error_deg
from relocalize.geometry.transforms import rotation_angle_deg
from relocalize.localization import fitted
from relocalize.mapping import map_place
from relocalize.mapping.aligning import align_place, read_reference
from relocalize.mapping.ground_control import align_to_control, read_control
from relocalize.mapping.moving import move_place
from relocalize.mapping.scale import image_of
from relocalize.place import Frame, atomic


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    return int(stopped.value.code or 0)


@pytest.fixture
def truth() -> list[Rigid3]:
    """The walk in metres with z up."""
    return poses_of_a_walk()


@pytest.fixture
def place(tmp_path: Path, truth: list[Rigid3]) -> Place:
    """The same walk in a frame of its own: turned, shifted, and in map units."""
    place_from_truth = similarity(1).inverse()
    return make_numbers_place(
        tmp_path / "place", [place_from_truth.move_camera(pose) for pose in truth]
    )


@pytest.fixture
def reference(tmp_path: Path, truth: list[Rigid3]) -> Place:
    """The walk as another Place has it, with noise."""
    return make_numbers_place(
        tmp_path / "reference",
        noisy(truth, 0.01, 0.3),
        frame=Frame("z", "stated", "metre", "measured"),
    )


def assert_at(place: Place, truth: list[Rigid3], *, metres: float, degrees: float) -> None:
    for image, true in zip(place.posed_images(), truth, strict=True):
        assert position_error(image.world_from_cam, true) <= metres
        assert rotation_error_deg(image.world_from_cam, true) <= degrees


def test_json_says_the_transform_and_how_sure_it_is(
    place: Place, reference: Place, truth: list[Rigid3], capsys: pytest.CaptureFixture[str]
) -> None:
    before = (place.map_dir / "images.bin").read_bytes()
    assert run("align", place.root, reference.root, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    true = similarity(1)
    assert found["scale"] == pytest.approx(true.scale, rel=0.02)
    assert abs(np.dot(found["quat_wxyz"], true.quat_wxyz)) >= np.cos(np.radians(0.5) / 2)
    assert np.abs(np.array(found["translation"]) - true.translation).max() <= 0.2
    assert found["n"] == len(truth)
    assert found["outliers"] == []
    # Three axes of 1 cm and 0.3 degrees have a median length of 1.54 of them.
    assert 0.010 <= found["residual_median"] <= 0.022
    assert 0.3 <= found["residual_median_deg"] <= 0.65
    assert found["residual_median"] < found["loo_median"] <= 0.03
    assert np.array(found["covariance"]).shape == (7, 7)
    assert found["changed"] is False
    assert (place.map_dir / "images.bin").read_bytes() == before


def test_gross_mistakes_are_named_with_their_size(
    tmp_path: Path, place: Place, truth: list[Rigid3], capsys: pytest.CaptureFixture[str]
) -> None:
    listed = {f"photos/{i:04d}.png": pose for i, pose in enumerate(noisy(truth, 0.01, 0.3))}
    wrong = listed["photos/0005.png"]
    listed["photos/0005.png"] = Rigid3(wrong.rotation, np.add(wrong.translation, [0.0, 0.5, 0.0]))
    flipped = listed["photos/0017.png"]
    listed["photos/0017.png"] = Rigid3(
        flipped.rotation @ np.diag([-1.0, -1, 1]), flipped.translation
    )
    path = write_pose_list(tmp_path / "poses.txt", listed)
    assert run("align", place.root, path, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["outliers"] == ["walk/0017.jpg", "walk/0005.jpg"]
    sizes = {row["image"]: row for row in found["outlier_residuals"]}
    assert sizes["walk/0005.jpg"]["distance"] == pytest.approx(0.5, abs=0.05)
    assert sizes["walk/0017.jpg"]["angle_deg"] == pytest.approx(180, abs=2)
    assert run("align", place.root, path) == 0
    assert "2 outliers" in capsys.readouterr().out


def test_apply_moves_poses_points_and_frame(
    place: Place, reference: Place, truth: list[Rigid3]
) -> None:
    model = place.map
    seen = {name: image.keypoints.copy() for name, image in model.images.items()}
    assert run("align", place.root, reference.root, "--apply") == 0
    moved = Place.open(place.root)
    assert_at(moved, truth, metres=0.02, degrees=0.3)
    assert moved.frame == reference.frame
    assert moved.poses_from == "structure from motion (test)"
    assert [move.onto for move in moved.moves] == ["Place reference"]
    assert moved.moves[0].frame_before == Frame()
    assert moved.moves[0].scale == pytest.approx(similarity(1).scale, rel=0.02)
    # Every point is still where its images see it.
    for name, image in moved.map.images.items():
        points = image.cam_from_world @ moved.points.positions[image.point_rows]
        np.testing.assert_allclose(image.camera.img_from_cam(points), seen[name], atol=1e-3)


def test_applied_twice_is_applied_once(
    place: Place, reference: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("align", place.root, reference.root, "--apply") == 0
    files = {path: path.stat().st_mtime_ns for path in place.root.rglob("*") if path.is_file()}
    capsys.readouterr()
    assert run("align", place.root, reference.root, "--apply", "--json") == 0
    again = json.loads(capsys.readouterr().out)
    assert again["changed"] is False
    assert again["scale"] == pytest.approx(1, abs=1e-7)
    assert again["quat_wxyz"][0] == pytest.approx(1, abs=1e-10)
    assert np.abs(again["translation"]).max() <= 1e-6
    now = {path: path.stat().st_mtime_ns for path in place.root.rglob("*") if path.is_file()}
    assert {k: v for k, v in now.items() if k.name != ".lock"} == {
        k: v for k, v in files.items() if k.name != ".lock"
    }


def test_a_straight_corridor_is_aligned(tmp_path: Path) -> None:
    truth = poses_of_a_walk(straight=True)
    place_from_truth = similarity(2).inverse()
    place = make_numbers_place(tmp_path / "p", [place_from_truth.move_camera(p) for p in truth])
    path = write_pose_list(
        tmp_path / "poses.txt",
        {f"{i:04d}.jpg": pose for i, pose in enumerate(noisy(truth, 0.01, 0.5))},
    )
    found = align_place(place, read_reference(path)).reference_from_place
    assert rotation_angle_deg(found.rotation.T @ similarity(2).rotation) <= 0.5
    assert found.scale == pytest.approx(similarity(2).scale, rel=0.01)


def test_a_scale_that_rigid_leaves_out_is_named(place: Place, reference: Place) -> None:
    scale = align_place(place, read_reference(reference.root)).reference_from_place.scale
    with pytest.raises(MappingError) as refused:
        align_place(place, read_reference(reference.root), rigid=True)
    assert f"agree with a scale of {scale:.4g}, so leave --rigid away" in str(refused.value)


def test_rigid_keeps_the_scale_and_the_unit(tmp_path: Path, truth: list[Rigid3]) -> None:
    frame = Frame("z", "stated", "metre", "measured")
    turned = Similarity3(1.0, similarity(3).rotation, np.array([4.0, 5, 6]))
    place = make_numbers_place(tmp_path / "p", truth, frame=frame)
    other = make_numbers_place(tmp_path / "q", [turned.move_camera(pose) for pose in truth])
    assert run("align", place.root, other.root, "--rigid", "--apply") == 0
    moved = Place.open(place.root)
    assert moved.moves[0].scale == 1.0
    assert moved.unit == "metre"
    assert moved.frame.up is None  # as of the other, whose z nobody knows to be up


def test_up_stays_known_where_z_stays_up(tmp_path: Path, truth: list[Rigid3]) -> None:
    place = make_numbers_place(tmp_path / "p", truth, frame=Frame("z", "stated"))
    quarter = Similarity3(2.0, np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]), np.ones(3))
    listed = {f"{i:04d}.jpg": quarter.move_camera(pose) for i, pose in enumerate(truth)}
    kept = align_place(place, read_reference(write_pose_list(tmp_path / "a.txt", listed)))
    assert kept.frame == Frame("z", "stated", "metre", "a.txt (pose list)")
    lying = Similarity3(2.0, np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]), np.ones(3))
    listed = {f"{i:04d}.jpg": lying.move_camera(pose) for i, pose in enumerate(truth)}
    lost = align_place(place, read_reference(write_pose_list(tmp_path / "b.txt", listed)))
    assert lost.frame.up is None


def test_what_cannot_be_determined_is_refused_with_the_reason(
    tmp_path: Path, place: Place, truth: list[Rigid3], capsys: pytest.CaptureFixture[str]
) -> None:
    def says(poses: dict[str, Rigid3], *options: str) -> str:
        listed = write_pose_list(tmp_path / "r.txt", poses)
        code = run("align", place.root, listed, "--apply", *options)
        said = capsys.readouterr()
        assert code == 1
        assert said.err.startswith("error: ") and said.err.count("\n") == 1
        return said.err

    named = {f"{i:04d}.jpg": pose for i, pose in enumerate(truth)}
    assert "0 images in common" in says({"elsewhere.jpg": truth[0]})
    assert "1 images in common" in says(dict(list(named.items())[:1]))
    still = {name: Rigid3(pose.rotation, np.ones(3)) for name, pose in named.items()}
    assert "scale" in says(still)
    assert "do not agree" in says(still, "--rigid")
    opengl = {
        name: Rigid3(pose.rotation @ np.diag([1.0, -1, -1]), pose.translation)
        for name, pose in named.items()
    }
    assert "180 degrees about its x axis" in says(opengl)
    shuffled = dict(zip(named, np.random.default_rng(0).permutation(truth), strict=True))
    assert "agree" in says(shuffled)
    assert Place.open(place.root).moves == ()


def test_units_that_do_not_fit_are_remarked(tmp_path: Path, truth: list[Rigid3]) -> None:
    metric = Frame("z", "stated", "metre", "measured")
    place = make_numbers_place(tmp_path / "p", truth, frame=metric)
    larger = Similarity3(2.0, np.eye(3), np.zeros(3))
    for unit, says in (("map unit", "its unit is 0.5 metre"), ("metre", "scales differ by 2")):
        frame = Frame(unit=unit, scale_from="measured" if unit == "metre" else None)
        other = make_numbers_place(
            tmp_path / unit, [larger.move_camera(pose) for pose in truth], frame=frame
        )
        remarks = align_place(place, read_reference(other.root)).remarks
        assert len(remarks) == 1 and says in remarks[0]


def test_a_trajectory_without_names_is_matched_by_time(tmp_path: Path, truth: list[Rigid3]) -> None:
    place = make_numbers_place(tmp_path / "p", [similarity(1).move_camera(pose) for pose in truth])
    times = {name: f"{1305031100 + 0.1 * i:.4f}" for i, name in enumerate(place.map.images)}
    model = place.map
    images = {
        f"walk/{times[name]}.jpg": replace(image, name=f"walk/{times[name]}.jpg")
        for name, image in model.images.items()
    }
    with place.lock(), atomic.new_folder(place.map_dir) as folder:
        MapModel(images, model.points).write(folder)
    rows = []
    for time, pose in zip(times.values(), truth, strict=True):
        w, x, y, z = pose.quat_wxyz
        values = (*pose.translation, x, y, z, w)
        # 5 ms after the image, as clocks of two sensors are.
        rows.append(" ".join([f"{float(time) + 0.005:.4f}", *(f"{value:.9f}" for value in values)]))
    path = tmp_path / "groundtruth.txt"
    path.write_text("# timestamp tx ty tz qx qy qz qw\n" + "\n".join(rows) + "\n")
    found = align_place(Place.open(place.root), read_reference(path))
    assert len(found.names) == len(truth)
    assert found.reference_from_place.scale == pytest.approx(1 / similarity(1).scale, rel=1e-5)


def test_one_source_is_wanted(
    place: Place, reference: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("align", place.root) == 1
    assert "give one of" in capsys.readouterr().err
    assert run("align", place.root, reference.root, "--up", "z") == 1
    assert run("align", place.root, reference.root, "--rigid", "--similarity") == 1
    assert "exclude each other" in capsys.readouterr().err


# -- kills --------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["write_json", "new_folder", "record_moves"])
def test_a_move_killed_anywhere_is_whole_or_not_there(
    place: Place, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    target = similarity(5)
    frame = Frame(None, None, "metre", "test")
    before = {image.name: image.world_from_cam for image in place.posed_images()}

    class Killed(BaseException):
        pass

    def die(*arguments: object, **named: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        owner = Place if step == "record_moves" else atomic
        patch.setattr(owner, step, die)
        with pytest.raises(Killed):
            move_place(place, target, onto="test", frame=frame)
    opened = Place.open(place.root)
    moved = step == "record_moves"  # the map was replaced; the record follows when it is opened
    for image in opened.posed_images():
        expected = target.move_camera(before[image.name]) if moved else before[image.name]
        assert position_error(image.world_from_cam, expected) <= 1e-9
    assert len(opened.moves) == (1 if moved else 0)
    assert opened.frame == (frame if moved else Frame())
    assert (
        move_place(opened, Similarity3.identity() if moved else target, onto="test", frame=frame)
        is not moved
    )
    assert len(opened.moves) == 1


def test_moves_add_up(place: Place, truth: list[Rigid3]) -> None:
    before = [image.world_from_cam for image in place.posed_images()]
    for seed in (7, 8):
        move_place(place, similarity(seed), onto=f"{seed}", frame=Frame())
    moves = Place.open(place.root).moves
    assert [move.onto for move in moves] == ["7", "8"]
    total = Similarity3.identity()
    for move in moves:
        step = Rigid3.from_quat_wxyz(move.quat_wxyz, move.translation)
        total = Similarity3(move.scale, step.rotation, step.translation) @ total
    for image, old in zip(place.posed_images(), before, strict=True):
        assert position_error(image.world_from_cam, total.move_camera(old)) <= 1e-8


def test_a_damaged_record_leaves_the_place_usable(place: Place) -> None:
    move_place(place, similarity(5), onto="test", frame=Frame())
    (place.map_dir / "moved.json").write_text('{"moves": [{"scale": "x"}], "frame": 3}')
    assert len(Place.open(place.root).moves) == 1


def test_other_files_of_the_map_come_along(place: Place) -> None:
    (place.map_dir / "database.db").write_bytes(b"features")
    (place.map_dir / "notes.txt").write_text("mine")
    move_place(place, similarity(5), onto="test", frame=Frame())
    assert (place.map_dir / "database.db").read_bytes() == b"features"
    assert (place.map_dir / "notes.txt").read_text() == "mine"


def test_a_fitted_localizer_notices(place: Place) -> None:
    before = fitted(place, "constant")
    again = fitted(place, "constant")
    move_place(place, similarity(5), onto="test", frame=Frame(unit="metre", scale_from="test"))
    after = fitted(Place.open(place.root), "constant")
    image = np.zeros((CAMERA.height, CAMERA.width, 3), np.uint8)
    poses = [one.localize(image, CAMERA).world_from_cam for one in (before, again, after)]
    assert position_error(poses[0], poses[1]) == 0
    assert position_error(poses[2], similarity(5).move_camera(poses[0])) <= 0.5
    assert position_error(poses[2], poses[0]) > 1


# -- ground control -------------------------------------------------------------------------------


def control_file(path: Path, rows: list[str]) -> Path:
    path.write_text("\n".join(["name,x,y,z", "# surveyed", *rows]) + "\n")
    return path


def test_measured_camera_positions_give_the_frame(
    tmp_path: Path, place: Place, truth: list[Rigid3]
) -> None:
    rng = np.random.default_rng(0)
    rows = [
        ",".join(
            [f"{i:04d}.jpg", *(f"{v:.4f}" for v in truth[i].translation + rng.normal(0, 0.003, 3))]
        )
        for i in (0, 5, 11, 17, 23)
    ]
    assert (
        run("align", place.root, "--control", control_file(tmp_path / "c.csv", rows), "--apply")
        == 0
    )
    moved = Place.open(place.root)
    assert moved.unit == "metre"
    assert_at(moved, truth, metres=0.02, degrees=0.5)


@pytest.mark.parametrize(
    "layout", ["{};{};{};{}", '"{}"\t{}\t{}\t{}', '"{}",{},{},{}', "{} {} {} {}"]
)
def test_control_comes_as_spreadsheets_write_it(tmp_path: Path, layout: str) -> None:
    point = "," if ";" in layout else "."
    numbers = [f"{458123 + i}.25".replace(".", point) for i in range(3)]
    path = control_file(tmp_path / "c.csv", [layout.format("a.jpg", *numbers)])
    positions = read_control(path).positions
    assert list(positions) == ["a.jpg"]
    assert positions["a.jpg"].tolist() == [458123.25, 458124.25, 458125.25]


def test_a_name_of_several_images_is_said_with_both(tmp_path: Path, place: Place) -> None:
    images = {f"{day}/a.jpg": image for day, image in zip("12", place.posed_images(), strict=False)}
    with pytest.raises(MappingError, match=r"'a\.jpg' could be '1/a\.jpg' or '2/a\.jpg'"):
        image_of(replace(place.map, images=images), "a.jpg")


def observations(place: Place, point: np.ndarray, name: str, images: list[str]) -> list[str]:
    rows = []
    for image in (place.map.images[image] for image in images):
        u, v = image.camera.img_from_cam(image.cam_from_world @ point[None])[0]
        rows.append(f"{name}, {image.name}, {u:.2f}, {v:.2f}")
    return rows


def seen_by(place: Place, row: int) -> list[str]:
    return [name for name, image in place.map.images.items() if row in image.point_rows]


def test_points_seen_in_images_give_the_frame(
    tmp_path: Path, place: Place, truth: list[Rigid3]
) -> None:
    positions = place.points.positions
    wide = [row for row in range(len(positions)) if len(seen_by(place, row)) >= 6][:5]
    rows = []
    for row in wide:
        images = seen_by(place, row)
        rows += observations(place, positions[row], f"P{row}", [images[0], images[-1], images[3]])
        measured = similarity(1) @ positions[row]
        rows.append(f"P{row}, {measured[0]:.4f}, {measured[1]:.4f}, {measured[2]:.4f}")
    found = align_to_control(place, read_control(control_file(tmp_path / "c.csv", rows)))
    place_centres = np.stack([image.world_from_cam.translation for image in place.posed_images()])
    true = np.stack([pose.translation for pose in truth])
    off = np.linalg.norm(found.reference_from_place @ place_centres - true, axis=1)
    assert off.max() <= 0.02
    assert found.unit == "metre"


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (["0000.jpg,0,0,0", "0001.jpg,1,0,0"], "needs three or more"),
        (["nowhere.jpg,0,0,0", "0001.jpg,1,0,0", "0002.jpg,1,1,0"], "'nowhere.jpg' is no posed"),
        (["0000.jpg,0,0,0", "0000.jpg,1,0,0"], "line 4: a second position"),
        (["0000.jpg,0,0"], "line 3: want"),
        (["0000.jpg,1,b,2"], "line 3: want"),
        (['"0000.jpg,1,2,3'], "line 3: no row of a table"),
        (["0000.jpg,nan,0,0"], "line 3: '0000.jpg' has"),
        (["0000.jpg,1e200,0,0"], "which is nowhere"),
        ([f"{i:04d}.jpg,0,0,0" for i in (0, 8, 20)], "in one place"),
        (["P, 0000.jpg, 3, 4"], "'P' is seen in images but has no row"),
        (["P,0,0,0", "P, x.jpg, 3, 4", "P, 0001.jpg, 3, 4"], "'x.jpg' has no pose"),
        (["P,0,0,0", "P, 0000.jpg, 3, 4", "P, 0000.jpg, 4, 4"], "under 0"),
        (["P,0,0,0", "P, 0000.jpg, 3, 4", "P, 0020.jpg, 600, 4"], "rays do not meet"),
        ([f"{i:04d}.jpg,{i},0,0" for i in (0, 8, 20)], "do not agree|cannot be aligned"),
    ],
)
def test_control_that_cannot_be_used_is_one_line(
    tmp_path: Path,
    place: Place,
    rows: list[str],
    says: str,
) -> None:
    with pytest.raises((MappingError, GeometryError), match=says):
        align_to_control(place, read_control(control_file(tmp_path / "c.csv", rows)))


def test_control_on_one_line_leaves_the_turn_about_it_open(tmp_path: Path, place: Place) -> None:
    positions = place.points.positions
    first, last = [row for row in range(len(positions)) if len(seen_by(place, row)) >= 6][:5:4]
    images = [*seen_by(place, first)[:6:5], *seen_by(place, last)[:6:5]]
    rows = []
    for share in (0.0, 0.3, 0.6, 1.0):
        point = (1 - share) * positions[first] + share * positions[last]
        rows += observations(place, point, f"P{share}", images)
        rows.append(f"P{share}, {', '.join(f'{value:.6f}' for value in similarity(1) @ point)}")
    with pytest.raises(MappingError, match=r"rotation is determined to ±[0-9]+ degrees only"):
        align_to_control(place, read_control(control_file(tmp_path / "c.csv", rows)))


def test_a_measured_distance_makes_the_place_metric(
    place: Place, truth: list[Rigid3], capsys: pytest.CaptureFixture[str]
) -> None:
    metres = position_error(truth[0], truth[20])
    arguments = ("align", place.root, "--distance", "0000.jpg", "0020.jpg", f"{metres:.6f}")
    assert run(*arguments, "--apply", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["scale"] == pytest.approx(similarity(1).scale, rel=1e-5)
    assert found["residual_median"] is None
    moved = Place.open(place.root)
    poses = [image.world_from_cam for image in moved.posed_images()]
    assert position_error(poses[3], poses[9]) == pytest.approx(position_error(truth[3], truth[9]))
    assert moved.unit == "metre"
    assert "0020.jpg" in str(moved.frame.scale_from)
    assert run(*arguments, "--apply", "--json") == 0
    assert json.loads(capsys.readouterr().out)["changed"] is False


@pytest.mark.parametrize("up", ["axis", "numbers", "images"])
def test_what_is_up_becomes_z(tmp_path: Path, up: str) -> None:
    # A world with y down, as structure from motion often leaves it; the walk climbs.
    lying = Similarity3(1.0, np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]), np.zeros(3))
    truth = [
        Rigid3(pose.rotation, np.add(pose.translation, [0, 0, 0.2 * i]))
        for i, pose in enumerate(poses_of_a_walk())
    ]
    poses = [lying.move_camera(pose) for pose in truth]
    below = Rigid3(poses[5].rotation, np.add(poses[5].translation, [0, 1.0, 0]))
    place = make_numbers_place(tmp_path / "p", [*poses, below])
    value = {
        "axis": ["--up=-y"],
        "numbers": ["--up", "0,-2,0"],
        "images": ["--up", "0024.jpg", "0005.jpg"],
    }
    assert run("align", place.root, *value[up], "--apply") == 0
    moved = Place.open(place.root)
    assert moved.frame.up == "z"
    heights = [image.world_from_cam.translation[2] for image in moved.posed_images()][:24]
    true = [pose.translation[2] for pose in truth]
    np.testing.assert_allclose(np.diff(heights), np.diff(true), atol=1e-9)
    assert moved.unit == "map unit"


@pytest.mark.parametrize("up", ["sideways", "1,2", "0,0,0", "nan,0,1"])
def test_what_is_no_direction_is_one_line(
    place: Place, up: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("align", place.root, "--up", up) == 1
    assert capsys.readouterr().err.startswith("error: up ")


# -- with images --------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_moved_place_is_not_mapped_again(made_once: Callable[..., Path], tmp_path: Path) -> None:
    place = copy_of_room(made_once, tmp_path)
    assert map_place(place).unchanged
    move_place(place, similarity(5), onto="test", frame=Frame(unit="metre", scale_from="test"))
    assert map_place(place).unchanged
    # And where it has to be, its points are made in the frame that it was moved to.
    (place.map_dir / "map.json").unlink()
    points = place.points.positions
    assert not map_place(place).unchanged
    assert map_place(place).unchanged
    again = Place.open(place.root)
    assert np.abs(np.median(again.points.positions, axis=0) - np.median(points, axis=0)).max() < 0.2
    assert [move.onto for move in again.moves] == ["test"]


@pytest.mark.data
def test_the_kitchens_two_truths_agree_to_centimetres(tmp_path: Path, data_dir: Path) -> None:
    slam = read_reference(data_dir / "redkitchen" / "poses_dslam.txt").world_from_cam
    names = sorted(slam)[::10]
    place = make_numbers_place(tmp_path / "p", [slam[name] for name in names], points=2)
    sfm = read_reference(data_dir / "redkitchen" / "poses_sfm.txt").world_from_cam
    listed = {f"{i:04d}.jpg": sfm[name] for i, name in enumerate(names)}
    found = align_place(place, read_reference(write_pose_list(tmp_path / "sfm.txt", listed)))
    assert found.reference_from_place.scale == pytest.approx(1, abs=0.01)
    values = found.to_json()
    assert values["residual_median"] <= 0.05
    assert values["inliers"] >= 97
