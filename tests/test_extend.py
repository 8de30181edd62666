"""A second walk into a finished map, which stays; and who may follow whom along one."""

import shutil

import cv2
import numpy as np
import pytest

import relocalize
from relocalize import Place
from relocalize.errors import MappingError
from relocalize.geometry import align_camera_poses, position_error
from relocalize.mapping import unknown_poses
from relocalize.mapping.followed import followed

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def halves(corridor, tmp_path_factory):
    """The corridor's walk as two videos; their last and first third are the same way."""
    folder = tmp_path_factory.mktemp("halves")
    frames, reader = [], cv2.VideoCapture(str(corridor.folder / "walk.mp4"))
    while (frame := reader.read()[1]) is not None:
        frames.append(frame)
    third = len(frames) // 4
    starts = {"morning": (0, 3 * third), "evening": (2 * third, len(frames))}
    for name, (start, end) in starts.items():
        height, width = frames[0].shape[:2]
        video = cv2.VideoWriter(
            str(folder / f"{name}.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 20, (width, height)
        )
        for frame in frames[start:end]:
            # The evening is darker, and its light warmer.
            tint = [0.5, 0.6, 0.7] if name == "evening" else 1.0
            video.write((frame * np.array(tint)).astype(np.uint8))
        video.release()
    return folder, {name: start for name, (start, _) in starts.items()}


@pytest.fixture(scope="module")
def morning(halves, tmp_path_factory):
    root = tmp_path_factory.mktemp("extend") / "place"
    place = relocalize.frames(halves[0] / "morning.mp4", root, capture="morning").place
    relocalize.map(place)
    return place


def true_poses(corridor, place, starts):
    poses = {}
    for name, capture in place.captures.items():
        for image in capture.images:
            number = starts[name] + image.frame_index
            pose = corridor.walk_poses.get(f"frame-{number:06d}.jpg")
            if pose is not None:
                poses[image.name] = pose.inverse()
    return poses


def test_a_second_walk_goes_on_where_the_first_ended(
    corridor, halves, morning, tmp_path, monkeypatch
):
    root = tmp_path / "place"
    shutil.copytree(morning.root, root)
    before = Place.open(root)
    was, points = before.map.images, before.points
    place = relocalize.frames(halves[0] / "evening.mp4", root, capture="evening").place
    # What is suspicious of the new walk is said of the map that it joins.
    monkeypatch.setattr(unknown_poses, "alarms_of", lambda *_: ("it jumps",))
    report = relocalize.map(place, extend=True)
    assert report.alarms == ("it jumps",)
    place = Place.open(root)
    assert report.registered == report.images == sum(len(c.images) for c in place.captures.values())
    for name, image in was.items():
        now = place.map.images[name].cam_from_world
        np.testing.assert_array_equal(now.rotation, image.cam_from_world.rotation)
        np.testing.assert_array_equal(now.translation, image.cam_from_world.translation)
    at = dict(zip(place.points.ids, place.points.positions, strict=True))
    for number, position in zip(points.ids, points.positions, strict=True):
        np.testing.assert_array_equal(at[number], position)
    truth = true_poses(corridor, place, halves[1])
    world = align_camera_poses(
        [was[n].world_from_cam for n in was], [truth[n] for n in was]
    ).b_from_a
    errors = {
        name: position_error(world.move_camera(place.map.images[name].world_from_cam), truth[name])
        for name in place.capture("evening").image_names
    }
    # Focal lengths of two such short walks come out 1% apart, of 3 m to what they see.
    assert np.median(list(errors.values())) < 0.03  # metres
    assert max(errors.values()) < 0.06
    # Nothing is done twice, and what was mapped by itself is not mapped anew.
    again = relocalize.map(place, extend=True)
    assert again.unchanged
    assert relocalize.map(place).unchanged
    assert again.registered == report.registered
    moved = relocalize.open(root)
    localizer = relocalize.fitted(moved, "structure")
    assert localizer.localize(corridor.folder / "visitor" / "photo-000.jpg").status == "localized"


def test_a_walk_elsewhere_leaves_the_map_alone(morning, tmp_path):
    root = tmp_path / "place"
    shutil.copytree(morning.root, root)
    rng = np.random.default_rng(0)
    wall = cv2.resize(rng.integers(0, 256, (90, 200, 3), np.uint8), (1600, 720))
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    for i in range(8):
        cv2.imwrite(str(folder / f"{i}.png"), wall[100:460, 60 * i : 60 * i + 480])
    relocalize.frames(folder, root, capture="elsewhere")
    files = {path: path.read_bytes() for path in (root / "map").glob("*.bin")}
    with pytest.raises(MappingError, match=r"elsewhere|could be set in relation"):
        relocalize.map(root, extend=True)
    assert {path: path.read_bytes() for path in (root / "map").glob("*.bin")} == files


def test_extending_keeps_the_frame_and_refining_needs_an_extension(morning):
    with pytest.raises(MappingError, match="leave out scale"):
        relocalize.map(morning, extend=True, scale=[("a", "b", 1.0)])
    with pytest.raises(MappingError, match="give extend too"):
        relocalize.map(morning, refine=True)


def test_doors_found_in_the_next_door_are_not_followed():
    # Every thing is seen for 4 images; 6 images on, its double stands where it would have been.
    names = [f"walk/{i:03d}" for i in range(30)]
    count = 40  # things that come into sight with each image, rows of the image 40 each
    seen = [range(max(0, i - 3), i + 1) for i in range(len(names))]

    def row(image, thing_of):  # features are numbered by when they came into sight
        return (thing_of % 4) * count

    matches = {}
    for i in range(len(names)):
        for j in range(i + 1, min(i + 7, len(names))):
            pairs = [
                (row(i, came) + k, row(j, came) + k)
                for came in set(seen[i]) & set(seen[j])
                for k in range(count)
            ]
            if j - i == 6:
                pairs = [(row(i, i) + k, row(j, j) + k) for k in range(count)]
            if pairs:
                matches[names[i], names[j]] = np.array(pairs, dtype=np.uint32)
    kept = followed(matches, names)
    for (first, second), rows in matches.items():
        apart = names.index(second) - names.index(first)
        if apart <= 3:
            np.testing.assert_array_equal(kept[first, second], rows)
    assert not any(names.index(b) - names.index(a) == 6 for a, b in kept)


def test_a_pair_with_nothing_between_keeps_its_matches():
    rows = np.stack([np.arange(30)] * 2, axis=1).astype(np.uint32)
    names = [f"walk/{i}" for i in range(6)]
    matches = {("walk/0", "walk/1"): rows, ("walk/1", "walk/5"): rows}  # 2 to 4 are blurred
    kept = followed(matches, names)
    np.testing.assert_array_equal(kept["walk/1", "walk/5"], rows)
