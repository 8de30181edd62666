"""What a finished map may keep, on simulated images of which everything is known."""

import numpy as np
import pycolmap
import pytest
from scipy.spatial.transform import Rotation

from relocalize import Camera, Rigid3
from relocalize.mapping.pruning import Pruned, refine_and_prune, unpose_without_lens
from relocalize.mapping.reconstruction import alarms_of
from relocalize.place import MapModel, PosedImage
from relocalize.place.model import Points

# Focal length, principal point, two radial terms; of the wide lens the points fill the middle.
LONG = (2600.0, 505.0, 390.0, -0.5, 6.0)
WIDE = (900.0, 505.0, 390.0, -0.08, 0.06)


def simulated(lens: tuple[float, ...], points: int, frames: int) -> pycolmap.Reconstruction:
    """Images by a camera of two radial terms, held for one of one, with noise of half a pixel."""
    pycolmap.set_random_seed(0)
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs = 1
    options.num_frames_per_rig = frames
    options.num_points3D = points
    options.camera_model_id = pycolmap.CameraModelId.RADIAL
    options.camera_params = list(lens)
    model = pycolmap.synthesize_dataset(options)
    noise = pycolmap.SyntheticNoiseOptions()
    noise.point2D_stddev = 0.5
    pycolmap.synthesize_noise(noise, model)
    for camera in model.cameras.values():
        camera.model = pycolmap.CameraModelId.SIMPLE_RADIAL
        camera.params = [lens[0], 512.0, 384.0, lens[3]]
    return model


def test_lens_parameters_that_images_determine_are_estimated():
    model = simulated(LONG, points=800, frames=20)
    assert refine_and_prune(model).loose == {}
    (camera,) = model.cameras.values()
    assert camera.model.name == "RADIAL"
    assert camera.params == pytest.approx(LONG, rel=0.05)
    assert np.abs(camera.params[:3] - LONG[:3]).max() < 3


def test_lens_parameters_that_images_leave_open_stay():
    model = simulated(WIDE, points=25, frames=3)
    refine_and_prune(model)
    (camera,) = model.cameras.values()
    assert camera.model.name == "SIMPLE_RADIAL"
    assert tuple(camera.params[1:3]) == (512, 384)


def test_images_whose_camera_is_no_lens_lose_their_pose():
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs, options.num_frames_per_rig, options.num_points3D = 4, 1, 60
    model = pycolmap.synthesize_dataset(options)
    lost = model.images[2]
    model.cameras[lost.camera_id].focal_length = -309.0
    reasons = unpose_without_lens(model)
    assert list(reasons) == [lost.name]
    assert "focal length" in reasons[lost.name]
    assert not any("focal" in alarm for alarm in alarms_of(model, [], ordered=False))
    assert set(MapModel.from_colmap(model).images) == {
        image.name for image in model.images.values() if image.image_id != lost.image_id
    }


def side_by_side(counts: list[int]) -> pycolmap.Reconstruction:
    """Photos a step apart by a camera each, that see so many points, with noise of half a pixel."""
    rng = np.random.default_rng(0)
    positions = rng.uniform((-3, -2, 9), (3, 2, 11), (max(counts), 3))
    positions[:40] = rng.uniform((-0.8, -0.8, 10), (0.8, 0.8, 10.1), (40, 3))
    lengths = (np.arange(max(counts)) < np.array(counts)[:, None]).sum(axis=0)
    images = {}
    for number, count in enumerate(counts):
        turn = Rotation.from_rotvec([0, 0.02 * number, 0]).as_matrix()
        pose = Rigid3(turn, np.array([0.6 * number, 0, 0])).inverse()
        camera = Camera.from_focal(1000, 800, 1200.0 + 10 * number)
        pixels = camera.img_from_cam(pose @ positions[:count])
        pixels += rng.normal(0, 0.5, pixels.shape)
        name = f"{number}.jpg"
        images[name] = PosedImage(
            name, camera, number + 1, pose, pixels.astype(np.float32), np.arange(count)
        )
    ids, colors = np.arange(1, len(positions) + 1), np.zeros((len(positions), 3), np.uint8)
    points = Points(ids, positions, colors, np.full(len(positions), 0.5), lengths)
    return MapModel(images, points).to_colmap()


def test_a_map_whose_lenses_nothing_determines_has_an_alarm():
    """Three photos of three people, by few points: any lens explains them."""
    model = side_by_side([60, 60, 60])
    (alarm,) = refine_and_prune(model).alarms
    assert "focal length of 3 images" in alarm
    assert model.num_reg_images() == 3
    assert refine_and_prune(side_by_side([1000] * 8)) == Pruned({})


def test_an_image_whose_lens_the_others_leave_open_loses_its_pose():
    model = side_by_side([1000, 1000, 1000, 40, 1000, 1000, 1000, 1000])
    pruned = refine_and_prune(model)
    assert pruned.alarms == ()
    assert list(pruned.loose) == ["3.jpg"]
    assert "focal length" in pruned.loose["3.jpg"]
    assert "3.jpg" not in MapModel.from_colmap(model).images


@pytest.mark.parametrize(("images", "alarms"), [(1, 0), (3, 1)])
def test_one_photo_may_be_zoomed_further_than_a_camera_of_many(images, alarms):
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs = 3 // images
    options.num_frames_per_rig = images
    options.num_points3D = 50
    options.camera_model_id = pycolmap.CameraModelId.SIMPLE_RADIAL
    options.camera_params = [5.0 * 1024, 512.0, 384.0, 0.0]
    model = pycolmap.synthesize_dataset(options)
    found = alarms_of(model, sorted(i.name for i in model.images.values()), ordered=False)
    assert len([one for one in found if "implausible" in one]) == alarms
