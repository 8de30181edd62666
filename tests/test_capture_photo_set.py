"""Photos become a capture: upright, as they were where possible, grouped by camera."""

from pathlib import Path

import cv2
import numpy as np
import pillow_heif
import pytest
from PIL import ExifTags, Image

from relocalize.capture import photo_set as photo_set_module
from relocalize.capture.frames import capture_frames
from relocalize.errors import CaptureError
from relocalize.place import Place


def image_file(seed: int, width: int = 96, height: int = 64) -> Image.Image:
    noise = np.random.default_rng(seed).uniform(0, 255, (height // 8, width // 8, 3))
    smooth = cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    return Image.fromarray(np.clip(smooth, 0, 255).astype(np.uint8))


def exif(*, orientation: int = 1, focal_35mm: int | None = None, model: str = "P1") -> Image.Exif:
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = orientation
    tags[ExifTags.Base.Model] = model
    if focal_35mm:
        tags.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FocalLengthIn35mmFilm] = focal_35mm
    return tags


@pytest.fixture
def album(tmp_path: Path) -> Path:
    folder = tmp_path / "my album"
    folder.mkdir()
    image_file(0).save(folder / "a.jpg", exif=exif(focal_35mm=26))
    image_file(1, 64, 96).save(folder / "b c.JPG", exif=exif(orientation=6, focal_35mm=26))
    image_file(2).save(folder / "d.png")
    pillow_heif.from_pillow(image_file(3)).save(
        folder / "e.heic", exif=exif(focal_35mm=26).tobytes()
    )
    image_file(4).save(folder / "e.jpg", exif=exif(focal_35mm=13))
    image_file(5).save(folder / "f.webp", lossless=True)
    (folder / "notes.txt").write_text("not a photo")
    (folder / "._a.jpg").write_bytes(b"what some systems leave beside each file")
    (folder / "broken.jpg").write_bytes((folder / "a.jpg").read_bytes()[:700])
    (folder / "z.jpg").write_bytes((folder / "a.jpg").read_bytes())
    return folder


def test_album(tmp_path: Path, album: Path) -> None:
    capture = capture_frames(album, tmp_path / "place")
    place = Place.open(tmp_path / "place")
    assert capture == place.capture("my-album")
    assert capture.kind == "photos" and capture.source == "my album"
    names = [name.removeprefix("my-album/") for name in capture.image_names]
    assert names == ["a.jpg", "b_c.jpg", "d.png", "e-2.jpg", "e.jpg", "f.jpg"]
    # As they were, byte for byte.
    for name in ("a.jpg", "d.png"):
        stored = place.image_path(f"my-album/{name}").read_bytes()
        assert stored == (album / name).read_bytes()
    # All upright and alike what was taken; b c.JPG was stored lying on its side.
    upright = {
        "a.jpg": image_file(0),
        "b_c.jpg": image_file(1, 64, 96).transpose(Image.Transpose.ROTATE_270),
        "d.png": image_file(2),
        "e.jpg": image_file(3),
        "e-2.jpg": image_file(4),
        "f.jpg": image_file(5),
    }
    for name, true in upright.items():
        pixels = place.read_image(f"my-album/{name}")
        assert pixels.shape == (64, 96, 3)
        assert np.abs(pixels.astype(int) - np.asarray(true).astype(int)).mean() < 8
        with Image.open(place.image_path(f"my-album/{name}")) as stored:
            assert stored.getexif().get(ExifTags.Base.Orientation, 1) == 1
    dropped = {row.source: row.reason for row in capture.dropped}
    assert set(dropped) == {"broken.jpg", "z.jpg"}
    assert "damaged" in dropped["broken.jpg"] and "a.jpg" in dropped["z.jpg"]
    assert (place.root / "captures" / "my-album.png").is_file()


def test_cameras_are_grouped(tmp_path: Path, album: Path) -> None:
    capture = capture_frames(album, tmp_path / "place")
    camera = {image.name.split("/")[1]: image.camera for image in capture.images}
    assert camera["a.jpg"] == camera["b_c.jpg"] == camera["e.jpg"]
    assert camera["d.png"] == camera["f.jpg"]
    assert len({camera["a.jpg"], camera["d.png"], camera["e-2.jpg"]}) == 3
    known = {name: capture.cameras[index].known for name, index in camera.items()}
    assert known["a.jpg"] == "approximate" and known["d.png"] == "unknown"
    ratio = capture.cameras[camera["a.jpg"]].focal_px / capture.cameras[camera["e-2.jpg"]].focal_px
    assert abs(ratio - 2.0) < 1e-6


def test_goes_on_after_a_kill(tmp_path: Path, album: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = capture_frames(album, tmp_path / "whole")
    taken: list[str] = []
    take = photo_set_module.take_photo

    def counting(path, file_name, folder):
        if len(taken) >= 4:  # two threads take photos
            raise KeyboardInterrupt
        row = take(path, file_name, folder)
        taken.append(path.name)
        return row

    with monkeypatch.context() as patch:
        patch.setattr(photo_set_module, "take_photo", counting)
        with pytest.raises(KeyboardInterrupt):
            capture_frames(album, tmp_path / "place")
    assert Place.open(tmp_path / "place").captures == {}
    assert capture_frames(album, tmp_path / "place") == whole
    (tmp_path / "place" / ".capturing-my-album").mkdir()  # as after a kill at the very end
    assert capture_frames(album, tmp_path / "place") == whole
    assert not (tmp_path / "place" / ".capturing-my-album").exists()
    kept = sorted(path.name for path in (tmp_path / "place" / "images" / "my-album").iterdir())
    assert kept == sorted(name.split("/")[1] for name in whole.image_names)


def test_one_photo_founds_no_place_but_joins_one(tmp_path: Path, album: Path) -> None:
    photo = tmp_path / "one" / "photo.jpg"
    photo.parent.mkdir()
    image_file(9).save(photo)
    for source in (photo, photo.parent):
        with pytest.raises(CaptureError, match="one photo") as caught:
            capture_frames(source, tmp_path / "place")
        assert "\n" not in str(caught.value)
    capture_frames(album, tmp_path / "place")
    visitor = capture_frames(photo, tmp_path / "place", name="visitor")
    assert visitor.image_names == ["visitor/photo.jpg"]
    both = capture_frames([photo, album / "d.png"], tmp_path / "place", name="both")
    assert both.image_names == ["both/d.png", "both/photo.jpg"]


def test_folders_without_photos_get_one_line(tmp_path: Path, album: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(CaptureError, match=r"no photos.*no files"):
        capture_frames(empty, tmp_path / "place")
    (empty / "film.mp4").write_bytes(b"x")
    with pytest.raises(CaptureError, match=r"no photos.*1 x \.mp4.*one video"):
        capture_frames(empty, tmp_path / "place")
    (empty / "bad.jpg").write_bytes(b"x")
    (empty / "worse.jpg").write_bytes(b"")
    with pytest.raises(CaptureError, match=r"none of the photos.*and 1 more"):
        capture_frames(empty, tmp_path / "place")
    with pytest.raises(CaptureError, match="for videos"):
        capture_frames(album, tmp_path / "place", count=3)
    assert len(capture_frames(album, tmp_path / "place").images) == 6
