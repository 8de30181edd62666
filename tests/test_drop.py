"""Images out of the map and back: exactly, at any kill, with names that are not there."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pycolmap
import pytest

from localization_place import TEST_POSES, VISITOR, copy_of_room, render
from relocalize import progress
from relocalize.cli.main import main
from relocalize.errors import MappingError, PlaceError
from relocalize.evaluation import evaluate
from relocalize.geometry import Similarity3
from relocalize.localization import fitted
from relocalize.mapping import dropping, map_place
from relocalize.mapping.dropping import drop_images, flagged_images, restore_images
from relocalize.mapping.moving import move_place
from relocalize.mapping.register_photos import RegisterPhotosSettings, register_photos
from relocalize.place import Frame, Place
from relocalize.place.dropped import dropped_names

SOME = ["room/train-03.png", "room/train-07.png", "room/train-08.png"]


@pytest.fixture(scope="module")
def place(made_once, tmp_path_factory):
    return copy_of_room(made_once, tmp_path_factory.mktemp("room"))


@pytest.fixture
def copied(place, tmp_path):
    shutil.copytree(place.root, tmp_path / "place")
    return Place.open(tmp_path / "place")


def model_of(place):
    return pycolmap.Reconstruction(str(place.map_dir))


def everything(place):
    """Poses, cameras, points and observations of a map, to the bit, whatever their order."""
    model = model_of(place)
    names = {key: image.name for key, image in model.images.items()}
    images = {
        image.name: (
            image.image_id,
            image.camera_id,
            image.cam_from_world().rotation.quat.tobytes(),
            image.cam_from_world().translation.tobytes(),
            [(point.xy.tobytes(), point.point3D_id) for point in image.points2D],
        )
        for image in model.images.values()
    }
    points = {
        key: (
            point.xyz.tobytes(),
            point.color.tobytes(),
            point.error,
            sorted((names[e.image_id], e.point2D_idx) for e in point.track.elements),
        )
        for key, point in model.points3D.items()
    }
    cameras = {key: camera.params.tobytes() for key, camera in model.cameras.items()}
    return images, points, cameras


def test_dropped_images_are_out_and_what_stays_does_not_move(place, copied):
    report = drop_images(copied, SOME)
    assert report.changed == tuple(SOME)
    assert dropped_names(copied) == tuple(SOME)
    assert sorted(set(place.map.images) - set(copied.map.images)) == SOME
    for name in SOME:
        assert copied.image_path(name).is_file()
        assert name in copied.capture("room").image_names
    images, points, _ = everything(place)
    images_now, points_now, _ = everything(copied)
    assert all(images_now[name][:4] == images[name][:4] for name in images_now)
    assert all(points_now[key][:2] == points[key][:2] for key in points_now)
    assert 0 < len(points_now) <= len(points)
    for key, (_, _, _, track) in points_now.items():
        assert track == [one for one in points[key][3] if one[0] not in SOME]
        assert len(track) >= 2
    # What had fewer than two observers left is gone, and nothing else.
    for key in set(points) - set(points_now):
        assert sum(name not in SOME for name, _ in points[key][3]) < 2


def test_restoring_brings_back_the_map_to_the_bit(place, copied):
    drop_images(copied, SOME)
    report = restore_images(copied)
    assert sorted(report.changed) == SOME
    assert everything(copied) == everything(place)
    assert dropped_names(copied) == ()
    assert not (copied.root / "dropped").exists()
    (copied.root / "dropped").mkdir()  # as after a kill at the very end
    restore_images(copied)
    assert not (copied.root / "dropped").exists()


def test_a_full_disk_is_one_line_and_leaves_the_map(place, copied, capfd):
    before = everything(copied)
    size = max(path.stat().st_size for path in copied.map_dir.glob("*.bin"))
    with largest_file(size // 2), pytest.raises(SystemExit):
        main(["drop", str(copied.root), "--images", SOME[0]])
    said = capfd.readouterr().err.splitlines()
    assert len(said) == 1
    assert "cannot be written, the disk may be full" in said[0]
    assert everything(copied) == before
    assert not list(copied.root.glob(".[rw]*"))


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Within this context larger files are cut short, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_one_by_one_in_any_order_is_the_same(place, copied):
    for name in SOME:
        drop_images(copied, [name])
    assert dropped_names(copied) == tuple(SOME)
    for name in (SOME[1], SOME[0], SOME[2]):
        restore_images(copied, [name])
        assert name in copied.map.images
    assert everything(copied) == everything(place)


def test_all_images_that_see_a_point_can_go_and_come_back(place, copied):
    names = [name for name in place.map.images if "train" in name]
    drop_images(copied, names)
    assert len(copied.map.images) == len(TEST_POSES)
    assert len(copied.points) == 0
    restore_images(copied, names[:5])
    restore_images(copied)
    assert everything(copied) == everything(place)


def test_the_same_again_changes_nothing(copied):
    drop_images(copied, SOME)
    before = everything(copied)
    again = drop_images(copied, SOME)
    assert (again.changed, again.as_before) == ((), tuple(SOME))
    assert everything(copied) == before
    restore_images(copied)
    again = restore_images(copied, SOME)
    assert (again.changed, sorted(again.as_before)) == ((), SOME)


def test_short_names_will_do_and_unknown_ones_change_nothing(place, copied):
    with pytest.raises(MappingError, match=r"'nobody'.*Nothing was changed"):
        drop_images(copied, ["train-03", "nobody"])
    with pytest.raises(MappingError, match="all 18 images"):
        drop_images(copied, list(place.map.images))
    with pytest.raises(MappingError, match="'nobody'"):
        restore_images(copied, ["nobody"])
    assert everything(copied) == everything(place)
    assert drop_images(copied, ["train-03"]).changed == ("room/train-03.png",)


def test_what_a_check_flagged_is_dropped(copied):
    with pytest.raises(PlaceError, match="relocalize check"):
        flagged_images(copied)
    check = copied.root / "check.json"
    check.write_text(json.dumps({"outliers": 3}))
    with pytest.raises(PlaceError, match="damaged"):
        flagged_images(copied)
    check.write_text(json.dumps({"outliers": [SOME[0], "room/gone.png"], "problems": []}))
    said = run("drop", str(copied.root), "--flagged", "--json")
    assert said.returncode == 0, said.stderr
    assert json.loads(said.stdout)["dropped"] == [SOME[0]]
    assert "1 flagged images are not in the map" in said.stderr
    assert restore_images(copied, flagged_images(copied)[:1]).changed == (SOME[0],)
    check.unlink()
    said = run("drop", str(copied.root), "--flagged")
    assert said.returncode == 1
    assert said.stderr.count("\n") == 1
    assert f"relocalize check {copied.root}" in said.stderr


def test_localizers_and_a_repeated_mapping_notice(copied):
    split = copied.split("given")
    before = fitted(copied, "constant", split)
    drop_images(copied, SOME)
    after = fitted(copied, "constant", split)
    assert not np.array_equal(before.world_from_cam.matrix, after.world_from_cam.matrix)
    # The points are then made without them, and they come back as poses.
    assert map_place(copied).images == 11
    report = restore_images(copied)
    assert len(report.changed) == 3
    assert report.remarks
    assert len(copied.map.images) == 18


def test_a_moved_place_gets_them_back_where_they_belong(place, copied):
    drop_images(copied, SOME)
    turn = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    now_from_before = Similarity3(2.0, turn, np.array([1.0, 2.0, 3.0]))
    move_place(copied, now_from_before, onto="a test", frame=Frame(unit="metre"))
    restore_images(copied)
    for name in SOME:
        expected = now_from_before.move_camera(place.map.images[name].world_from_cam)
        found = copied.map.images[name].world_from_cam
        np.testing.assert_allclose(found.matrix, expected.matrix, atol=1e-9)
    assert len(copied.points) == len(place.points)


def test_an_evaluation_says_what_it_skips(copied, capsys):
    drop_images(copied, [*SOME, "room/test-01.png"])
    with progress.shown():
        found = evaluate(copied, split="given", localizers=())
    assert "3 train and 1 test images of split 'given' are dropped" in capsys.readouterr().err
    assert len(found.images) == 3


def test_registered_photos_can_be_dropped_and_stay_so(copied, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for name, pose in TEST_POSES.items():
        cv2.imwrite(str(photos / name), render(pose, VISITOR)[:, :, ::-1])
    visit = RegisterPhotosSettings("visit")
    register_photos(copied, [photos], visit)
    whole = everything(copied)
    drop_images(copied, ["visit/test-01.png"])
    assert register_photos(copied, [photos], visit).unchanged
    assert "visit/test-01.png" not in copied.map.images
    restore_images(copied)
    assert everything(copied) == whole


def run(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "relocalize", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def killed(step: str, verb, root: Path) -> Place:
    """The Place after a process was killed where this step of dropping or restoring begins."""
    child = os.fork()
    if not child:

        def stop(*_arguments, **_options):
            os.kill(os.getpid(), signal.SIGKILL)

        rename = Path.rename
        if step == "between the renames":
            Path.rename = lambda self, target: (
                stop() if self.name == ".writing-map" else rename(self, target)
            )
        elif step == "store":
            dropping._Store.write = stop
        else:
            setattr(dropping, step, stop)
        verb(Place.open(root), SOME)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    return Place.open(root)


@pytest.mark.parametrize("step", ["store", "replace_model", "between the renames", "_report"])
def test_a_kill_between_steps_leaves_a_whole_place_and_both_ways_go_on(place, copied, step):
    whole = everything(place)

    left = killed(step, drop_images, copied.root)
    gone = [name for name in SOME if name not in left.map.images]
    assert gone in ([], SOME)
    assert list(dropped_names(left)) == gone
    drop_images(left, SOME)
    out = everything(left)
    left = killed(step, restore_images, copied.root)
    gone = [name for name in SOME if name not in left.map.images]
    assert gone in ([], SOME)
    assert list(dropped_names(left)) == gone
    assert everything(left) == (out if gone else whole)
    restore_images(left)
    assert everything(left) == whole
    drop_images(left, SOME)
    assert everything(left) == out
