"""Two Places that overlap become one: what was there stays, what comes is where it was taken."""

import hashlib
import json
import shutil

import numpy as np
import pytest

import relocalize
from localization_place import CAMERA, import_rendered, looking_at
from relocalize import Place
from relocalize.cli.main import main
from relocalize.errors import MappingError, PlaceError
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


FIRST, SECOND = arc(-0.3, 1.0, 10), arc(0.5, 1.9, 10)


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


def far_off(place):
    """Metres between where images of the second Place are in this one, and where they were taken.

    They see walls at 4 m.
    """
    return {
        name: position_error(place.map.images[f"room-2/{name}"].world_from_cam, pose)
        for name, pose in SECOND.items()
    }


def pose_bits(place):
    return {name: one.cam_from_world.matrix.tobytes() for name, one in place.map.images.items()}


@pytest.fixture(scope="module")
def merged(first, second, tmp_path_factory):
    """The first Place with the second in it, and what was said of that."""
    root = tmp_path_factory.mktemp("merged") / "place"
    shutil.copytree(first.root, root)
    theirs = files(second)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(database, "extract_features", None)  # what is known is not done again
        report = relocalize.merge(root, second.root)
    assert files(second) == theirs
    return relocalize.open(root), report


def test_a_place_that_overlaps_comes_into_the_first(first, second, merged):
    place, report = merged
    assert report.captures == {"room": "room-2"}
    assert report.merged == report.images == 10
    assert report.scale == pytest.approx(1 / ELSEWHERE.scale, rel=0.005)
    assert any("did not come along" in remark for remark in report.remarks)
    poses, now = pose_bits(first), pose_bits(place)
    assert {name: now[name] for name in poses} == poses
    at = dict(zip(place.points.ids.tolist(), place.points.positions, strict=True))
    for number, position in zip(first.points.ids.tolist(), first.points.positions, strict=True):
        np.testing.assert_array_equal(at[number], position)
    assert len(place.points) > 1.2 * len(first.points)
    errors = far_off(place)
    assert max(errors.values()) < 0.02, errors
    for name in SECOND:
        theirs = second.image_path(f"room/{name}").read_bytes()
        assert place.image_path(f"room-2/{name}").read_bytes() == theirs
    assert place.split("given") == first.split("given")
    again = relocalize.merge(place, second)
    assert again.unchanged
    assert again.captures == report.captures
    assert relocalize.map(place).unchanged
    assert pose_bits(relocalize.open(place.root)) == now


def test_an_answer_says_which_captures_support_it(merged, capsys, tmp_path):
    place, _ = merged
    for name, most in (("room/00.png", "room"), ("room-2/08.png", "room-2")):
        photo = place.image_path(name)
        found = relocalize.localize(place, photo)
        assert set(found.captures) == {"room", "room-2"}
        assert max(found.captures, key=found.captures.get) == most
        assert found.captures[most] > 0.9
        assert 1 <= sum(found.captures.values()) <= 2
        with pytest.raises(SystemExit):
            main(["localize", str(place.root), str(photo)])
        assert f"inliers ({most} " in capsys.readouterr().out


def test_a_merge_that_was_killed_is_finished_by_the_next(copy, second, merged, monkeypatch):
    class Killed(BaseException):
        pass

    def die(*arguments, **named):
        raise Killed

    before = pose_bits(copy)
    for where, what in ((Place, "write_capture"), (merge_places, "replace_model")):
        with monkeypatch.context() as patched:
            patched.setattr(where, what, die)
            with pytest.raises(Killed):
                relocalize.merge(copy, second)
        assert pose_bits(relocalize.open(copy.root)) == before
    report = relocalize.merge(copy, second)
    assert not report.unchanged
    assert report.captures == {"room": "room-2"}
    assert pose_bits(relocalize.open(copy.root)) == pose_bits(merged[0])
    assert list(copy.captures) == ["room", "room-2"]
    assert not (copy.root / ".mapping").exists()
    (copy.root / ".mapping" / "merge").mkdir(parents=True)  # as after a kill at the very end
    assert relocalize.merge(copy, second).unchanged
    assert not (copy.root / ".mapping").exists()


def test_what_both_places_have_is_one_and_everything_may_move(copy, merged, capsys):
    before = pose_bits(copy)
    with pytest.raises(SystemExit) as ended:
        main(["merge", str(copy.root), str(merged[0].root), "--refine", "--json"])
    assert ended.value.code == 0
    said = json.loads(capsys.readouterr().out)
    assert said["captures"] == {"room": "room", "room-2": "room-2"}
    assert said["merged"] == said["images"] == 20
    assert said["scale"] == pytest.approx(1, rel=1e-9)
    place = relocalize.open(copy.root)
    assert len(place.map.images) == 20
    assert max(far_off(place).values()) < 0.02
    now = pose_bits(place)
    assert any(now[name] != pose for name, pose in before.items())
    assert now["room/09.png"] == before["room/09.png"]  # which observes nothing


def test_what_cannot_be_merged_leaves_the_place_alone(first, second, tmp_path):
    other = place_of(tmp_path / "other", arc(0.0, 0.6, 6), room=1)
    before = files(first)
    with pytest.raises(MappingError, match=r"nothing ties .*other/place to the map of .*; film a"):
        relocalize.merge(first, other)
    (other.map_dir / "database.db").write_bytes(b"")
    with pytest.raises(MappingError, match=r"other/place/map/database.db is damaged; delete it"):
        relocalize.merge(first, other)
    features = other.map_dir / "features.json"
    features.write_text(features.read_text().replace('"sift"', '"xfeat"'))
    with pytest.raises(MappingError, match=r"\(xfeat, not sift\).*--features sift"):
        relocalize.merge(first, other)
    with pytest.raises(MappingError, match="are one Place"):
        relocalize.merge(first, first)
    with pytest.raises(PlaceError, match="is no Place"):
        relocalize.merge(first, tmp_path / "nowhere")
    assert files(first) == before
