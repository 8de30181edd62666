"""The Place folder: made, opened, damaged, written to, and read."""

import json
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from relocalize import Camera, Place, Split
from relocalize.errors import PlaceError
from relocalize.place import Capture, CapturedImage, DroppedFrame, Frame

CAMERA = Camera("SIMPLE_RADIAL", 64, 48, (50.0, 32.0, 24.0, 0.01), "unknown")
CAPTURE = Capture(
    name="walk1",
    kind="video",
    source="walk.mp4",
    cameras=(CAMERA,),
    images=(
        CapturedImage("walk1/frame-000000.jpg", 0, 0.0, 0, 12.5),
        CapturedImage("walk1/frame-000007.jpg", 0, 0.233, 7, 11.0),
    ),
    dropped=(DroppedFrame("frame 3", "blurred", 0.1),),
    settings={"count": 2},
)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place.create(tmp_path / "kitchen")


def rewrite(path: Path, **changes: object) -> None:
    """Change keys of a JSON file."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


# -- making and opening --------------------------------------------------------------------


def test_a_new_place_is_empty_and_says_so(place: Place) -> None:
    opened = Place.open(place.root)
    assert opened.name == "kitchen"
    assert opened.frame == Frame(up=None, up_from=None, unit="map unit", scale_from=None)
    assert opened.captures == {}
    assert opened.poses_from is None
    assert not opened.has_map
    assert list(opened.images()) == []
    assert opened.split_names == []
    assert opened.localizer_names == []
    with pytest.raises(PlaceError, match="no map; make one with: relocalize map"):
        _ = opened.map
    manifest = json.loads((place.root / "place.json").read_text())
    assert manifest["schema"] == 1
    assert manifest["created_with"].startswith("relocalize ")


def test_a_place_is_made_only_in_a_new_or_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / ".DS_Store").touch()
    Place.create(tmp_path / "empty")
    Place.create(tmp_path / "deep" / "er")
    full = tmp_path / "full"
    full.mkdir()
    (full / "thesis.tex").write_text("mine")
    with pytest.raises(PlaceError, match="holds other files"):
        Place.create(full)
    assert [entry.name for entry in full.iterdir()] == ["thesis.tex"]
    with pytest.raises(PlaceError, match="holds other files"):
        Place.create(tmp_path / "empty")
    with pytest.raises(PlaceError, match=r"thesis.tex"):
        Place.create(full / "thesis.tex")
    with pytest.raises(PlaceError, match=r"thesis.tex"):
        Place.create(full / "thesis.tex" / "kitchen")


def test_open_or_create_does_either(tmp_path: Path) -> None:
    made = Place.open_or_create(tmp_path / "hall")
    made.write_capture(CAPTURE)
    assert list(Place.open_or_create(tmp_path / "hall").captures) == ["walk1"]


@pytest.mark.parametrize("what", ["nothing", "file", "folder"])
def test_opening_what_is_no_place_says_how_to_make_one(tmp_path: Path, what: str) -> None:
    root = tmp_path / "x"
    if what == "file":
        root.write_text("hello")
    if what == "folder":
        root.mkdir()
    with pytest.raises(PlaceError, match=r"is no Place.*relocalize frames VIDEO PLACE"):
        Place.open(root)


def test_a_place_of_a_later_version_is_not_touched(place: Place) -> None:
    path = place.root / "place.json"
    rewrite(path, schema=2)
    before = path.read_bytes()
    with pytest.raises(PlaceError, match=r"schema 2.*update relocalize"):
        Place.open(place.root)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "[" * 100_000,
        '{"schema": 1}',
        '{"schema": 0, "name": "a"}',
        '{"schema": "1", "name": "a"}',
        '{"schema": 1, "name": "a", "created_with": "b", "frame": 3, "captures": []}',
        '{"schema": 1, "name": "a", "created_with": "b", "frame": {"x": 1}, "captures": []}',
        '{"schema": 1, "name": "a", "created_with": "b", "frame": {}, "captures": 3}',
        '{"schema": 1, "name": "a", "created_with": "b", "frame": {}, "captures": ["../../a"]}',
    ],
)
def test_a_damaged_manifest_is_an_error_of_ours(place: Place, text: str) -> None:
    (place.root / "place.json").write_text(text)
    with pytest.raises(PlaceError):
        Place.open(place.root)


def test_a_manifest_that_is_no_text_is_an_error_of_ours(place: Place) -> None:
    (place.root / "place.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PlaceError, match="damaged"):
        Place.open(place.root)


# -- captures ------------------------------------------------------------------------------


def test_a_capture_is_read_back_as_it_was_written(place: Place) -> None:
    place.write_capture(CAPTURE)
    read = Place.open(place.root).capture("walk1")
    assert read == CAPTURE
    assert read.camera_of(read.images[0]) == CAMERA
    assert [image.name for _, image in place.images()] == CAPTURE.image_names


def test_captures_keep_their_order_and_are_replaced_by_name(place: Place) -> None:
    for name in ("z", "a", "m"):
        place.write_capture(replace(CAPTURE, name=name))
    place.write_capture(replace(CAPTURE, name="a", source="other.mp4"))
    assert list(place.captures) == ["z", "a", "m"]
    assert place.capture("a").source == "other.mp4"


def test_an_unknown_capture_is_refused_with_those_there_are(place: Place) -> None:
    place.write_capture(CAPTURE)
    with pytest.raises(PlaceError, match=r"no capture 'walk2'; it has \['walk1'\]"):
        place.capture("walk2")


@pytest.mark.parametrize("name", ["", "..", "a/b", "-rf", ".hidden", "a b", "x" * 101, "a\n"])
def test_names_that_cannot_be_files_everywhere_are_refused(place: Place, name: str) -> None:
    with pytest.raises(PlaceError, match="cannot name"):
        place.write_capture(replace(CAPTURE, name=name))
    with pytest.raises(PlaceError, match="cannot name"):
        place.write_split(Split(name, "list", train=("a",), test=()))
    with pytest.raises(PlaceError, match="cannot name"):
        place.localizer_dir(name)
    with pytest.raises(PlaceError, match="cannot name"):
        place.report_dir(name)


@pytest.mark.parametrize(
    "changes",
    [
        {"cameras": [{"model": "SIMPLE_PINHOLE"}]},
        {"cameras": [{**vars(CAMERA), "params": ["a", "b", "c", "d"]}]},
        {"cameras": [{**vars(CAMERA), "width": -3}]},
        {"cameras": 5},
        {"images": [{"nom": "a.jpg"}]},
        {"images": 5},
        {"settings": "ab"},
        {"dropped": [3]},
    ],
)
def test_a_damaged_capture_names_its_file(place: Place, changes: dict[str, object]) -> None:
    place.write_capture(CAPTURE)
    rewrite(place.root / "captures" / "walk1.json", **changes)
    with pytest.raises(PlaceError, match=r"walk1.json is damaged"):
        place.capture("walk1")


def test_a_capture_without_its_record_is_an_error_of_ours(place: Place) -> None:
    place.write_capture(CAPTURE)
    (place.root / "captures" / "walk1.json").unlink()
    with pytest.raises(PlaceError, match=r"walk1.json cannot be read"):
        place.capture("walk1")


# -- images --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["../place.json", "/etc/hostname", "walk1/../../place.json", "..", "walk1/a\0b.jpg"]
)
def test_no_image_name_leads_out_of_the_place(place: Place, name: str) -> None:
    with pytest.raises(PlaceError, match="leads out of"):
        place.image_path(name)
    with pytest.raises(PlaceError, match="leads out of"):
        place.read_image(name)


def test_no_link_leads_out_of_the_place(place: Place, tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(b"")
    place.images_dir.mkdir()
    (place.images_dir / "link.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(PlaceError, match="leads out of"):
        place.image_path("link.png")


def test_images_are_read_as_rgb(place: Place) -> None:
    pixels = np.zeros((4, 6, 3), dtype=np.uint8)
    pixels[..., 0] = 200  # red
    (place.images_dir / "walk1").mkdir(parents=True)
    cv2.imwrite(str(place.image_path("walk1/a.png")), pixels[..., ::-1])
    np.testing.assert_array_equal(place.read_image("walk1/a.png"), pixels)


def png_that_claims(width: int, height: int) -> bytes:
    """A small PNG file whose header says that it is as large as this."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(100)))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (None, "is missing"),
        (b"", "cannot be decoded"),
        (b"hello", "cannot be decoded"),
        (png_that_claims(200_000, 200_000), "cannot be decoded"),
    ],
)
def test_an_image_that_cannot_be_read_is_an_error_of_ours(
    place: Place, data: bytes | None, said: str
) -> None:
    (place.images_dir / "walk1").mkdir(parents=True)
    if data is not None:
        place.image_path("walk1/a.png").write_bytes(data)
    with pytest.raises(PlaceError, match=said):
        place.read_image("walk1/a.png")


# -- frame, splits, localizers -------------------------------------------------------------


def test_the_frame_is_recorded(place: Place) -> None:
    frame = Frame(up="z", up_from="horizon", unit="metre", scale_from="a measured length")
    place.record_poses(poses_from="relocalize map", frame=frame)
    opened = Place.open(place.root)
    assert (opened.frame, opened.unit, opened.poses_from) == (frame, "metre", "relocalize map")


def test_a_split_is_read_back_and_may_go_unnamed_when_alone(place: Place) -> None:
    with pytest.raises(PlaceError, match="no split"):
        place.split()
    blocks = Split("blocks", "blocks", train=("a", "b"), test=("c",), settings={"gap": 0.2})
    place.write_split(blocks)
    assert place.split() == blocks
    place.write_split(replace(blocks, name="later"))
    assert place.split_names == ["blocks", "later"]
    with pytest.raises(PlaceError, match="several splits"):
        place.split()
    with pytest.raises(PlaceError, match="no split 'none'"):
        place.split("none")


@pytest.mark.parametrize(
    "changes", [{"train": ["a", "c"]}, {"train": []}, {"train": 3}, {"seed": 1}, {"test": [[1]]}]
)
def test_a_damaged_split_is_an_error_of_ours(place: Place, changes: dict[str, object]) -> None:
    place.write_split(Split("blocks", "blocks", train=("a", "b"), test=("c",)))
    rewrite(place.root / "splits" / "blocks.json", **changes)
    with pytest.raises(PlaceError):
        place.split("blocks")


def test_what_is_still_being_written_is_not_shown(place: Place) -> None:
    for folder in ("structure", ".writing-retrieval", ".replaced-structure"):
        (place.root / "localizers" / folder).mkdir(parents=True)
        (place.root / "localizers" / folder / "localizer.json").write_text("{}")
    place.write_split(Split("blocks", "blocks", train=("a",), test=("c",)))
    (place.root / "splits" / ".writing-later.json").write_text("{")
    assert Place(place.root).localizer_names == ["structure"]
    assert place.split_names == ["blocks"]
