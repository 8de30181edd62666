"""PoseNet's crops as the cameras that they are."""

import numpy as np
import pytest

from relocalize.errors import GeometryError
from relocalize.geometry import Camera
from relocalize.regression.crops import (
    centre_crop,
    posenet_camera,
    posenet_crops,
    random_crop,
)

WIDE = Camera("SIMPLE_RADIAL", 1920, 1080, (1600.0, 960.0, 540.0, 0.0))
KITCHEN = Camera("SIMPLE_PINHOLE", 640, 480, (525.0, 320.0, 240.0))


def test_the_paper_s_size_comes_out_for_its_images():
    camera = posenet_camera([WIDE] * 3)
    assert (camera.width, camera.height) == (455, 256)
    assert camera.focal_px == pytest.approx(1600 * 256 / 1080, rel=1e-3)
    upright = posenet_camera([Camera("SIMPLE_PINHOLE", 1080, 1920, (1600.0, 540.0, 960.0))])
    assert (upright.width, upright.height) == (256, 455)


def test_a_crop_s_camera_sees_what_the_crop_shows():
    camera = posenet_camera([KITCHEN])
    image = np.arange(camera.width * camera.height).reshape(camera.height, camera.width)
    rng = np.random.default_rng(0)
    points = rng.normal(0, 0.2, (50, 3)) + np.array([0, 0, 1])
    for crop in [centre_crop(camera), *(random_crop(camera, rng) for _ in range(5))]:
        part = crop.of(image)
        assert part.shape == (224, 224)
        assert part[0, 0] == crop.top * camera.width + crop.left
        moved = crop.camera.img_from_cam(points) + np.array([crop.left, crop.top])
        assert np.allclose(moved, camera.img_from_cam(points))


def test_dense_crops_cover_the_image_evenly():
    camera = posenet_camera([KITCHEN])
    crops = posenet_crops(camera)
    assert len(crops) == 128
    lefts, tops = ({getattr(crop, side) for crop in crops} for side in ("left", "top"))
    assert (len(lefts), len(tops)) == (16, 8)
    assert (min(lefts), max(lefts)) == (0, camera.width - 224)
    assert (min(tops), max(tops)) == (0, camera.height - 224)
    assert posenet_crops(camera, 1) == [centre_crop(camera)]
    assert len(posenet_crops(camera, 7)) == 7
    upright = posenet_camera([Camera("SIMPLE_PINHOLE", 480, 640, (525.0, 240.0, 320.0))])
    assert len({crop.top for crop in posenet_crops(upright)}) == 16


def test_random_crops_reach_everywhere():
    camera = posenet_camera([KITCHEN])
    rng = np.random.default_rng(0)
    crops = [random_crop(camera, rng) for _ in range(500)]
    lefts = [crop.left for crop in crops]
    assert min(lefts) <= 2
    assert max(lefts) >= camera.width - 224 - 2


def test_crops_that_do_not_fit_are_refused():
    camera = Camera("PINHOLE", 200, 300, (200.0, 200.0, 100.0, 150.0))
    with pytest.raises(GeometryError, match="no crop of 224 x 224 pixels in an image of 200"):
        centre_crop(camera)
    with pytest.raises(GeometryError, match="0 crops"):
        posenet_crops(posenet_camera([KITCHEN]), 0)
