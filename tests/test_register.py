"""Photos of another camera into a finished map, on a room with exactly known truth."""

import importlib
import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pycolmap
import pytest

from localization_place import TEST_POSES, VISITOR, copy_of_room, render
from relocalize.absolute_pose import solve
from relocalize.absolute_pose.verification import Verification
from relocalize.capture.frames import capture_frames
from relocalize.capture.joining import KnownCamera
from relocalize.cli.register import Register, parsed_camera
from relocalize.errors import CaptureError, MappingError, PlaceError
from relocalize.features.extraction import FeatureSettings, extract_features
from relocalize.geometry import Camera, align_camera_poses, position_error, rotation_error_deg
from relocalize.localization import fitted
from relocalize.mapping import map_place
from relocalize.mapping.register_photos import RegisterPhotosSettings, register_photos
from relocalize.place import MapModel, Place, Points
from relocalize.place.image_file import open_image, rgb

VISIT = RegisterPhotosSettings("visit")
# The principal point off the image's centre and two radial terms: what one photo cannot tell.
LENS = Camera("RADIAL", 560, 420, (430.0, 283.0, 207.0, -0.08, 0.03))


@pytest.fixture(scope="module")
def place(made_once, tmp_path_factory):
    return copy_of_room(made_once, tmp_path_factory.mktemp("room"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for name, pose in TEST_POSES.items():
        cv2.imwrite(str(folder / name), render(pose, LENS)[:, :, ::-1])
    return folder


@pytest.fixture
def copied(place, tmp_path):
    shutil.copytree(place.root, tmp_path / "place")
    return Place.open(tmp_path / "place")


@pytest.fixture(scope="module")
def registered(place, photos, tmp_path_factory):
    root = tmp_path_factory.mktemp("registered") / "place"
    shutil.copytree(place.root, root)
    made = Place.open(root)
    return made, register_photos(made, [photos], VISIT)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def old_bytes(place: Place, names) -> tuple[bytes, ...]:
    """All that must not move: poses and cameras of images, positions and colours of points."""
    model = pycolmap.Reconstruction(str(place.map_dir))
    images = {image.name: image for image in model.images.values()}
    poses = [images[name].cam_from_world() for name in names]
    return (
        b"".join(p.rotation.quat.tobytes() + p.translation.tobytes() for p in poses),
        b"".join(images[name].camera.params.tobytes() for name in names),
        b"".join(model.points3D[key].xyz.tobytes() for key in sorted(model.points3D)),
        b"".join(model.points3D[key].color.tobytes() for key in sorted(model.points3D)),
        repr(sorted(model.points3D)).encode(),
    )


def test_photos_of_an_unknown_camera_get_their_poses_and_that_camera(registered):
    place, report = registered
    assert (report.posed, report.images) == (4, 4)
    for name, true in TEST_POSES.items():
        found = place.map.images[f"visit/{name}"]
        assert position_error(found.world_from_cam, true) < 0.02
        assert rotation_error_deg(found.world_from_cam, true) < 0.15
        assert (found.point_rows >= 0).sum() > 30
    (camera,) = report.cameras
    assert camera.source == "estimated"
    assert camera.focal_px == pytest.approx(LENS.focal_px, rel=0.005)
    np.testing.assert_allclose(camera.params[1:3], LENS.params[1:3], atol=3)
    assert abs(camera.focal_px - LENS.focal_px) < 4 * camera.focal_sigma_px
    assert {place.map.images[f"visit/{name}"].camera_id for name in TEST_POSES} == {2}


def test_what_was_there_does_not_move_by_a_bit(place, registered):
    names = list(place.map.images)
    assert old_bytes(registered[0], names) == old_bytes(place, names)


def test_points_gain_observations_that_fit(place, registered):
    before, after = place.map, registered[0].map
    gained = after.points.track_lengths - before.points.track_lengths
    assert (gained >= 0).all()
    assert gained.sum() == sum(photo.inliers for photo in registered[1].photos)
    for name in TEST_POSES:
        image = after.images[f"visit/{name}"]
        seen = image.point_rows >= 0
        world = after.points.positions[image.point_rows[seen]]
        projected = image.camera.img_from_cam(image.cam_from_world @ world)
        errors = np.linalg.norm(projected - image.keypoints[seen], axis=1)
        assert np.median(errors) < 1.0
        assert errors.max() < 6.0


def test_the_same_again_changes_nothing(registered, photos):
    place, first = registered
    before = contents(place.root)
    again = register_photos(Place.open(place.root), [photos], VISIT)
    assert again.unchanged
    assert again.photos == first.photos
    assert contents(place.root) == before
    assert register_photos(place, [], VISIT).unchanged
    assert map_place(place).unchanged  # nor is the map to be made anew for them


def test_more_photos_join_later_with_the_camera_found_before(copied, photos):
    first, second, third, last = sorted(photos.iterdir())
    register_photos(copied, [first, second, third], VISIT)
    names = list(copied.map.images)
    before = old_bytes(copied, names)
    report = register_photos(copied, [photos], VISIT)
    assert [photo.image for photo in report.photos] == [f"visit/{last.name}"]
    assert (report.posed, report.images) == (4, 4)
    assert old_bytes(copied, names) == before
    found = copied.map.images[f"visit/{last.name}"]
    assert position_error(found.world_from_cam, TEST_POSES[last.name]) < 0.02
    assert len(copied.map.cameras) == 2


@pytest.mark.slow
def test_a_given_camera_is_kept_and_a_given_focal_length_refined(copied, photos):
    exact = RegisterPhotosSettings("exact", KnownCamera(calibrated=LENS))
    report = register_photos(copied, [photos], exact)
    assert report.cameras[0].source == "given"
    assert report.cameras[0].params == LENS.params
    assert report.posed == 4
    rough = RegisterPhotosSettings("rough", KnownCamera(focal_px=480.0))
    report = register_photos(copied, [photos], rough)
    assert report.cameras[0].source == "estimated from 480 px on"
    assert report.cameras[0].focal_px == pytest.approx(LENS.focal_px, rel=0.005)
    assert copied.map.images["exact/test-00.png"].camera.params == LENS.params


@pytest.mark.slow
def test_sizes_are_cameras_of_their_own(copied, photos, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    for name, pose in TEST_POSES.items():
        image = cv2.cvtColor(render(pose, VISITOR.resized(480, 360)), cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(other / f"small-{name}"), image)
    report = register_photos(copied, [photos, other], VISIT)
    focals = {camera.width: camera.focal_px for camera in report.cameras}
    assert focals[560] == pytest.approx(LENS.focal_px, rel=0.005)
    assert focals[480] == pytest.approx(VISITOR.focal_px * 480 / 560, rel=0.01)
    assert report.posed == 8


def test_photos_of_elsewhere_and_files_that_are_none_have_a_reason_each(copied, photos, tmp_path):
    mixed = tmp_path / "mixed"
    shutil.copytree(photos, mixed)
    pose = TEST_POSES["test-00.png"]
    cv2.imwrite(str(mixed / "elsewhere.png"), render(pose, LENS, room=1)[:, :, ::-1])
    cv2.imwrite(str(mixed / "look-alike.png"), render(pose, LENS, room=(0, 1, 1))[:, :, ::-1])
    cv2.imwrite(str(mixed / "black.png"), np.zeros((420, 560, 3), np.uint8))
    (mixed / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no image")
    shutil.copy(mixed / "test-01.png", mixed / "twice.png")
    shutil.copy(mixed / "test-01.png", os.fsencode(mixed) + b"/not-\xff-utf8.png")
    report = register_photos(copied, [mixed], VISIT)
    reasons = {Path(p.image).name: p.reason for p in report.photos if not p.registered}
    assert set(reasons) == {"elsewhere.png", "look-alike.png", "black.png"}
    assert "look-alike" in reasons["look-alike.png"]
    assert "hardly any features" in reasons["black.png"]
    assert sum(photo.registered for photo in report.photos) == 4
    assert [line.count("\n") for line in report.left_out] == [0, 0, 0]
    assert any("not UTF-8" in line for line in report.left_out)
    assert any("broken.jpg" in line for line in report.left_out)
    assert any("twice.png" in line and "test-01.png" in line for line in report.left_out)
    for name in TEST_POSES:
        found = copied.map.images[f"visit/{name}"]
        assert position_error(found.world_from_cam, TEST_POSES[name]) < 0.02


def test_a_photo_unlike_the_map_joins_where_it_shows_what_its_fellows_show(
    copied, photos, monkeypatch
):
    looked = solve.verify_pose

    def doubting(view, lens, scene, pixels, descriptors, **options):
        # As if blur made this one photo look unlike the images of the map's camera.
        if len(pixels) == doubted:
            return Verification(missing=0.9, unlike=0.9)
        return looked(view, lens, scene, pixels, descriptors, **options)

    unlike, *others = sorted(photos.iterdir())

    def count(path):
        return len(extract_features(rgb(open_image(path)), FeatureSettings()))

    doubted = count(unlike)
    assert doubted not in map(count, others)
    monkeypatch.setattr(solve, "verify_pose", doubting)
    alone = register_photos(copied, [unlike], RegisterPhotosSettings("alone"))
    assert "look-alike" in alone.photos[0].reason
    together = register_photos(copied, [unlike, *others], VISIT)
    assert all(photo.registered for photo in together.photos)
    found = copied.map.images[f"visit/{unlike.name}"].world_from_cam
    assert position_error(found, TEST_POSES[unlike.name]) < 0.02


def test_a_camera_that_folds_the_image_over_is_no_crash(copied, photos):
    # Barrel distortion that has no inverse in the outer half of the image.
    folding = Camera("RADIAL", 560, 420, (430.0, 280.0, 210.0, -0.9, 0.0))
    assert np.isnan(folding.cam_from_img([[5.0, 5.0]])).all()
    report = register_photos(
        copied, [photos], RegisterPhotosSettings("visit", KnownCamera(calibrated=folding))
    )
    assert len(report.photos) == 4
    assert all(photo.registered or photo.reason for photo in report.photos)


def test_a_map_without_points_or_features_says_what_to_run(copied, photos):
    (copied.map_dir / "features.json").unlink()
    with pytest.raises(MappingError, match="run: relocalize map"):
        register_photos(copied, [photos], VISIT)
    model = copied.map
    blind = MapModel(
        {
            name: replace(image, keypoints=image.keypoints[:0], point_rows=image.point_rows[:0])
            for name, image in model.images.items()
        },
        Points(
            model.points.ids[:0],
            model.points.positions[:0],
            model.points.colors[:0],
            model.points.reprojection_errors[:0],
            model.points.track_lengths[:0],
        ),
    )
    blind.write(copied.map_dir)
    with pytest.raises(MappingError, match="no points"):
        register_photos(copied, [photos], VISIT)
    assert "visit" not in copied.captures


@pytest.mark.slow
def test_fitted_localizers_notice_and_a_split_stays_as_it_was(copied, photos):
    split = copied.split("given")
    before = fitted(copied, "structure", split).solver.scene
    register_photos(copied, [photos], VISIT)
    after = fitted(copied, "structure", split).solver.scene
    np.testing.assert_array_equal(after.positions, before.positions)
    np.testing.assert_array_equal(after.descriptors, before.descriptors)
    whole = fitted(copied, "structure").solver.scene
    assert len(whole.centres) == len(before.centres) + len(TEST_POSES)


def test_refining_moves_everything_to_a_joint_optimum(copied, photos):
    names = list(copied.map.images)
    before = old_bytes(copied, names)
    report = register_photos(copied, [photos], RegisterPhotosSettings("visit", refine=True))
    assert report.refined
    moved = contents(copied.root)
    again = register_photos(copied, [photos], VISIT)
    assert again.unchanged
    assert again.photos == report.photos
    assert contents(copied.root) == moved
    assert old_bytes(copied, names)[2] != before[2]
    for name, true in TEST_POSES.items():
        found = copied.map.images[f"visit/{name}"]
        assert position_error(found.world_from_cam, true) < 0.03


def test_a_map_made_anew_is_without_them_and_takes_them_again(registered, photos, tmp_path):
    shutil.copytree(registered[0].root, tmp_path / "again")
    place = Place.open(tmp_path / "again")
    (place.map_dir / "map.json").unlink()
    assert not map_place(place).unchanged
    assert not any(name.startswith("visit/") for name in place.map.images)
    report = register_photos(place, [], VISIT)
    assert (report.posed, report.images) == (4, 4)


def _with_a_hole(data: bytes) -> bytes:
    third = len(data) // 3
    return data[:third] + np.random.default_rng(0).bytes(third) + data[2 * third :]


@pytest.mark.parametrize("damaged", [_with_a_hole, lambda _: b""], ids=["a hole", "empty"])
def test_a_damaged_database_is_one_line_and_leaves_the_place(copied, photos, damaged):
    path = copied.map_dir / "database.db"
    path.write_bytes(damaged(path.read_bytes()))
    before = contents(copied.root)
    with pytest.raises(MappingError, match=r"database.db is damaged; delete it and make it anew"):
        register_photos(copied, [photos], VISIT)
    assert contents(copied.root) == before


def test_a_disk_without_room_for_features_is_one_line(copied, photos, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 99, 1))
    with pytest.raises(MappingError, match=r"database.db needs .* MB free; free some"):
        register_photos(copied, [photos], VISIT)


def test_wrong_input_is_one_line_and_leaves_the_place(copied, photos, tmp_path):
    before = contents(copied.root)
    with pytest.raises(CaptureError, match="does not exist"):
        register_photos(copied, [tmp_path / "nowhere"], VISIT)
    with pytest.raises(CaptureError, match="takes no photos"):
        register_photos(copied, [photos], RegisterPhotosSettings("room"))
    with pytest.raises(MappingError, match="is made of capture"):
        register_photos(copied, [], RegisterPhotosSettings("room"))
    with pytest.raises(PlaceError, match="no capture"):
        register_photos(copied, [], VISIT)
    with pytest.raises(PlaceError, match="cannot name"):
        register_photos(copied, [photos], RegisterPhotosSettings("../visit"))
    with pytest.raises(PlaceError, match="no split"):
        register_photos(copied, [photos], RegisterPhotosSettings("visit", split="nowhere"))
    with pytest.raises(CaptureError, match="focal length"):
        KnownCamera(focal_px=-3.0)
    with pytest.raises(CaptureError, match="is no camera"):
        parsed_camera("OPENCV,800,450,720")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CaptureError, match="no photos"):
        register_photos(copied, [tmp_path / "empty"], VISIT)
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(CaptureError, match=r"none of the 1 photos"):
        register_photos(copied, [tmp_path / "broken.jpg"], VISIT)
    assert contents(copied.root) == before


def killed(monkeypatched: str, root: Path, photos: Path) -> Place:
    """The Place after a process was killed where this step of registering begins."""
    module, _, name = monkeypatched.rpartition("/" if "/" in monkeypatched else ".")
    child = os.fork()
    if not child:

        def stop(*_arguments, **_options):
            os.kill(os.getpid(), signal.SIGKILL)

        if module == "Path.":
            rename = Path.rename
            Path.rename = lambda self, target: stop() if self.name == name else rename(self, target)
        else:
            setattr(importlib.import_module(module), name, stop)
        register_photos(Place.open(root), [photos], VISIT)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    return Place.open(root)


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_the_place_usable(place, copied, photos, registered):
    names = list(place.map.images)
    before = old_bytes(place, names)
    for step in (
        "relocalize.capture.joining.CapturedImage",  # images are there, no record
        "relocalize.mapping.register_photos.Stages",  # a capture without features
        "relocalize.mapping.register_photos.pose_together",  # features without poses
        "relocalize.mapping.photo_ties.refine_photos",
        "relocalize.mapping.register_photos.replace_model",
        "Path./.writing-map",  # the new map is whole, the old one moved aside
    ):
        left = killed(step, copied.root, photos)
        assert old_bytes(left, names) == before
        assert len(left.map.images) == len(names)
    register_photos(copied, [photos], VISIT)
    assert everything_else(copied.root) == everything_else(registered[0].root)
    assert contents(copied.map_dir)["images.bin"] == contents(registered[0].map_dir)["images.bin"]


def everything_else(root: Path) -> set[str]:
    """Names of the files of a Place that belong to it."""
    return {name for name in contents(root) if not name.startswith(("localizers", "."))}


@pytest.mark.slow
def test_photos_join_a_map_made_by_structure_from_motion(corridor, corridor_place, tmp_path):
    shutil.copytree(corridor_place.root, tmp_path / "corridor")
    place = Place.open(tmp_path / "corridor")
    names = list(place.map.images)
    before = old_bytes(place, names)
    report = register_photos(place, [corridor.folder / "visitor"], VISIT)
    assert old_bytes(place, names) == before
    alignment = align_camera_poses(
        [place.map.images[name].world_from_cam for name in names],
        [corridor.walk_poses[Path(name).name].inverse() for name in names],
    )
    errors = []
    for photo in report.photos:
        if photo.registered:
            found = alignment.b_from_a.move_camera(place.map.images[photo.image].world_from_cam)
            true = corridor.visitor_poses[Path(photo.image).name].inverse()
            errors.append(position_error(found, true))
    assert len(errors) >= 0.8 * len(report.photos)
    assert np.median(errors) < 0.03
    assert max(errors) < 0.3
    true_focal = corridor.settings.visitor.camera.focal_px
    assert report.cameras[0].focal_px == pytest.approx(true_focal, rel=0.02)
    assert register_photos(place, [], VISIT).unchanged
    assert map_place(place).unchanged


@pytest.mark.slow
def test_a_second_walk_joins_frame_by_frame(corridor, corridor_place, tmp_path):
    shutil.copytree(corridor_place.root, tmp_path / "corridor")
    place = Place.open(tmp_path / "corridor")
    capture_frames(corridor.folder / "walk.mp4", place, name="walk2", count=8)
    report = register_photos(place, [], RegisterPhotosSettings("walk2"))
    assert (report.posed, report.images) == (8, 8)
    assert place.capture("walk2").kind == "video"
    assert map_place(place).unchanged


def test_the_command_prints_a_line_a_photo_and_one_object_of_json(copied, photos, capsys):
    command = Register(copied.root, (photos,), "visit")
    assert command.run() == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum("inliers" in line for line in lines) == 4
    assert any("camera RADIAL 560x420" in line and "estimated" in line for line in lines)
    assert "4 of 4 photos registered" in lines[-1]
    assert replace(command, json=True).run() == 0
    value = json.loads(capsys.readouterr().out)
    assert value["unchanged"]
    assert (value["posed"], value["images"]) == (4, 4)
