"""A small set of posed images with exact truth, for the writers of foreign formats."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation

from relocalize.formats import Registration
from relocalize.formats.posed_images import PosedImages
from relocalize.geometry import Camera, Rigid3
from relocalize.place import MapModel, Points, PosedImage

CAMERAS = {
    "SIMPLE_PINHOLE": (61.5, 31.25, 24.75),
    "PINHOLE": (61.5, 60.25, 31.25, 24.75),
    "SIMPLE_RADIAL": (61.5, 31.25, 24.75, -0.031),
    "RADIAL": (61.5, 31.25, 24.75, -0.031, 0.0071),
    "OPENCV": (61.5, 60.25, 31.25, 24.75, -0.031, 0.0071, 0.0003, -0.0002),
    "OPENCV_FISHEYE": (61.5, 60.25, 31.25, 24.75, -0.031, 0.0071, 0.0003, -0.0002),
    "FULL_OPENCV": (
        61.5,
        60.25,
        31.25,
        24.75,
        -0.031,
        0.007,
        0.0003,
        -0.0002,
        0.001,
        0.0,
        0.0,
        0.0,
    ),
}


def posed_images(folder: Path, models: tuple[str, ...] = ("OPENCV",)) -> PosedImages:
    """Four images of 64 x 48 pixels that see 20 points, with cameras of ``models`` in turn."""
    rng = np.random.default_rng(7)
    positions = rng.uniform([-1, -1, 5], [1, 1, 7], (20, 3))
    images, files = {}, {}
    for number in range(4):
        name = f"walk{number // 2}/frame-{number:03d}.png"
        model = models[number % len(models)]
        camera = Camera(model, 64, 48, CAMERAS[model])
        turn = Rotation.from_rotvec(rng.normal(0, 0.05, 3)).as_matrix()
        pose = Rigid3(turn, rng.normal(0, 0.2, 3))
        seen = np.flatnonzero(rng.random(20) < 0.8)
        images[name] = PosedImage(
            name=name,
            camera=camera,
            camera_id=number % len(models) + 1,
            cam_from_world=pose,
            keypoints=camera.img_from_cam(pose @ positions[seen]).astype(np.float32),
            point_rows=seen.astype(np.int64),
        )
        files[name] = folder / "images" / name
        files[name].parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 48), (number, 9, 9)).save(files[name])
    counts = np.bincount(np.concatenate([i.point_rows for i in images.values()]), minlength=20)
    points = Points(
        ids=np.arange(1, 21),
        positions=positions,
        colors=rng.integers(0, 255, (20, 3)).astype(np.uint8),
        reprojection_errors=np.full(20, 0.5),
        track_lengths=counts.astype(np.int64),
    )
    names = list(images)
    times = {name: 100 + 0.5 * row for row, name in enumerate(names)}
    return PosedImages(
        MapModel(images, points),
        files,
        "metre",
        train=(names[0], names[2]),
        test=(names[1], names[3]),
        times=times,
    )


def assert_same(
    read: Registration, posed: PosedImages, name_of: Mapping[str, str] | None = None
) -> None:
    """Poses equal to 1e-9, and cameras that project as the written ones; names by ``name_of``."""
    names = {name: (name_of or {}).get(name, name) for name in posed.model.images}
    assert set(read.poses) == set(names.values()) and not read.problems
    for name, image in posed.model.images.items():
        pose, _ = read.poses[names[name]]
        assert np.abs(pose.matrix - image.cam_from_world.matrix).max() < 1e-9
        camera = read.camera_of(names[name], image.camera.width, image.camera.height)
        assert (camera.width, camera.height) == (image.camera.width, image.camera.height)
        rays = np.array([[0, 0, 1], [0.3, -0.2, 1], [-0.4, 0.3, 1.0]])
        assert np.abs(camera.img_from_cam(rays) - image.camera.img_from_cam(rays)).max() < 1e-9
