"""Cameras: projection and its inverse, resizing, pixel centres, refusals."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relocalize import Camera
from relocalize.errors import GeometryError
from relocalize.geometry.cameras import DEFAULT_FOCAL_FACTOR, Knowledge

WIDTH, HEIGHT = 640, 480
# Distortion about as strong as of a phone's wide camera, in each model's own parameters.
PERSPECTIVE = {
    "SIMPLE_PINHOLE": (),
    "PINHOLE": (),
    "SIMPLE_RADIAL": (-0.08,),
    "RADIAL": (-0.08, 0.02),
    "OPENCV": (-0.08, 0.02, 0.001, -0.0015),
    "FULL_OPENCV": (-0.08, 0.02, 0.001, -0.0015, 0.003, 0.01, -0.005, 0.001),
    "SIMPLE_RADIAL_FISHEYE": (0.02,),
    "RADIAL_FISHEYE": (0.02, -0.005),
    "OPENCV_FISHEYE": (0.02, -0.005, 0.001, -0.0005),
}
TWO_FOCALS = {"PINHOLE", "OPENCV", "FULL_OPENCV", "OPENCV_FISHEYE"}


def camera_of(model: str, focal: float = 500.0) -> Camera:
    """A camera of this model with moderate distortion and its centre off the middle."""
    focals = (focal, focal * 1.02) if model in TWO_FOCALS else (focal,)
    return Camera(model, WIDTH, HEIGHT, (*focals, 325.0, 236.0, *PERSPECTIVE[model]))


pixels_in_image = st.tuples(st.floats(0, WIDTH), st.floats(0, HEIGHT))


@pytest.mark.parametrize("model", PERSPECTIVE)
@settings(max_examples=25, deadline=None)
@given(pixel=pixels_in_image, depth=st.floats(0.1, 50), focal=st.floats(400, 900))
def test_a_pixel_goes_out_to_a_point_and_back(
    model: str, pixel: tuple[float, float], depth: float, focal: float
) -> None:
    camera = camera_of(model, focal)
    x, y = camera.cam_from_img(pixel)[0]
    back = camera.img_from_cam([x * depth, y * depth, depth])
    np.testing.assert_allclose(back[0], pixel, atol=1e-3)


@pytest.mark.parametrize("model", PERSPECTIVE)
@settings(max_examples=25, deadline=None)
@given(pixel=pixels_in_image, factor=st.sampled_from([0.25, 0.5, 2.0, 3.0]))
def test_a_resized_camera_sees_a_point_at_the_scaled_pixel(
    model: str, pixel: tuple[float, float], factor: float
) -> None:
    camera = camera_of(model)
    point = np.append(camera.cam_from_img(pixel)[0], 1.0)
    small = camera.resized(round(WIDTH * factor), round(HEIGHT * factor))
    assert (small.width, small.height) == (WIDTH * factor, HEIGHT * factor)
    np.testing.assert_allclose(
        small.img_from_cam(point)[0], factor * camera.img_from_cam(point)[0], atol=1e-6
    )


def test_resizing_with_another_aspect_keeps_a_two_focal_camera_exact() -> None:
    camera = camera_of("OPENCV")
    squeezed = camera.resized(320, 480)
    point = [0.2, -0.1, 1.0]
    expected = camera.img_from_cam(point)[0] * [0.5, 1.0]
    np.testing.assert_allclose(squeezed.img_from_cam(point)[0], expected, atol=1e-6)


def test_axes_are_x_right_y_down_z_forward_and_the_first_pixels_centre_is_half() -> None:
    camera = Camera("PINHOLE", 4, 2, (1.0, 1.0, 2.0, 1.0))
    np.testing.assert_allclose(camera.img_from_cam([0, 0, 1])[0], [2, 1])
    assert camera.img_from_cam([0.5, 0, 1])[0, 0] > 2
    assert camera.img_from_cam([0, 0.5, 1])[0, 1] > 1
    # The ray through the centre of the top-left pixel.
    np.testing.assert_allclose(camera.cam_from_img([0.5, 0.5])[0], [-1.5, -0.5])
    assert np.isnan(camera.img_from_cam([0, 0, -1])).all()


def test_a_focal_length_may_be_unknown_and_says_so() -> None:
    guessed = Camera.from_focal(1000, 500)
    assert guessed.focal_px == pytest.approx(DEFAULT_FOCAL_FACTOR * 1000)
    assert guessed.known == "unknown"
    np.testing.assert_allclose(guessed.principal_point, [500, 250])
    known = Camera.from_focal(1000, 500, 800.0)
    assert known.known == "approximate"
    assert known.focal_px == pytest.approx(800)
    assert guessed.resized(500, 250).known == "unknown"


@pytest.mark.parametrize("model", PERSPECTIVE)
@pytest.mark.parametrize("known", ["approximate", "unknown"])
def test_pycolmaps_camera_and_back_is_the_same_camera(model: str, known: Knowledge) -> None:
    camera = replace(camera_of(model), known=known)
    assert Camera.from_colmap(camera.to_colmap(7)) == camera
    assert Camera.from_colmap(camera.to_colmap(7), known="exact") == replace(camera, known="exact")
    assert camera.to_colmap(7).camera_id == 7


def test_the_calibration_matrix_leaves_distortion_out() -> None:
    camera = camera_of("OPENCV")
    np.testing.assert_allclose(camera.calibration_matrix, [[500, 0, 325], [0, 510, 236], [0, 0, 1]])


@pytest.mark.parametrize(
    ("model", "width", "height", "params", "said"),
    [
        ("PINOLE", 640, 480, (500, 320, 240), "unknown camera model 'PINOLE'"),
        ("SIMPLE_PINHOLE", 0, 480, (500, 320, 240), "0 x 480"),
        ("SIMPLE_PINHOLE", 640, -1, (500, 320, 240), "640 x -1"),
        ("SIMPLE_PINHOLE", 640, 480, (500, 320), "3 finite parameters"),
        ("SIMPLE_PINHOLE", 640, 480, (np.nan, 320, 240), "finite"),
        ("SIMPLE_PINHOLE", 640, 480, (0, 320, 240), "focal length"),
        ("OPENCV", 640, 480, (500, -500, 320, 240, 0, 0, 0, 0), "focal length"),
        ("INVALID", 640, 480, (), "unknown camera model"),
    ],
)
def test_an_impossible_camera_is_refused_with_what_was_received(
    model: str, width: int, height: int, params: tuple[float, ...], said: str
) -> None:
    with pytest.raises(GeometryError, match=said):
        Camera(model, width, height, params)


@pytest.mark.parametrize("focal", [0.0, -5.0])
def test_a_focal_length_of_nothing_is_refused(focal: float) -> None:
    with pytest.raises(GeometryError, match="focal length"):
        Camera.from_focal(640, 480, focal)
