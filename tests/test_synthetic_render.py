"""The renderer is exact: known patterns are found where geometry says, in fractions of a pixel."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from relocalize.geometry import Camera, Rigid3
from relocalize_synthetic.render import Renderer
from relocalize_synthetic.scene import Cell, Layer, Scene, Texture, rectangle
from relocalize_synthetic.walk import looking

ROOM = Cell(np.array([-5.0, -5.0, -5.0]), np.array([5.0, 5.0, 5.0]))
SIZE = 512  # texels per side of the wave board


def wave(u: np.ndarray, v: np.ndarray, waves: float) -> np.ndarray:
    """Grey level at (u, v) in [0, 1] x [0, 1]: a pattern without edges, known everywhere."""
    return 128 + 55 * np.sin(2 * np.pi * waves * u) + 55 * np.cos(2 * np.pi * waves * v)


def wave_board(side_m: float, distance: float, waves: float) -> Scene:
    """A board with waves facing -x, centred on the x axis."""
    u, v = np.meshgrid(*[(np.arange(SIZE) + 0.5) / SIZE] * 2)
    grey = np.rint(wave(u, v, waves)).astype(np.uint8)
    texture = Texture(np.repeat(grey[..., None], 3, axis=2))
    corner = [distance, side_m / 2, side_m / 2]
    board = rectangle(texture, corner, [0, -side_m, 0], [0, 0, -side_m], layer=Layer.SHELL)
    return Scene([board], [ROOM])


def displacements(image, camera: Camera, pose: Rigid3, side_m, distance, waves) -> np.ndarray:
    """By how many pixels [N, 2] the image is off the pattern that the truth predicts, per block.

    Prediction: intersect the ray of every pixel's centre with the board; then one step of
    least squares per block for shift, contrast and offset.
    """
    rows, columns = np.mgrid[0 : camera.height, 0 : camera.width] + 0.5

    def predicted(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        rays = camera.cam_from_img(np.stack([x.ravel(), y.ravel()], axis=1))
        world = np.hstack([rays, np.ones((len(rays), 1))]) @ pose.rotation  # R^T ray
        centre = pose.inverse().translation
        hit = centre + world * ((distance - centre[0]) / world[:, :1])
        u, v = 0.5 - hit[:, 1] / side_m, 0.5 - hit[:, 2] / side_m
        inside = (np.abs(u - 0.5) < 0.47) & (np.abs(v - 0.5) < 0.47)
        return np.where(inside, wave(u, v, waves), np.nan).reshape(x.shape)

    here = predicted(columns, rows)
    across = predicted(columns + 0.05, rows) - predicted(columns - 0.05, rows)
    down = predicted(columns, rows + 0.05) - predicted(columns, rows - 0.05)
    found = []
    for top in range(0, camera.height, 48):
        for left in range(0, camera.width, 48):
            block = np.s_[top : top + 48, left : left + 48]
            terms = [across[block] * 10, down[block] * 10, here[block], np.ones_like(here[block])]
            system = np.stack([term.ravel() for term in terms], axis=1)
            whole = np.isfinite(system).all(axis=1)
            if whole.sum() < 1000:
                continue
            seen = image[block][..., 1].ravel().astype(float)
            solution = np.linalg.lstsq(system[whole], seen[whole], rcond=None)[0]
            assert 0.75 < solution[2] < 1.02  # sampling may soften the pattern a little
            found.append(-solution[:2])
    return np.array(found)


@pytest.mark.parametrize("distance", [1.5, 3.0])
@pytest.mark.parametrize("yaw_deg, pitch_deg, roll_deg", [(0, 0, 0), (25, -8, 12), (-40, 6, -4)])
def test_the_pinhole_image_is_where_the_truth_projects_it(distance, yaw_deg, pitch_deg, roll_deg):
    camera = Camera("PINHOLE", 640, 480, (500.0, 505.0, 318.0, 243.0))
    yaw, pitch, roll = np.radians([yaw_deg, pitch_deg, roll_deg])
    ahead = np.array([np.cos(yaw), np.sin(yaw), np.tan(pitch)])
    pose = looking([distance, 0.0, 0.0] - distance * ahead, yaw, pitch, roll)
    image = Renderer(wave_board(1.6, distance, 9)).render(camera, pose)
    off = displacements(image, camera, pose, 1.6, distance, 9)
    assert len(off) > 15
    assert np.median(np.linalg.norm(off, axis=1)) < 0.01
    assert np.linalg.norm(off, axis=1).max() < 0.1  # blocks at the rim hold little of the pattern
    assert np.abs(off.mean(axis=0)).max() < 0.01


@pytest.mark.parametrize(
    "camera",
    [
        Camera("RADIAL", 800, 600, (585.0, 403.0, 297.5, -0.11, 0.025)),
        Camera("OPENCV", 640, 480, (480.0, 484.0, 322.0, 236.0, -0.2, 0.06, 0.001, -0.002)),
    ],
    ids=lambda camera: camera.model,
)
def test_the_distorted_image_is_where_the_truth_projects_it(camera):
    pose = looking([0.0, 0.1, -0.05], 0.05, 0.03, 0.04)
    renderer = Renderer(wave_board(3.2, 2.2, 13))
    image = renderer.render_through(renderer.lens(camera), pose)
    off = displacements(image, camera, pose, 3.2, 2.2, 13)
    assert len(off) > 60
    assert np.median(np.linalg.norm(off, axis=1)) < 0.01
    assert np.linalg.norm(off, axis=1).max() < 0.1  # blocks at the rim hold little of the pattern
    assert np.abs(off.mean(axis=0)).max() < 0.01
    # The check sees what it should: without the distortion it would fail by far.
    matrix = camera.calibration_matrix
    params = (matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2])
    straight = Camera("PINHOLE", camera.width, camera.height, params)
    centre = pose @ np.array([2.2, 1.2, 0.8])
    assert np.linalg.norm(straight.img_from_cam(centre) - camera.img_from_cam(centre)) > 3


def test_a_far_board_stays_where_it_is_through_the_texture_levels():
    # 512 texels become 107 pixels: two halvings.
    camera = Camera("SIMPLE_PINHOLE", 320, 240, (300.0, 160.0, 120.0))
    pose = looking([0.0, 0.0, 0.0], 0.02, 0.01, 0.1)
    image = Renderer(wave_board(1.6, 4.5, 5)).render(camera, pose)
    off = displacements(image, camera, pose, 1.6, 4.5, 5)
    assert len(off) >= 1
    assert np.linalg.norm(off, axis=1).max() < 0.03


def test_edges_cover_exactly_the_area_that_they_enclose():
    white = Texture(np.full((40, 40, 3), 250, np.uint8))
    board = rectangle(white, [2.0, 0.4, 0.3], [0, -0.8, 0], [0, 0, -0.6], layer=Layer.SHELL)
    camera = Camera("SIMPLE_PINHOLE", 320, 240, (300.0, 160.0, 120.0))
    renderer = Renderer(Scene([board], [ROOM]))
    for roll_deg in (0.0, 7.0, 31.0):
        pose = looking([0.0, 0.0, 0.0], 0.1, -0.05, np.radians(roll_deg))
        outline = camera.img_from_cam(pose @ board.corners).astype(np.float32)
        covered = renderer.render(camera, pose)[..., 0].sum() / 250.0
        excess = covered - cv2.contourArea(outline)
        assert abs(excess) / cv2.arcLength(outline, True) < 0.05  # mean shift of the edges, px


def test_a_surface_that_passes_beside_the_camera_is_clipped_not_mirrored():
    floor = Texture(np.full((64, 64, 3), 200, np.uint8))
    ground = rectangle(floor, [-5.0, 5.0, -1.5], [10, 0, 0], [0, -10, 0], layer=Layer.SHELL)
    camera = Camera("SIMPLE_PINHOLE", 160, 120, (120.0, 80.0, 60.0))
    image = Renderer(Scene([ground], [ROOM])).render(camera, looking([0, 0, 0], 0.3, 0.0, 0.0))
    horizon = 60 + 120 * 1.5 / 5.0  # at the far edge; nothing above it
    assert image[:60].max() == 0
    assert image[int(horizon) + 14 :].min() > 150


def test_near_bodies_hide_far_ones_and_back_sides_are_not_seen():
    red, green = (Texture(np.tile(np.uint8([[c]]), (8, 8, 1))) for c in ([250, 0, 0], [0, 250, 0]))
    near = rectangle(red, [2.0, 0.2, 0.2], [0, -0.4, 0], [0, 0, -0.4])
    far = rectangle(green, [3.0, 1.0, 1.0], [0, -2.0, 0], [0, 0, -2.0])
    camera = Camera("SIMPLE_PINHOLE", 100, 100, (100.0, 50.0, 50.0))
    image = Renderer(Scene([near, far], [ROOM])).render(camera, looking([0, 0, 0], 0.0))
    assert image[50, 50].tolist() == [250, 0, 0]
    assert image[50, 25].tolist() == [0, 250, 0]
    behind = Renderer(Scene([near, far], [ROOM])).render(camera, looking([4.5, 0, 0], np.pi))
    assert behind.max() == 0


def test_looking_is_the_documented_camera():
    pose = looking([1.0, 2.0, 1.5], 0.0)
    forward = pose @ np.array([2.0, 2.0, 1.5])
    assert np.allclose(forward, [0, 0, 1])
    assert np.allclose(pose @ np.array([1.0, 1.0, 1.5]), [1, 0, 0])  # -y is to the right
    assert np.allclose(pose @ np.array([1.0, 2.0, 0.5]), [0, 1, 0])  # down is down
    assert isinstance(pose, Rigid3)
