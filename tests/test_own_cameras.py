"""Photos of one size that a map holds for those of one camera."""

from collections.abc import Sequence

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from relocalize import Camera, Rigid3
from relocalize.mapping import own_cameras
from relocalize.mapping.own_cameras import with_own_cameras, zoomed
from relocalize.mapping.pruning import refine_and_prune
from relocalize.place import MapModel, PosedImage
from relocalize.place.bundle_adjustment import refine_map
from relocalize.place.model import Points


def taken_with(focal_lengths: Sequence[float]) -> MapModel:
    """Photos round a heap of points, and the map of them by one camera for all."""
    rng = np.random.default_rng(0)
    positions = rng.uniform(-1.5, 1.5, (150, 3))
    images = {}
    for number, focal in enumerate(focal_lengths):
        turn = Rotation.from_euler("yx", [25 * number, 5 * (-1) ** number], degrees=True)
        back = turn.apply([0, 0, -8])
        pose = Rigid3(turn.as_matrix(), back).inverse()
        pixels = Camera.from_focal(1000, 800, focal).img_from_cam(pose @ positions)
        pixels += rng.normal(0, 0.3, pixels.shape)
        name, shared = f"{number}.jpg", Camera.from_focal(1000, 800, 1100.0)
        images[name] = PosedImage(name, shared, 1, pose, pixels.astype(np.float32), np.arange(150))
    ids, colors = np.arange(1, 151), np.zeros((150, 3), np.uint8)
    points = Points(ids, positions, colors, np.full(150, 0.3), np.full(150, len(images)))
    model = MapModel(images, points).to_colmap()
    refine_map(model)
    return MapModel.from_colmap(model)


def test_photos_by_several_cameras_get_a_camera_each():
    true = [900.0, 1300.0, 1000.0, 1600.0, 1100.0, 1000.0]
    model = taken_with(true)
    assert len(model.cameras) == 1
    split, difference = with_own_cameras(model, list(model.images))
    assert difference > 0.3
    assert len(split.cameras) == len(true)
    adjusted = split.to_colmap()
    refine_and_prune(adjusted)
    images = MapModel.from_colmap(adjusted).images
    found = [images[name].camera.focal_px for name in sorted(images)]
    assert found == pytest.approx(true, rel=0.03)


def test_photos_by_one_camera_keep_it_and_so_do_those_that_say_what_took_them():
    model = taken_with([1100.0] * 6)
    assert with_own_cameras(model, list(model.images)) == (model, 0.0)
    several = taken_with([900.0, 1300.0, 1000.0, 1600.0])
    assert with_own_cameras(several, []) == (several, 0.0)


def test_a_video_whose_camera_zoomed_says_so(monkeypatch):
    model = taken_with(np.geomspace(900, 1300, 10).tolist())
    (alarm,) = zoomed(model, list(model.images))
    assert "the camera zoomed" in alarm
    assert "0.jpg" in alarm
    assert zoomed(model, list(model.images)[:5]) == ()  # too few to say
    monkeypatch.setattr(own_cameras, "lens_sigmas", lambda *_, **__: ({}, 0.0))
    assert zoomed(model, list(model.images)) == ()  # too many to ask


def test_a_video_of_one_focal_length_or_of_one_odd_frame_is_none_with_a_zoom():
    steady = taken_with([1100.0] * 10)
    assert zoomed(steady, list(steady.images)) == ()
    odd = taken_with([1100.0] * 15 + [1500.0])
    assert zoomed(odd, list(odd.images)) == ()
