"""Photos are read upright, with the focal length that their EXIF gives, within bounds."""

import math
import struct
import zlib
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import ExifTags, Image, ImageOps

from relocalize.capture.photos import read_photo
from relocalize.errors import CaptureError

SIZE = (96, 64)  # width, height of the upright image


def quadrants(width: int = SIZE[0], height: int = SIZE[1]) -> Image.Image:
    """An image whose four corners tell which way up it is."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2] = (220, 30, 30)
    pixels[: height // 2, width // 2 :] = (30, 220, 30)
    pixels[height // 2 :, : width // 2] = (30, 30, 220)
    pixels[height // 2 :, width // 2 :] = (230, 230, 230)
    return Image.fromarray(pixels)


def exif_with(**tags: object) -> Image.Exif:
    exif = Image.Exif()
    inner: dict[int, object] = {}
    for name, value in tags.items():
        tag = ExifTags.Base[name]
        (exif if name in ("Orientation", "Make", "Model") else inner)[tag] = value
    exif[ExifTags.IFD.Exif] = inner
    return exif


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    # Stored as a camera would that was held this way: the inverse of the turn to upright.
    undo = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}[orientation]
    turned = quadrants()
    turned.getexif()[ExifTags.Base.Orientation] = undo
    stored = ImageOps.exif_transpose(turned)
    path = tmp_path / "photo.jpg"
    stored.save(path, quality=95, subsampling=0, exif=exif_with(Orientation=orientation))
    photo = read_photo(path)
    assert photo.pixels.shape == (SIZE[1], SIZE[0], 3)
    difference = np.abs(photo.pixels.astype(int) - np.asarray(quadrants()).astype(int))
    assert np.median(difference) < 4
    assert difference.mean() < 6
    assert photo.plain_as == (".jpg" if orientation == 1 else None)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".bmp"])
def test_other_formats(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"photo{suffix}"
    quadrants().save(path, **({"lossless": True} if suffix == ".webp" else {}))
    photo = read_photo(path)
    np.testing.assert_array_equal(photo.pixels, np.asarray(quadrants()))
    assert photo.camera is None
    assert photo.plain_as == (".png" if suffix == ".png" else None)


def test_heic_is_upright_with_focal(tmp_path: Path) -> None:
    path = tmp_path / "IMG_0001.HEIC"
    stored = quadrants().transpose(Image.Transpose.ROTATE_90)
    exif = exif_with(Orientation=6, FocalLengthIn35mmFilm=26)
    pillow_heif.from_pillow(stored).save(path, quality=95, exif=exif.tobytes())
    photo = read_photo(path)
    assert photo.pixels.shape == (SIZE[1], SIZE[0], 3)
    assert photo.pixels[8, 8, 0] > 150 and photo.pixels[8, 8, 1] < 90
    assert photo.pixels[8, -8, 1] > 150 and photo.pixels[8, -8, 0] < 90
    assert photo.camera is not None and photo.camera.known == "approximate"


def test_sixteen_bits_are_scaled(tmp_path: Path) -> None:
    path = tmp_path / "deep.png"
    Image.fromarray(np.full((8, 8), 0x8000, np.uint16)).save(path)
    assert np.all(read_photo(path).pixels == 0x80)


def test_focal_from_35mm_equivalent(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    Image.new("RGB", (600, 400)).save(path, exif=exif_with(FocalLengthIn35mmFilm=36))
    camera = read_photo(path).camera
    assert camera is not None
    # A 3:2 image has film's own shape: 36 mm of focal length is one image width.
    assert math.isclose(camera.focal_px, 600, rel_tol=1e-6)
    assert (camera.width, camera.height, camera.known) == (600, 400, "approximate")


def test_focal_from_sensor_resolution_survives_resizing_and_turning(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    exif = exif_with(
        Orientation=6,
        FocalLength=5.0,
        FocalPlaneXResolution=4000 / 6.0 * 10.0,  # pixels per cm of a 6 mm wide sensor
        FocalPlaneResolutionUnit=3,
        ExifImageWidth=4000,
        ExifImageHeight=3000,
    )
    Image.new("RGB", (400, 300)).save(path, exif=exif)
    photo = read_photo(path)
    assert photo.pixels.shape == (400, 300, 3)
    assert photo.camera is not None
    assert math.isclose(photo.camera.focal_px, 400 * 5 / 6, rel_tol=1e-6)


@pytest.mark.parametrize("focal", [0, 1, 65535])
def test_absurd_focal_counts_as_unknown(tmp_path: Path, focal: int) -> None:
    path = tmp_path / "photo.jpg"
    Image.new("RGB", (600, 400)).save(path, exif=exif_with(FocalLengthIn35mmFilm=focal))
    assert read_photo(path).camera is None


def test_damaged_exif_leaves_the_image(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    quadrants().save(path, exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\xee" * 40)
    photo = read_photo(path)
    assert photo.pixels.shape == (SIZE[1], SIZE[0], 3)
    assert photo.camera is None


def huge_png() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("notes.jpg", b"shopping list: milk, bread\n" * 20, "is not an image"),
        ("empty.jpg", b"", "is empty"),
        ("huge.png", huge_png(), "megapixels"),
    ],
)
def test_what_is_no_photo_gets_one_line(tmp_path: Path, name: str, data: bytes, says: str) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(CaptureError, match=says) as caught:
        read_photo(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".heic"])
def test_cut_photo_gets_one_line(tmp_path: Path, suffix: str) -> None:
    whole = tmp_path / f"whole{suffix}"
    noise = np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8)
    if suffix == ".heic":
        pillow_heif.from_pillow(Image.fromarray(noise)).save(whole)
    else:
        Image.fromarray(noise).save(whole)
    cut = tmp_path / f"cut{suffix}"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(CaptureError, match="cut") as caught:
        read_photo(cut)
    assert "\n" not in str(caught.value)


def test_missing_and_folder(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="does not exist"):
        read_photo(tmp_path / "absent.jpg")
    with pytest.raises(CaptureError, match="is a folder"):
        read_photo(tmp_path)
