"""What is known of an image and its camera is validated once, at the door."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from relocalize.errors import CaptureError, QueryError
from relocalize.geometry import Camera
from relocalize.localization.query import Query

GREY = np.arange(48 * 64, dtype=np.uint8).reshape(48, 64)
RGB = np.stack([GREY, GREY + 1, GREY + 2], axis=2)


def photo(path: Path, orientation: int = 1, focal_35mm: int | None = None) -> Path:
    exif = Image.Exif()
    exif[0x0112] = orientation
    if focal_35mm is not None:
        exif.get_ifd(0x8769)[0xA405] = focal_35mm
    Image.fromarray(RGB).save(path, exif=exif, lossless=True)
    return path


def test_of_an_array_nothing_is_known_but_its_size() -> None:
    query = Query.of(RGB)
    assert (query.camera.width, query.camera.height, query.camera.known) == (64, 48, "unknown")
    np.testing.assert_array_equal(query.pixels, RGB)


@pytest.mark.parametrize("pixels", [GREY, np.dstack([RGB, GREY])], ids=["grey", "RGBA"])
def test_grey_and_alpha_become_rgb(pixels: np.ndarray) -> None:
    query = Query.of(pixels)
    assert query.pixels.shape == (48, 64, 3)
    np.testing.assert_array_equal(query.pixels[:, :, 0], GREY)


def test_a_file_is_upright_and_its_focal_length_approximate(tmp_path: Path) -> None:
    query = Query.of(photo(tmp_path / "a.webp", orientation=6, focal_35mm=26))
    assert query.pixels.shape == (64, 48, 3)
    assert (query.camera.width, query.camera.height) == (48, 64)
    assert query.camera.known == "approximate"
    assert query.camera.focal_px == pytest.approx(26 / np.hypot(24, 36) * 80)
    assert query.name.endswith("a.webp")


def test_what_the_caller_knows_of_the_camera_comes_before_exif(tmp_path: Path) -> None:
    camera = Camera("SIMPLE_PINHOLE", 64, 48, (50.0, 32.0, 24.0))
    assert Query.of(photo(tmp_path / "a.webp", focal_35mm=26), camera).camera is camera


def test_a_query_is_taken_as_it_is() -> None:
    query = Query.of(RGB)
    assert Query.of(query) is query


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (RGB.astype(np.float32), "pixels are float32; want uint8"),
        (RGB.astype(np.uint16), "pixels are uint16; want uint8"),
        (RGB[None], r"shape 1x48x64x3 .* want \[H, W, 3\]"),
        (RGB[:, :, :2], "shape 48x64x2"),
        (RGB[:0], "shape 0x64x3"),
        (17, "a int is not an image"),
    ],
)
def test_what_is_not_an_image_is_an_error_with_what_it_is(image: object, said: str) -> None:
    with pytest.raises(QueryError, match=said):
        Query.of(image)  # type: ignore[arg-type]


def test_a_camera_of_another_size_is_an_error_with_both_sizes() -> None:
    with pytest.raises(QueryError, match="of 100 x 100 pixels, the image has 64 x 48"):
        Query.of(RGB, Camera.from_focal(100, 100))


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="does not exist"):
        Query.of(tmp_path / "none.jpg")
