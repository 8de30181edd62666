"""Images brought to one pinhole camera: where their pixels land, and what is shown."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from relocalize.errors import GeometryError
from relocalize.geometry import Camera
from relocalize.regression.canonical import FILL, canonical_camera, shrunk, source_pixels, warp

CAMERAS = [
    Camera("SIMPLE_PINHOLE", 240, 180, (197.0, 120.0, 90.0)),
    Camera("PINHOLE", 241, 179, (199.0, 195.0, 112.5, 95.25)),
    Camera("OPENCV", 240, 180, (197.0, 195.0, 116.0, 92.5, -0.12, 0.05, 0.001, -0.002)),
    Camera("SIMPLE_RADIAL", 256, 144, (195.0, 128.0, 72.0, 0.08)),
    Camera("FULL_OPENCV", 240, 180, (187, 187, 120, 90, 0.1, 0.02, 0, 0, 0, 0.15, 0, 0)),
    Camera("OPENCV_FISHEYE", 240, 180, (120.0, 120.0, 120.0, 90.0, 0.02, -0.003, 0.0, 0.0)),
    Camera("FOV", 240, 180, (150.0, 150.0, 120.0, 90.0, 0.8)),
]
TURN = Rotation.from_euler("yxz", [9.0, -6.0, 4.0], degrees=True).as_matrix()


def seen_along(rays):
    """The light [N, 3] of a world at infinity along rays [N, 3]: smooth, without a repeat."""
    directions = rays / np.linalg.norm(rays, axis=1, keepdims=True)
    waves = directions @ np.random.default_rng(4).normal(0, 7, (3, 6))
    light = np.sin(waves + np.arange(6)).reshape(-1, 3, 2).sum(axis=2)
    return 127.5 + 45.0 * light


def photo(camera, cam_from_world=None, finer=2):
    """What a camera sees of that world, each pixel the mean of ``finer`` squared samples."""
    rotation = np.eye(3) if cam_from_world is None else cam_from_world
    at = (np.arange(finer) + 0.5) / finer
    x = (np.arange(camera.width)[:, None] + at).ravel()
    y = (np.arange(camera.height)[:, None] + at).ravel()
    plane = camera.cam_from_img(np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2))
    light = seen_along(np.column_stack([plane, np.ones(len(plane))]) @ rotation)
    shape = (camera.height, finer, camera.width, finer, 3)
    return np.clip(np.rint(light.reshape(shape).mean(axis=(1, 3))), 0, 255).astype(np.uint8)


def shift_between(image, truth, where):
    """Least squares x and y shift, in pixels, of ``image`` against ``truth``."""
    image, truth = image.astype(float), truth.astype(float)
    down, across = np.gradient(truth, axis=(0, 1))
    inner = np.zeros_like(where)
    inner[3:-3, 3:-3] = where[3:-3, 3:-3]
    slopes = np.stack([across[inner].ravel(), down[inner].ravel()], axis=1)
    return np.linalg.lstsq(slopes, -(image - truth)[inner].ravel(), rcond=None)[0]


@pytest.mark.parametrize("camera", CAMERAS, ids=lambda camera: camera.model)
@pytest.mark.parametrize("turn", [np.eye(3), TURN], ids=["straight", "turned"])
def test_a_warped_image_is_what_the_target_would_have_seen_to_a_fiftieth_of_a_pixel(camera, turn):
    target = canonical_camera([camera], 96, 72)
    pixels, seen = warp(photo(camera), camera, target, turn)
    truth = photo(target, turn, finer=3)
    assert seen.mean() > 0.5
    assert np.abs(shift_between(pixels, truth, seen)).max() < 0.02
    # The rest is smoothing, which is even in all directions.
    assert np.abs(pixels.astype(float) - truth)[seen].mean() < 2.0


def test_half_a_pixel_would_show():
    camera = CAMERAS[0]
    target = canonical_camera([camera], 128, 96)
    matrix = target.calibration_matrix
    off = Camera("PINHOLE", 128, 96, (matrix[0, 0], matrix[1, 1], 64.5, 47.5))
    pixels, seen = warp(photo(camera), camera, off)
    assert np.allclose(shift_between(pixels, photo(target, finer=3), seen), [0.5, -0.5], atol=0.05)


@pytest.mark.parametrize("camera", CAMERAS, ids=lambda camera: camera.model)
def test_maps_agree_with_the_camera_models_for_every_pixel_they_show(camera):
    target = canonical_camera([camera], 96, 128)
    x, y, seen = source_pixels(camera, target, TURN)
    columns, rows = np.meshgrid(np.arange(96) + 0.5, np.arange(128) + 0.5)
    rays = np.stack([columns.ravel(), rows.ravel(), np.ones(columns.size)], axis=1)
    rays = rays @ np.linalg.inv(target.calibration_matrix).T @ TURN
    expected = camera.img_from_cam(rays).reshape(128, 96, 2)
    difference = np.stack([x, y], axis=-1) - expected
    # In the target's pixels, which are the coarser ones.
    difference *= target.focal_px / camera.focal_px
    assert np.abs(difference[seen]).max() < 0.01


def test_a_lens_that_folds_back_beyond_its_image_shows_nothing_there():
    camera = Camera("SIMPLE_RADIAL", 640, 480, (500.0, 320.0, 240.0, -0.2))
    wide = Camera("PINHOLE", 300, 200, (40.0, 40.0, 150.0, 100.0))
    _, _, seen = source_pixels(camera, wide)
    # Where a ray comes back to itself after distortion and undistortion, the image shows it.
    columns, rows = np.meshgrid(np.arange(300) + 0.5, np.arange(200) + 0.5)
    plane = (np.stack([columns, rows], axis=-1) - [150, 100]) / 40.0
    rays = np.concatenate([plane, np.ones((200, 300, 1))], axis=-1).reshape(-1, 3)
    pixels = camera.img_from_cam(rays)
    back = camera.cam_from_img(pixels)
    inside = ((pixels > 0) & (pixels < [640, 480])).all(axis=1)
    returns = np.linalg.norm(back - rays[:, :2], axis=1) < 1e-3
    assert (inside & ~returns).sum() > 1000  # the trap is there
    assert np.mean(seen.ravel() == (inside & returns)) > 0.999


def test_shrinking_does_not_alias():
    camera = Camera("SIMPLE_PINHOLE", 640, 480, (525.0, 320.0, 240.0))
    stripes = np.zeros((480, 640, 3), np.uint8)
    stripes[:, ::2] = 255  # finer than the target can show: an even grey
    pixels, seen = warp(stripes, camera, canonical_camera([camera], 160, 120), TURN)
    # Sampled without averaging they stay black and white, 127 apart.
    assert pixels[seen].astype(float).std() < 16.0
    assert abs(pixels[seen].mean() - 127.5) < 2.0


def test_the_canonical_camera_of_images_of_its_shape_has_their_field_of_view():
    camera = Camera("SIMPLE_PINHOLE", 640, 480, (525.0, 320.0, 240.0))
    target = canonical_camera([camera] * 3, 256, 192)
    assert target == Camera("PINHOLE", 256, 192, (210.0, 210.0, 128.0, 96.0))
    _, seen = warp(np.zeros((480, 640, 3), np.uint8), camera, target)
    assert seen.all()


def test_the_canonical_camera_is_the_median_image_s_and_keeps_the_aspect():
    near, far = (Camera.from_focal(640, 480, focal) for focal in (500.0, 900.0))
    assert canonical_camera([near, near, far], 256, 192).focal_px == pytest.approx(200.0)
    upright = canonical_camera([Camera.from_focal(1080, 1920, 1500.0)], 256, 192)
    assert upright.calibration_matrix[0, 0] == upright.calibration_matrix[1, 1]
    wide = Camera.from_focal(800, 450, 700.0)
    _, seen = warp(np.zeros((450, 800, 3), np.uint8), wide, canonical_camera([wide], 256, 192))
    assert 0.8 < seen.mean() < 1.0  # it lacks some above and below, and lost some at the sides
    assert not seen[0].any()


def test_what_an_image_does_not_show_is_filled_and_said():
    camera = Camera("SIMPLE_PINHOLE", 640, 480, (525.0, 320.0, 240.0))
    white = np.full((480, 640, 3), 255, np.uint8)
    target = canonical_camera([camera], 128, 96)
    pixels, seen = warp(white, camera, target, TURN)
    assert 0.6 < seen.mean() < 0.9
    assert (pixels[seen] == 255).all()
    assert (pixels[~seen] == FILL).all()
    assert (warp(white, camera, target, TURN, fill=None)[0] == 255).all()


def test_an_image_that_was_shrunk_before_gives_the_same_result():
    camera = CAMERAS[2]
    whole = photo(camera, finer=1)
    target = canonical_camera([camera], 128, 96)
    small = shrunk(whole, camera, target)
    assert small.shape[1] < 200
    first, seen = warp(whole, camera, target, TURN)
    second, seen_again = warp(small, camera, target, TURN)
    assert np.array_equal(first, second)
    assert np.array_equal(seen, seen_again)


@given(
    yaw=st.floats(-180, 180),
    pitch=st.floats(-180, 180),
    model=st.integers(0, len(CAMERAS) - 1),
)
def test_no_rotation_shows_what_is_beside_or_behind_the_camera(yaw, pitch, model):
    camera = CAMERAS[model]
    target = canonical_camera([camera], 64, 48)
    turn = Rotation.from_euler("yx", [yaw, pitch], degrees=True).as_matrix()
    x, y, seen = source_pixels(camera, target, turn)
    assert np.isfinite(x[seen]).all()
    assert np.isfinite(y[seen]).all()
    if seen.any():
        columns = np.stack([x[seen], y[seen]], axis=1).astype(float)
        plane = camera.cam_from_img(columns)
        rays = np.column_stack([plane, np.ones(len(plane))]) @ turn.T
        assert (rays[:, 2] > 0).all()


def test_images_and_cameras_that_do_not_belong_together_are_refused():
    camera = CAMERAS[0]
    target = canonical_camera([camera], 128, 96)
    with pytest.raises(GeometryError, match="180 x 240 pixels, whose camera has 240 x 180"):
        warp(np.zeros((240, 180, 3), np.uint8), camera, target)
    with pytest.raises(GeometryError, match="undistorted cameras only, got a OPENCV"):
        warp(np.zeros((180, 240, 3), np.uint8), camera, CAMERAS[2])
    with pytest.raises(GeometryError, match="EQUIRECTANGULAR"):
        warp(
            np.zeros((480, 640, 3), np.uint8),
            Camera("EQUIRECTANGULAR", 640, 480, (640.0, 480.0)),
            target,
        )
    with pytest.raises(GeometryError, match="no cameras"):
        canonical_camera([], 128, 96)


@pytest.mark.parametrize(("width", "height", "focal"), [(640, 480, 528.0), (1920, 1080, 1400.0)])
def test_images_shrink_by_whole_numbers_where_one_is_near(width, height, focal):
    target = Camera("PINHOLE", 256, 192, (209.0, 209.0, 128.0, 96.0))
    camera = Camera("SIMPLE_PINHOLE", width, height, (focal, width / 2, height / 2))
    small = shrunk(np.zeros((height, width, 3), np.uint8), camera, target)
    assert width % small.shape[1] == height % small.shape[0] == 0
    # Once: what was shrunk is not shrunk again.
    assert shrunk(small, camera, target) is small
    assert 1.1 < focal * small.shape[1] / width / 209.0 < 1.4


def test_a_photo_of_the_same_camera_is_brought_there_as_the_first_one_was():
    camera, target = CAMERAS[3], Camera("PINHOLE", 96, 72, (60.0, 60.0, 48.0, 36.0))
    first = warp(photo(camera), camera, target)
    upside_down = warp(photo(camera)[::-1, ::-1], camera, target)
    again = warp(photo(camera), camera, target)
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(first[0], upside_down[0])
