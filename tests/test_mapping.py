"""Mapping, from outside: poses against exact truth, gravity, scale, resumption, wrong input."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from relocalize.capture.frames import capture_frames
from relocalize.checking.soundness import Soundness
from relocalize.errors import MappingError, NotConnectedError, PlaceError
from relocalize.features.extraction import settings_for
from relocalize.features.focal import voted_focal
from relocalize.features.pairs import PairSettings, sequential_pairs
from relocalize.geometry import Rigid3, align_camera_poses, rotation_error_deg
from relocalize.geometry.transforms import quat_wxyz_from_rotation
from relocalize.mapping import (
    MapSettings,
    MeasuredLength,
    features_of,
    main_model,
    map_place,
    model_of_images,
    open_database,
    stretches,
    unknown_poses,
)
from relocalize.mapping.broken_walk import breaks
from relocalize.mapping.gravity import up_from_horizon, upright
from relocalize.mapping.keyframes import KeyframeSettings
from relocalize.mapping.look_alikes import contradictions, judge_pairs
from relocalize.place import MapModel, Place
from relocalize.place.model import NO_POINT
from relocalize.verbs.import_poses import import_poses
from relocalize_synthetic import CorridorTruth

pytestmark = pytest.mark.slow


def true_world_from_cam(corridor: CorridorTruth, name: str) -> Rigid3:
    return corridor.walk_poses[Path(name).name].inverse()


def aligned_to_truth(model: MapModel, corridor: CorridorTruth):
    return align_camera_poses(
        [image.world_from_cam for image in model.images.values()],
        [true_world_from_cam(corridor, name) for name in model.images],
    )


def copied(place: Place, folder: Path) -> Place:
    shutil.copytree(place.root, folder)
    return Place.open(folder)


@pytest.fixture(scope="module")
def beginning(corridor, tmp_path_factory) -> Place:
    """The first half of the walk, mapped: where few images will do."""
    folder = tmp_path_factory.mktemp("beginning")
    reader = cv2.VideoCapture(str(corridor.folder / "walk.mp4"))
    camera = corridor.settings.walk.camera
    size = (camera.width, camera.height)
    half = cv2.VideoWriter(str(folder / "walk.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 20, size)
    for _ in range(len(corridor.walk_poses) // 2):
        half.write(reader.read()[1])
    half.release()
    capture_frames(folder / "walk.mp4", folder / "place")
    place = Place.open(folder / "place")
    map_place(place)
    return place


def test_every_frame_gets_a_pose_near_the_truth(corridor, corridor_place):
    names = [image.name for _, image in corridor_place.images()]
    model = corridor_place.map
    assert sorted(model.images) == sorted(names)
    alignment = aligned_to_truth(model, corridor)
    assert np.median(alignment.position_residuals) < 0.01  # metres
    assert alignment.position_residuals.max() < 0.04
    assert np.median(alignment.rotation_residuals_deg) < 0.15
    truth = corridor.settings.walk.camera
    (camera,) = model.cameras.values()
    assert camera.focal_px == pytest.approx(truth.focal_px, rel=0.02)


def test_z_points_up(corridor, corridor_place):
    b_from_a = aligned_to_truth(corridor_place.map, corridor).b_from_a
    tilt = np.degrees(np.arccos((b_from_a.rotation @ [0, 0, 1])[2]))
    assert tilt < 1.0
    assert corridor_place.frame.up == "z"
    assert corridor_place.unit == "map unit"


def test_map_points_reproject_where_their_images_see_them(corridor_place):
    model = corridor_place.map
    errors = []
    for image in model.images.values():
        seen = image.point_rows != NO_POINT
        world = model.points.positions[image.point_rows[seen]]
        projected = image.camera.img_from_cam(image.cam_from_world @ world)
        errors.append(np.linalg.norm(projected - image.keypoints[seen], axis=1))
        assert seen.sum() >= 15
    assert np.median(np.concatenate(errors)) < 1.0
    name = next(iter(model.images))
    np.testing.assert_allclose(
        features_of(corridor_place, name).keypoints, model.images[name].keypoints, atol=1e-3
    )


def test_points_are_where_the_world_has_them(corridor, corridor_place):
    # The corridor is a box: its points lie on walls, floor and ceiling, or on things on them.
    model = corridor_place.map
    points = aligned_to_truth(model, corridor).b_from_a @ model.points.positions
    settings = corridor.settings
    size = (settings.first_arm, settings.width, settings.height)
    distances = np.stack(
        [np.abs(points[:, axis] - at) for axis in range(3) for at in (0.0, size[axis])]
    ).min(axis=0)
    assert np.median(distances) < 0.03


def test_nothing_is_done_twice_and_the_same_inputs_give_the_same_map(
    corridor_place, beginning, tmp_path
):
    again = map_place(corridor_place)
    assert again.unchanged
    place = copied(beginning, tmp_path / "copy")
    shutil.rmtree(place.map_dir)
    map_place(place)
    first, second = beginning.map, place.map
    alignment = align_camera_poses(
        [image.world_from_cam for image in first.images.values()],
        [second.images[name].world_from_cam for name in first.images],
    )
    spread = np.ptp([i.world_from_cam.translation[0] for i in second.images.values()])
    assert alignment.position_residuals.max() < 1e-4 * spread


def test_a_walk_mapped_in_stretches_is_as_exact(corridor, corridor_place, tmp_path, monkeypatch):
    monkeypatch.setattr(stretches, "_LENGTH", 24)
    monkeypatch.setattr(stretches, "_SHARED", 11)
    place = copied(corridor_place, tmp_path / "stretches")
    report = map_place(place, MapSettings(seed=1))
    assert len(stretches.stretches(range(report.keyframes))) >= 2
    assert report.registered == report.images
    alignment = aligned_to_truth(place.map, corridor)
    assert np.median(alignment.position_residuals) < 0.01  # metres
    assert alignment.position_residuals.max() < 0.04


def test_a_measured_length_makes_the_map_metric(corridor, beginning, tmp_path):
    place = copied(beginning, tmp_path / "metric")
    names = sorted(place.map.images)
    first, last = names[0], names[-1]
    metres = np.linalg.norm(
        true_world_from_cam(corridor, first).translation
        - true_world_from_cam(corridor, last).translation
    )
    map_place(place, MapSettings(lengths=(MeasuredLength(first, last, float(metres)),)))
    assert place.unit == "metre"
    assert aligned_to_truth(place.map, corridor).b_from_a.scale == pytest.approx(1, abs=0.01)
    wrong = (
        MeasuredLength(first, last, float(metres)),
        MeasuredLength(first, names[len(names) // 2], float(metres)),
    )
    with pytest.raises(MappingError, match="disagree"):
        map_place(place, MapSettings(lengths=wrong))
    assert place.unit == "metre"  # what was there is still there


def test_a_reference_registration_gives_frame_and_unit(corridor, beginning, tmp_path):
    place = copied(beginning, tmp_path / "reference")
    map_place(place, MapSettings(reference=corridor.folder / "walk_poses.txt"))
    errors = [
        np.linalg.norm(
            image.world_from_cam.translation - true_world_from_cam(corridor, name).translation
        )
        for name, image in place.map.images.items()
    ]
    assert place.unit == "metre"
    assert np.median(errors) < 0.01


def test_known_poses_stay_and_only_train_images_make_points(corridor, corridor_place, tmp_path):
    capture = corridor_place.capture("walk")
    names = [Path(name).name for name in capture.image_names]
    test = set(names[10:20])
    lists = {"train": [n for n in names if n not in test], "test": sorted(test)}
    for key, rows in lists.items():
        (tmp_path / f"{key}.txt").write_text("\n".join(rows))
    place = Place.create(tmp_path / "imported")
    import_poses(
        corridor.folder / "walk_poses.txt",
        place,
        corridor_place.images_dir / "walk",
        convention="stated",
        train=tmp_path / "train.txt",
        test=tmp_path / "test.txt",
        split="held_out",
    )
    report = map_place(place)
    model = place.map
    assert report.points == len(model.points) > 200
    assert report.alarms == ()
    for name, image in model.images.items():
        given = corridor.walk_poses[Path(name).name]
        assert np.linalg.norm(image.cam_from_world.translation - given.translation) < 1e-5
        assert rotation_error_deg(image.cam_from_world, given) < 1e-3
        observes = bool((image.point_rows != NO_POINT).any())
        assert observes == (Path(name).name not in test)
    height = corridor.settings.height
    inside = (model.points.positions[:, 2] > -0.1) & (model.points.positions[:, 2] < height + 0.1)
    assert inside.mean() > 0.98


def test_poses_of_a_wrong_convention_are_no_map_without_a_warning(
    corridor, corridor_place, tmp_path
):
    for name in corridor_place.capture("walk").image_names[:16]:
        shutil.copy2(corridor_place.image_path(name), tmp_path)
    place = Place.create(tmp_path / "imported")
    poses = corridor.folder / "walk_poses.txt"
    import_poses(poses, place, tmp_path, convention="wxyz,world_from_cam,RDF,centre")
    (alarm,) = map_place(place, MapSettings(features="sift")).alarms
    assert "of the matches between its images: the poses that were given" in alarm
    assert f"run: relocalize check {place.root}" in alarm


def test_every_image_may_have_a_camera_of_its_own(corridor, corridor_place, tmp_path):
    names = [Path(name).name for name in corridor_place.capture("walk").image_names]
    rows = []
    for number, name in enumerate(names):
        pose = corridor.walk_poses[name]
        numbers = [*quat_wxyz_from_rotation(pose.rotation), *pose.translation, 370 + number / 100]
        rows.append(" ".join([name, *map(str, numbers)]))
    (tmp_path / "poses.txt").write_text("\n".join(rows))
    place = Place.create(tmp_path / "imported")
    images = corridor_place.images_dir / "walk"
    import_poses(tmp_path / "poses.txt", place, images, convention="stated")
    # Frames between keyframes bring cameras that no keyframe has.
    report = map_place(place, MapSettings(keyframes=KeyframeSettings(least=10)))
    assert report.keyframes < report.registered == len(names)
    assert report.points > 200
    assert len({image.camera_id for image in place.map.images.values()}) == len(names)


def test_a_map_of_some_images_owes_nothing_to_the_others(corridor_place):
    names = sorted(corridor_place.map.images)
    kept = names[::2]
    reduced = model_of_images(corridor_place, kept)
    assert sorted(reduced.images) == kept
    counts = np.zeros(len(reduced.points), int)
    for image in reduced.images.values():
        np.add.at(counts, image.point_rows[image.point_rows != NO_POINT], 1)
    np.testing.assert_array_equal(counts, reduced.points.track_lengths)
    assert counts.min() >= 2
    whole = corridor_place.map
    for name in kept:
        before, after = whole.images[name].cam_from_world, reduced.images[name].cam_from_world
        np.testing.assert_allclose(before.matrix, after.matrix, atol=1e-12)
    by_id = dict(zip(whole.points.ids, whole.points.positions, strict=True))
    moved = [
        np.linalg.norm(by_id[i] - p)
        for i, p in zip(reduced.points.ids, reduced.points.positions, strict=True)
    ]
    assert 0 < np.median(moved) < 0.05  # estimated anew, near where they were


@pytest.mark.parametrize(
    ("reconstructed", "posed", "alarms"),
    [(2, 40, 1), (2, 5, 1), (3, 3, 0), (20, 40, 0), (41, 40, 0)],
)
def test_a_map_grown_from_a_few_of_its_keyframes_says_so(reconstructed, posed, alarms):
    said = unknown_poses.grown_from(reconstructed, posed)
    assert len(said) == alarms
    assert all(one.startswith(f"only {reconstructed} of its {posed} keyframes") for one in said)


def test_a_walk_of_few_frames_that_does_not_hold_is_mapped_as_loose_photos(
    corridor, tmp_path, monkeypatch
):
    capture_frames(corridor.folder / "walk.mp4", tmp_path / "few", count=14)
    place = Place.open(tmp_path / "few")
    broken = iter([("the walk breaks",)])
    monkeypatch.setattr(unknown_poses, "breaks", lambda *_: next(broken, ()))
    report = map_place(place, MapSettings(features="sift"))
    assert report.alarms == ()
    assert report.keyframes == report.registered == 14
    with open_database(place) as database:
        assert database.settings == settings_for("sift", 14)
    assert aligned_to_truth(place.map, corridor).position_residuals.max() < 0.06


def test_what_is_left_of_a_map_in_parts_is_judged_anew(corridor, tmp_path, monkeypatch):
    capture_frames(corridor.folder / "walk.mp4", tmp_path / "few", count=8)
    place = Place.open(tmp_path / "few")
    names = place.captures["walk"].image_names
    judged = []

    def in_parts(model):
        judged.append(len(model.images))
        left = 5 if len(judged) == 1 else 2
        return Soundness((names[:left], *([names[left:]] if left < len(model.images) else [])), ())

    monkeypatch.setattr(unknown_poses, "judge_soundness", in_parts)
    with pytest.raises(NotConnectedError, match="no 3 of the 8 images can be held in place"):
        map_place(place, MapSettings(features="sift", seed=1))
    assert judged[:2] == [8, 5]


def test_a_killed_mapping_goes_on_and_ends_the_same(beginning, tmp_path, monkeypatch):
    place = copied(beginning, tmp_path / "killed")
    shutil.rmtree(place.map_dir)
    manifest = json.loads((place.root / "place.json").read_text())
    never = {"poses_from": None, "frame": {}}
    (place.root / "place.json").write_text(json.dumps({**manifest, **never}))
    for stage in ("map/database.db", ".mapping/*/*/reconstructing-in-time/0000-under-way"):
        kill_when(place.root, stage)
    with monkeypatch.context() as patched:  # within what is removed, and before what is then saved
        patched.setattr(shutil, "rmtree", stopped_half_way(shutil.rmtree))
        patched.setattr(main_model, "save_models", stopped)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                map_place(Place.open(place.root))
    kill_when(place.root, ".mapping/*/*/in-time")
    with monkeypatch.context() as patched:
        made = unknown_poses.make_main_model
        patched.setattr(
            unknown_poses, "make_main_model", lambda *a, **k: replace(made(*a, **k), look_alikes=7)
        )
        patched.setattr(unknown_poses, "_register_rest", stopped)
        with pytest.raises(KeyboardInterrupt):
            map_place(Place.open(place.root))
    assert not Place.open(place.root).has_map
    with monkeypatch.context() as patched:  # the map is there, the Place does not know yet
        patched.setattr(Place, "record_poses", stopped)
        with pytest.raises(KeyboardInterrupt):
            map_place(Place.open(place.root))
    left = Place.open(place.root)
    assert (left.poses_from, left.frame) == (beginning.poses_from, beginning.frame)
    report = map_place(left)
    assert (report.unchanged, report.look_alikes) == (True, 7)
    assert not (left.map_dir / "made.json").exists()
    first, second = beginning.map, left.map
    alignment = align_camera_poses(
        [image.world_from_cam for image in first.images.values()],
        [second.images[name].world_from_cam for name in first.images],
    )
    spread = np.ptp([i.world_from_cam.translation[0] for i in second.images.values()])
    assert alignment.position_residuals.max() < 1e-4 * spread
    assert not (place.root / ".mapping").exists()


def test_features_that_are_gone_are_made_again(beginning, tmp_path, monkeypatch):
    place = copied(beginning, tmp_path / "place")
    assert map_place(place).unchanged
    (place.map_dir / "database.db").unlink()
    with pytest.raises(MappingError, match="has no features"), open_database(place):
        pass
    monkeypatch.setattr(sys.modules["relocalize.mapping.map_place"], "_best_outcome", stopped)
    with pytest.raises(KeyboardInterrupt):
        map_place(place)


def stopped(*_arguments, **_options):
    raise KeyboardInterrupt


def stopped_half_way(remove):
    """Of removing folders: each is stopped once, when its first file is gone."""
    seen = set()

    def rmtree(folder, **options):
        files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
        if files and folder not in seen:
            seen.add(folder)
            files[0].unlink()
            raise KeyboardInterrupt
        remove(folder, **options)

    return rmtree


def kill_when(root: Path, pattern: str) -> None:
    """Start `relocalize map` and kill it as soon as a path of this pattern is there."""
    with subprocess.Popen(
        [sys.executable, "-m", "relocalize", "map", str(root)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        while not list(root.glob(pattern)):
            assert process.poll() is None, f"ended before {pattern} was there"
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)


def test_pairs_that_only_look_alike_are_told_from_true_ones(corridor_place):
    model = corridor_place.map
    with open_database(corridor_place) as database:
        verified = database.verified_matches()
    true = {pair: rows for pair, rows in verified.items() if len(rows) >= 40}
    names = sorted(model.images)
    far = len(names) // 2
    # The matches of a pair, claimed of an image half a corridor away: features of another door.
    false = {}
    for (first, second), matches in true.items():
        other = names[(names.index(second) + far) % len(names)]
        count = min(len(matches), len(model.images[other].keypoints))
        rows = matches[:count].copy()
        rows[:, 1] = np.arange(count)
        false[first, other] = rows
    assert len(true) > 20
    said_of_true, said_of_false = judge_pairs([model], true), judge_pairs([model], false)
    assert len(said_of_true.confirmed) >= 0.97 * len(true)
    assert len(said_of_true.contradicted) <= 0.03 * len(true)
    assert len(said_of_false.confirmed) <= 0.03 * len(false)
    # A map that disagrees with most of what its images have in common is no sound one.
    assert contradictions(model, true) == ()
    (alarm,) = contradictions(model, false)
    assert "of the matches between its images" in alarm
    assert contradictions(model, true | false, trusted=true.keys()) == ()


def test_the_place_where_a_walk_is_bent_is_named(corridor_place):
    with open_database(corridor_place) as database:
        matches = database.verified_matches()
    whole = corridor_place.map
    names = [name for name in sorted(whole.images) if any(name in pair for pair in matches)]
    neighbours = sequential_pairs(names, PairSettings(reach=0))
    assert breaks(whole, matches, neighbours, names) == ()
    # All from the middle on turned about it: each half is as right as it was.
    middle = len(names) // 2
    turn = cv2.Rodrigues(np.radians([0.0, 0.0, 4.0]))[0]
    centre = whole.images[names[middle]].world_from_cam.translation
    bend = Rigid3(turn, centre - turn @ centre)
    images = dict(whole.images)
    for name in names[middle:]:
        pose = images[name].cam_from_world @ bend.inverse()
        images[name] = replace(images[name], cam_from_world=pose)
    (alarm,) = breaks(replace(whole, images=images), matches, neighbours, names)
    assert alarm.startswith(f"from {names[middle - 1]} to {names[middle]} it contradicts")


def test_images_that_share_nothing_are_one_clear_line(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for i in range(4):
        noise = cv2.GaussianBlur(rng.integers(0, 255, (240, 320, 3), np.uint8), (0, 0), 2)
        cv2.imwrite(str(tmp_path / "photos" / f"{i}.jpg"), noise)
    capture_frames(tmp_path / "photos", tmp_path / "place")
    place = Place.open(tmp_path / "place")
    with pytest.raises(MappingError, match="share too little"):
        map_place(place)
    assert not Place.open(place.root).has_map


def test_two_places_in_one_are_told_apart(beginning, tmp_path):
    place = copied(beginning, tmp_path / "two")
    shutil.rmtree(place.map_dir)
    rng = np.random.default_rng(1)
    (tmp_path / "elsewhere").mkdir()
    for i in range(3):
        noise = cv2.GaussianBlur(rng.integers(0, 255, (360, 480, 3), np.uint8), (0, 0), 2)
        cv2.imwrite(str(tmp_path / "elsewhere" / f"{i}.jpg"), noise)
    capture_frames(tmp_path / "elsewhere", place.root, name="elsewhere")
    report = map_place(place, MapSettings(features="sift"))
    apart = [name for run in report.apart for name in run.images]
    assert sorted(apart) == [f"elsewhere/{i}.jpg" for i in range(3)]
    assert all(run.reason for run in report.apart)
    assert len(place.map.images) == len(place.capture("walk").images)


def test_a_place_without_images_or_with_a_missing_one_is_one_clear_line(corridor_place, tmp_path):
    with pytest.raises(MappingError, match="at least 3"):
        map_place(Place.create(tmp_path / "empty"))
    place = copied(corridor_place, tmp_path / "missing")
    place.image_path(place.capture("walk").image_names[3]).unlink()
    with pytest.raises(PlaceError, match="is missing"):
        map_place(place)


def test_up_is_found_whichever_way_the_world_is_turned():
    rng = np.random.default_rng(0)
    from scipy.spatial.transform import Rotation

    turn = Rotation.random(rng=rng).as_matrix()
    rotations = []
    for yaw in rng.uniform(0, 2 * np.pi, 40):
        # Camera axes in a z-up world: x right (level), y down, z forward.
        level = np.array(
            [[-np.sin(yaw), 0, np.cos(yaw)], [np.cos(yaw), 0, np.sin(yaw)], [0, -1, 0]]
        )
        level[:, 0] *= -1
        nod = Rotation.from_euler("xz", rng.normal([-20, 0], [8, 4]), degrees=True).as_matrix()
        rotations.append(turn @ level @ nod)
    up = up_from_horizon(np.stack(rotations))
    assert np.degrees(np.arccos(up @ turn[:, 2])) < 3
    frame = upright(turn[:, 2], rng.normal(size=(30, 3)))
    np.testing.assert_allclose(frame.rotation @ turn[:, 2], [0, 0, 1], atol=1e-9)


def test_the_focal_length_is_voted_from_fundamental_matrices():
    from scipy.spatial.transform import Rotation

    from relocalize.geometry import Camera

    rng = np.random.default_rng(0)
    true = Camera.from_focal(640, 480, 525.0)
    K_inv = np.linalg.inv(true.calibration_matrix)
    matrices = []
    for _ in range(40):
        R = Rotation.from_rotvec(rng.normal(0, 0.2, 3)).as_matrix()
        t = rng.normal(size=3)
        cross = np.array([[0, -t[2], t[1]], [t[2], 0, -t[0]], [-t[1], t[0], 0]])
        matrices.append(K_inv.T @ cross @ R @ K_inv)
    matrices += list(rng.normal(size=(10, 3, 3)))  # wrong ones
    found = voted_focal(Camera.from_focal(640, 480), np.array(matrices))
    assert found.focal_px == pytest.approx(525, rel=0.02)
    assert found.known == "unknown"


def test_pairs_in_time_reach_far_with_few():
    names = [f"{i:04d}" for i in range(200)]
    pairs = sequential_pairs(names, PairSettings(overlap=5, reach=80))
    steps = sorted({int(b) - int(a) for a, b in pairs})
    assert steps == [1, 2, 3, 4, 5, 10, 20, 40, 80]
    assert all(a < b for a, b in pairs)
