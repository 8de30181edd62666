"""Train frames: what is in them, that a kill loses little, and that no test image is touched."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import cv2
import numpy as np
import pytest

from numbers_place import CAMERA
from place_with_images import image_of, make_imaged_place
from relocalize.errors import LocalizerError, PlaceError
from relocalize.place import Place
from relocalize.regression.augmentation import augment, copy_rng
from relocalize.regression.canonical import warp
from relocalize.regression.frames import TrainingFrames, cache_folder
from relocalize.regression.settings import AugmentSettings, InputSettings

SMALL = InputSettings(width=96, height=72)
PAPER = InputSettings(width=64, height=64, geometry="posenet")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return make_imaged_place(tmp_path / "place")


def test_frames_are_the_train_images_in_the_target_camera(place):
    frames = TrainingFrames.prepare(place, place.split("odd"), SMALL)
    assert frames.names == place.split("odd").train
    assert frames.pixels.shape == (12, 72, 96, 3)
    assert frames.pixels.dtype == np.uint8
    assert frames.target.focal_px == pytest.approx(CAMERA.focal_px * 96 / 640)
    for row, name in enumerate(frames.names):
        pose = place.map.images[name].world_from_cam
        assert np.array_equal(frames.world_from_cams[row], pose.matrix)
        expected, _ = warp(image_of(2 * row), CAMERA, frames.target)
        assert np.abs(frames.pixels[row].astype(int) - expected).mean() < 2.0  # JPEG


def test_copies_made_from_kept_sources_are_those_of_the_original_images(place):
    frames = TrainingFrames.prepare(place, place.split("odd"), SMALL)
    settings = AugmentSettings(roll_deg=10.0, turn_deg=12.0, zoom=1.3, jitter=0.3)
    for row in (0, 5):
        assert frames.source(row).size < image_of(0).size / 4
        original = place.read_image(frames.names[row])
        copies = [
            augment(
                pixels,
                frames.cameras[row],
                frames.world_from_cams[row],
                frames.target,
                copy_rng(0, 1, row),
                settings,
            )
            for pixels in (frames.source(row), original)
        ]
        # A coarser lens averages a second time; nothing else differs.
        assert np.abs(copies[0][0].astype(int) - copies[1][0]).mean() < 1.0
        assert np.array_equal(copies[0][1], copies[1][1])


def test_paper_frames_are_a_little_larger_than_its_crops_and_keep_their_shape(place):
    frames = TrainingFrames.prepare(place, place.split("odd"), PAPER)
    assert frames.pixels.shape == (12, 73, 97, 3)  # 64 * 256 / 224, and 4:3


def test_images_are_decoded_once_unless_something_they_depend_on_changes(place, monkeypatch):
    read = []
    decode = Place.read_image

    def counted(self, name):
        read.append(name)
        return decode(self, name)

    monkeypatch.setattr(Place, "read_image", counted)
    first = TrainingFrames.prepare(place, place.split("odd"), SMALL)
    assert sorted(read) == list(place.split("odd").train)  # and no test image
    again = TrainingFrames.prepare(place, place.split("odd"), SMALL)
    assert len(read) == 12
    assert first.key == again.key
    assert np.array_equal(first.pixels, again.pixels)
    other = TrainingFrames.prepare(place, place.split("odd"), InputSettings(width=64, height=64))
    assert other.key != first.key
    assert len(read) == 24
    cv2.imwrite(str(place.image_path(first.names[3])), image_of(99))
    changed = TrainingFrames.prepare(place, place.split("odd"), SMALL)
    assert changed.key != first.key
    assert not np.array_equal(changed.pixels[3], first.pixels[3])
    assert np.array_equal(changed.pixels[4], first.pixels[4])


_KILLED = """
    import os, signal, sys
    from relocalize.regression import frames
    from relocalize.regression.settings import InputSettings
    from relocalize.place import Place

    frames._BLOCK = 4
    place = Place.open(sys.argv[1])
    decode = Place.read_image
    seen = []

    def until_killed(self, name):
        seen.append(name)
        if len(seen) == 8:
            os.kill(os.getpid(), signal.SIGKILL)
        return decode(self, name)

    Place.read_image = until_killed
    settings = InputSettings(width=96, height=72)
    frames.TrainingFrames.prepare(place, place.split("odd"), settings, workers=1)
"""


@pytest.mark.skipif(os.name != "posix", reason="kills a process as posix does")
def test_a_killed_preparation_goes_on_where_it_was(place, monkeypatch):
    command = [sys.executable, "-c", textwrap.dedent(_KILLED), str(place.root)]
    killed = subprocess.run(command, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert killed.returncode == -signal.SIGKILL
    read = []
    decode = Place.read_image
    monkeypatch.setattr(
        Place, "read_image", lambda self, name: (read.append(name), decode(self, name))[1]
    )
    frames = TrainingFrames.prepare(place, place.split("odd"), SMALL)
    assert 0 < len(read) <= 8  # 12, less the block of 4 that was whole
    whole = make_imaged_place(place.root.parent / "whole")
    assert np.array_equal(
        frames.pixels, TrainingFrames.prepare(whole, whole.split("odd"), SMALL).pixels
    )


def test_a_damaged_cache_is_made_again(place):
    frames = TrainingFrames.prepare(place, place.split("odd"), SMALL)
    pixels = np.array(frames.pixels)
    (file,) = cache_folder(place).glob("frames-*/pixels.*")
    with file.open("r+b") as handle:
        handle.truncate(1000)
    again = TrainingFrames.prepare(place, place.split("odd"), SMALL)
    assert np.array_equal(again.pixels, pixels)


def test_caches_do_not_pile_up(place):
    for side in range(64, 84, 2):
        TrainingFrames.prepare(place, place.split("odd"), InputSettings(side, side))
    assert len(list(cache_folder(place).iterdir())) <= 8
    # The last one is among those that are left.
    assert TrainingFrames.prepare(place, place.split("odd"), InputSettings(82, 82)).pixels.any()


def test_frames_that_lie_cached_are_there_while_another_process_writes(place):
    first = TrainingFrames.prepare(place, place.split("odd"), SMALL)
    lock = f"from relocalize.place import Place; p = Place.open({str(place.root)!r})\n"
    holder = subprocess.Popen(
        [sys.executable, "-c", lock + "with p.lock():\n    print(flush=True)\n    input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        again = TrainingFrames.prepare(place, place.split("odd"), SMALL)
        assert np.array_equal(first.pixels, again.pixels)
        with pytest.raises(PlaceError, match="being written by another"):
            TrainingFrames.prepare(place, place.split("odd"), PAPER)
    finally:
        holder.communicate(b"\n", timeout=30)


def test_observed_points_are_seen_by_their_frame_and_by_another_train_frame(place):
    frames = TrainingFrames.prepare(place, place.split("odd"), SMALL)
    observed = frames.observed_points(20)
    assert observed.positions.shape == (12, 20, 3)
    assert observed.seen.any(axis=1).all()
    assert (observed.positions[~observed.seen] == 0).all()
    train = [place.map.images[name] for name in frames.names]
    rows = np.concatenate([image.point_rows for image in train])
    views = np.bincount(rows[rows >= 0], minlength=len(place.points))
    known = place.points.positions.astype(np.float32)
    for row, image in enumerate(train):
        points = observed.positions[row][observed.seen[row]]
        in_cam = image.cam_from_world @ points
        pixels = image.camera.img_from_cam(in_cam)
        assert ((pixels >= 0) & (pixels <= [640, 480])).all()
        for point in points:
            (at,) = np.flatnonzero((known == point).all(axis=1))
            assert at in image.point_rows
            assert views[at] >= 2
    again = frames.observed_points(20)
    assert np.array_equal(observed.positions, again.positions)


def test_validation_is_a_block_of_the_walk(place):
    frames = TrainingFrames.prepare(place, None, SMALL)
    train, validation = frames.validation(0.2)
    assert len(validation) == 5
    assert np.array_equal(np.diff(validation), np.ones(4))
    assert np.abs(train[:, None] - validation).min() > 1


def test_captures_keep_their_frames_together(tmp_path):
    place = make_imaged_place(tmp_path / "two", captures=("visit", "walk"))
    frames = TrainingFrames.prepare(place, None, SMALL)
    assert frames.captures == ("visit",) * 12 + ("walk",) * 12
    assert (np.diff(frames.times[:12]) > 0).all()


def test_what_cannot_be_prepared_is_one_line(place):
    split = place.split("odd")
    path = place.image_path(split.train[2])
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    with pytest.raises(PlaceError, match=r"0004\.jpg cannot be decoded"):
        TrainingFrames.prepare(place, split, SMALL)
    cv2.imwrite(str(path), np.zeros((300, 400, 3), np.uint8))
    with pytest.raises(LocalizerError, match="has 400 x 300 pixels and its camera in the map 640"):
        TrainingFrames.prepare(place, split, SMALL)
    path.write_bytes(whole)
    assert len(TrainingFrames.prepare(place, split, SMALL)) == 12
    (place.root / "map" / "images.bin").unlink()
    with pytest.raises(PlaceError, match="has no map"):
        TrainingFrames.prepare(place, split, SMALL)


def test_a_disk_without_room_is_one_line_and_leaves_nothing(place, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(LocalizerError, match=r"needs 6\d MB .* 0 MB free"):
        TrainingFrames.prepare(place, place.split("odd"), SMALL)
    assert not list(cache_folder(place).iterdir())
