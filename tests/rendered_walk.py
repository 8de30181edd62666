"""A rendered walk with exact poses, small enough to train a regressor on in seconds."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from localizers_place import looking_at, render
from relocalize.formats import ImportSettings, import_registration
from relocalize.geometry import Camera
from relocalize.place import Place

CAMERA = Camera("SIMPLE_PINHOLE", 160, 120, (130.0, 80.0, 60.0))
SPLIT = "walk"
_FRAMES = 90
_TEST = (*range(24, 29), *range(60, 65))  # two blocks of the walk


def walk_poses():
    """world_from_cam of the frames by name, in the order of the walk."""
    poses = {}
    for i, share in enumerate(np.linspace(0, 1, _FRAMES)):
        a = 2 * np.pi * share
        centre = (0.9 * np.cos(a) - 0.4, 0.9 * np.sin(a) - 0.4, 0.1 * np.sin(3 * a))
        poses[f"{i:03d}.png"] = looking_at(centre, (3.6, 3.6 + 0.5 * np.sin(a), -0.3))
    return poses


def make_walk_place(folder: Path) -> Place:
    """A Place of the walk with its exact poses and no points."""
    source = folder / "source"
    source.mkdir(parents=True)
    lines = []
    poses = walk_poses()
    for name, pose in poses.items():
        cv2.imwrite(str(source / name), render(pose, CAMERA)[:, :, ::-1])
        cam_from_world = pose.inverse()
        values = [*cam_from_world.quat_wxyz, *cam_from_world.translation, CAMERA.focal_px]
        lines.append(" ".join([name, *(f"{value:.9f}" for value in values)]))
    (folder / "poses.txt").write_text("\n".join(lines) + "\n")
    test = [name for i, name in enumerate(poses) if i in _TEST]
    near = {i + step for i in _TEST for step in (-1, 0, 1)}
    train = [name for i, name in enumerate(poses) if i not in near]
    (folder / "train.txt").write_text("\n".join(train) + "\n")
    (folder / "test.txt").write_text("\n".join(test) + "\n")
    place = Place.create(folder / "place")
    import_registration(
        folder / "poses.txt",
        place,
        images=source,
        train=folder / "train.txt",
        test=folder / "test.txt",
        settings=ImportSettings(capture="walk", split=SPLIT),
    )
    return place
