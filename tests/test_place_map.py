"""The map on disk: a COLMAP model, read into arrays."""

from pathlib import Path

import numpy as np
import pycolmap
import pytest

from relocalize import Camera, MapModel, Place, Rigid3
from relocalize.errors import PlaceError
from relocalize.place.model import NO_POINT

CAMERA = Camera("SIMPLE_RADIAL", 640, 480, (500.0, 320.0, 240.0, 0.01))
WORLD_FROM_CAMS = {
    "walk1/b.jpg": Rigid3.from_quat_wxyz([1, 0, 0.1, 0], [0.5, 0, 0]),
    "walk1/a.jpg": Rigid3.from_quat_wxyz([1, 0, 0, 0], [0, 0, 0]),
    "walk1/posed-only.jpg": Rigid3.from_quat_wxyz([1, 0.1, 0, 0], [0.2, 0.1, 0]),
}
POINTS = np.random.default_rng(0).uniform([-1, -1, 4], [1, 1, 6], (20, 3))
UNSEEN = np.array([3.5, 4.5])  # a keypoint, first in each image, that observes no point


def write_model(folder: Path) -> None:
    """A model of two images that see all points, and one that has only a pose."""
    model = pycolmap.Reconstruction()
    model.add_camera_with_trivial_rig(CAMERA.to_colmap(1))
    for number, (name, world_from_cam) in enumerate(WORLD_FROM_CAMS.items(), start=1):
        cam_from_world = world_from_cam.inverse()
        seen = number <= 2
        keypoints = np.vstack([UNSEEN[None], CAMERA.img_from_cam(cam_from_world @ POINTS)])
        model.add_image_with_trivial_frame(
            pycolmap.Image(
                name=name,
                keypoints=keypoints if seen else np.zeros((0, 2)),
                camera_id=1,
                image_id=number,
            ),
            pycolmap.Rigid3d(
                pycolmap.Rotation3d(cam_from_world.rotation), cam_from_world.translation
            ),
        )
    for row, position in enumerate(POINTS):
        track = pycolmap.Track(
            [pycolmap.TrackElement(1, row + 1), pycolmap.TrackElement(2, row + 1)]
        )
        model.add_point3D(position, track, np.array([row, 2, 3], dtype=np.uint8))
    folder.mkdir(parents=True, exist_ok=True)
    model.write_binary(str(folder))


def test_a_model_is_read_with_poses_observations_and_points(tmp_path: Path) -> None:
    write_model(tmp_path / "map")
    model = MapModel.read(tmp_path / "map")
    assert list(model.images) == ["walk1/a.jpg", "walk1/b.jpg", "walk1/posed-only.jpg"]
    assert model.cameras == {1: CAMERA}
    for name, image in model.images.items():
        np.testing.assert_allclose(
            image.world_from_cam.matrix, WORLD_FROM_CAMS[name].matrix, atol=1e-12
        )
    order = np.argsort(model.points.colors[:, 0])
    np.testing.assert_allclose(model.points.positions[order], POINTS, atol=1e-12)
    np.testing.assert_array_equal(model.points.track_lengths, 2)
    assert len(model.points) == 20


def test_an_observation_is_where_its_point_projects(tmp_path: Path) -> None:
    write_model(tmp_path / "map")
    model = MapModel.read(tmp_path / "map")
    for name in ("walk1/a.jpg", "walk1/b.jpg"):
        image = model.images[name]
        assert image.point_rows[0] == NO_POINT
        np.testing.assert_allclose(image.keypoints[0], UNSEEN)
        points = model.points.positions[image.point_rows[1:]]
        projected = image.camera.img_from_cam(image.cam_from_world @ points)
        np.testing.assert_allclose(image.keypoints[1:], projected, atol=1e-3)
    posed_only = model.images["walk1/posed-only.jpg"]
    assert posed_only.keypoints.shape == (0, 2)
    assert posed_only.point_rows.shape == (0,)


def test_a_place_reads_its_map_again_when_it_has_changed(tmp_path: Path) -> None:
    place = Place.create(tmp_path / "kitchen")
    write_model(place.map_dir)
    assert place.has_map
    first = place.map
    assert place.map is first
    assert {image.name for image in place.posed_images()} == set(WORLD_FROM_CAMS)
    assert list(place.cameras) == [1]
    assert len(place.points) == 20
    write_model(place.map_dir)
    assert place.map is not first


def test_the_digest_of_a_map_changes_with_any_of_its_files(tmp_path: Path) -> None:
    place = Place.create(tmp_path / "kitchen")
    with pytest.raises(PlaceError, match="has no map"):
        place.map_digest()
    write_model(place.map_dir)
    digests = [place.map_digest()]
    assert place.map_digest() == digests[0]
    for name in ("cameras.bin", "images.bin", "points3D.bin", "features.json"):
        with (place.map_dir / name).open("ab") as file:
            file.write(b" ")
        digests.append(place.map_digest())
    assert len(set(digests)) == 5


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PlaceError, match="no COLMAP model"):
        MapModel.read(tmp_path)


BINARY = ["cameras.bin", "images.bin", "points3D.bin", "rigs.bin", "frames.bin"]


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("left", [0, 4, 8, 20, -1])
def test_a_truncated_model_is_an_error_of_ours(tmp_path: Path, name: str, left: int) -> None:
    write_model(tmp_path / "map")
    path = tmp_path / "map" / name
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(PlaceError, match=f"{name} is damaged: it ends within"):
        MapModel.read(tmp_path / "map")


@pytest.mark.parametrize("name", BINARY)
def test_bytes_after_the_last_row_are_an_error_of_ours(tmp_path: Path, name: str) -> None:
    write_model(tmp_path / "map")
    path = tmp_path / "map" / name
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(PlaceError, match=f"{name} is damaged: 1 bytes follow"):
        MapModel.read(tmp_path / "map")


@pytest.mark.parametrize("name", BINARY)
def test_a_count_that_nothing_could_hold_does_not_keep_the_reader_busy(
    tmp_path: Path, name: str
) -> None:
    write_model(tmp_path / "map")
    path = tmp_path / "map" / name
    path.write_bytes(b"\xff" * 8 + path.read_bytes()[8:])
    with pytest.raises(PlaceError, match=f"{name} is damaged"):
        MapModel.read(tmp_path / "map")


@pytest.mark.parametrize("name", ["cameras.bin", "images.bin"])
def test_a_model_with_a_file_missing_is_an_error_of_ours(tmp_path: Path, name: str) -> None:
    write_model(tmp_path / "map")
    (tmp_path / "map" / name).unlink()
    with pytest.raises(PlaceError):
        MapModel.read(tmp_path / "map")
