"""A Place of numbers alone, for tests of what needs poses and points and no images."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from relocalize import Camera, MapModel, Place, Rigid3, Similarity3
from relocalize.place import Capture, CapturedImage, Frame, Points, PosedImage, atomic
from relocalize.place.model import NO_POINT

CAMERA = Camera("SIMPLE_PINHOLE", 640, 480, (500.0, 320.0, 240.0))


def poses_of_a_walk(count: int = 24, *, straight: bool = False) -> list[Rigid3]:
    """Level cameras in a room with z up, in metres: on an arc, or on a straight line."""
    poses = []
    for i, angle in enumerate(np.linspace(0, 2.5, count)):
        centre = [0.3 * i, 0.0, 1.5] if straight else [2 * np.cos(angle), 2 * np.sin(angle), 1.5]
        ahead = np.array([np.cos(0.7 * angle), np.sin(0.7 * angle), 0.1 * np.sin(3 * angle)])
        ahead /= np.linalg.norm(ahead)
        right = np.cross(ahead, [0, 0, 1])
        right /= np.linalg.norm(right)
        rotation = np.stack([right, np.cross(ahead, right), ahead], axis=1)
        poses.append(Rigid3(rotation, np.array(centre)))
    return poses


def make_numbers_place(
    root: Path,
    poses: Sequence[Rigid3],
    *,
    frame: Frame = Frame(),
    captures: Sequence[str] = ("walk",),
    points: int = 60,
) -> Place:
    """A Place whose images ``<capture>/<number>.jpg`` have these poses, and that sees points."""
    place = Place.create(root)
    positions = np.random.default_rng(0).uniform([-6, -6, 0], [6, 6, 3], (points, 3))
    names: dict[str, list[str]] = {capture: [] for capture in captures}
    images = {}
    for i, pose in enumerate(poses):
        capture = captures[i * len(captures) // len(poses)]
        name = f"{capture}/{i:04d}.jpg"
        names[capture].append(name)
        in_cam = pose.inverse() @ positions
        pixels = CAMERA.img_from_cam(in_cam)
        inside = (in_cam[:, 2] > 0.1) & (pixels > 0).all(axis=1) & (pixels < [640, 480]).all(axis=1)
        rows = np.flatnonzero(inside)
        images[name] = PosedImage(
            name, CAMERA, 1, pose.inverse(), pixels[rows].astype(np.float32), rows.astype(np.int64)
        )
    lengths = np.array(
        [sum(row in image.point_rows for image in images.values()) for row in range(points)]
    )
    seen = np.flatnonzero(lengths >= 2)
    new_row = np.full(points, NO_POINT)
    new_row[seen] = np.arange(len(seen))
    images = {
        name: PosedImage(
            name, CAMERA, 1, image.cam_from_world, image.keypoints, new_row[image.point_rows]
        )
        for name, image in images.items()
    }
    count = len(seen)
    model = MapModel(
        images,
        Points(
            ids=np.arange(1, count + 1),
            positions=positions[seen],
            colors=np.full((count, 3), 120, np.uint8),
            reprojection_errors=np.zeros(count),
            track_lengths=lengths[seen],
        ),
    )
    with place.lock():
        for capture, listed in names.items():
            rows = [CapturedImage(name, time_s=0.1 * i) for i, name in enumerate(listed)]
            place.write_capture(Capture(capture, "video", "walk.mp4", (CAMERA,), tuple(rows)))
        with atomic.new_folder(place.map_dir) as folder:
            model.write(folder)
        place.record_poses(poses_from="structure from motion (test)", frame=frame)
    return place


def similarity(seed: int, scale: float = 3.7) -> Similarity3:
    """Some transform to another frame."""
    rng = np.random.default_rng(seed)
    return Similarity3(scale, Rotation.random(rng=rng).as_matrix(), rng.uniform(-9, 9, 3))


def noisy(poses: Sequence[Rigid3], metres: float, degrees: float, seed: int = 0) -> list[Rigid3]:
    """The poses with noise of so much per axis."""
    rng = np.random.default_rng(seed)
    return [
        Rigid3(
            Rotation.from_rotvec(np.radians(rng.normal(0, degrees, 3))).as_matrix() @ pose.rotation,
            pose.translation + rng.normal(0, metres, 3),
        )
        for pose in poses
    ]


def write_pose_list(path: Path, poses: dict[str, Rigid3]) -> Path:
    """``name qw qx qy qz tx ty tz focal`` of cam_from_world."""
    rows = []
    for name, pose in poses.items():
        inverse = pose.inverse()
        values = [*inverse.quat_wxyz, *inverse.translation, CAMERA.focal_px]
        rows.append(" ".join([name, *(f"{value:.12g}" for value in values)]))
    path.write_text("\n".join(rows) + "\n")
    return path
