"""Two Places that overlap become one: what was there stays, what comes is where it was taken."""

import hashlib
import shutil

import numpy as np
import pytest

import relocalize
from localization_place import CAMERA, import_rendered, looking_at, render
from relocalize.errors import MappingError
from relocalize.features import database
from relocalize.geometry import Similarity3, position_error
from relocalize.geometry.transforms import rotations_from_rotvecs
from relocalize.mapping import map_place, merge_places
from relocalize.mapping.moving import move_place

# Of another scale, turned, elsewhere: the frame of the second Place.
ELSEWHERE = Similarity3(
    2.7, rotations_from_rotvecs(np.array([0.3, -0.2, 1.1])), np.array([4.0, -7.0, 2.0])
)


def arc(first, last, count):
    """world_from_cam along a bow through the room, by the place on it."""
    poses = {}
    for i, a in enumerate(np.linspace(first, last, count)):
        centre = (1.2 * np.cos(a) - 0.6, 1.2 * np.sin(a) - 0.6, 0.15 * (i % 3))
        target = (4, 4 * np.sin(a), -0.3) if a < 0.8 else (4 * np.cos(a), 4, -0.3)
        poses[f"{i:02d}.png"] = looking_at(centre, target)
    return poses


FIRST, SECOND = arc(-0.3, 1.0, 12), arc(0.5, 1.9, 12)


def place_of(folder, poses, *, room=0):
    """A Place with these exact poses; the last is for testing."""
    names = list(poses)
    place = import_rendered(
        folder, poses, names[:-1], names[-1:], CAMERA, capture="room", split="given", room=room
    )
    map_place(place)
    return place


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    return place_of(tmp_path_factory.mktemp("first"), FIRST)


@pytest.fixture(scope="module")
def second(tmp_path_factory):
    place = place_of(tmp_path_factory.mktemp("second"), SECOND)
    move_place(place, ELSEWHERE, onto="elsewhere", frame=place.frame)
    return place


@pytest.fixture
def copy(first, tmp_path):
    """Of the first Place, for a test that changes it."""
    shutil.copytree(first.root, tmp_path / "copy")
    return relocalize.open(tmp_path / "copy")


def files(place):
    return {
        path.relative_to(place.root): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in place.root.rglob("*")
        if path.is_file()
    }


def pose_bits(place):
    return {name: one.cam_from_world.matrix.tobytes() for name, one in place.map.images.items()}


def test_a_place_that_overlaps_comes_into_the_first(copy, second, monkeypatch, tmp_path):
    poses, points, theirs = pose_bits(copy), copy.points, files(second)
    with monkeypatch.context() as patched:
        patched.setattr(database, "extract_features", None)  # whatever is known is not done again
        report = relocalize.merge(copy, second)
    assert files(second) == theirs
    assert report.captures == {"room": "room-2"}
    assert report.merged == report.images == 12
    assert report.scale == pytest.approx(1 / ELSEWHERE.scale, rel=0.005)
    place = relocalize.open(copy.root)
    now = pose_bits(place)
    assert {name: now[name] for name in poses} == poses
    at = dict(zip(place.points.ids.tolist(), place.points.positions, strict=True))
    assert all((at[i] == x).all() for i, x in zip(points.ids.tolist(), points.positions, strict=True))
    assert len(place.points) > 1.2 * len(points)
    errors = {
        name: position_error(place.map.images[f"room-2/{name}"].world_from_cam, pose)
        for name, pose in SECOND.items()
    }
    assert max(errors.values()) < 0.02, errors  # metres, of 4 to what is seen
    for name in SECOND:
        assert place.image_path(f"room-2/{name}").read_bytes() == second.image_path(
            f"room/{name}"
        ).read_bytes()
    again = relocalize.merge(copy, second)
    assert again.unchanged
    assert again.captures == report.captures
    assert pose_bits(relocalize.open(copy.root)) == now
    assert place.split("given") == relocalize.open(copy.root).split("given")
