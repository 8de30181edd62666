"""A rendered walk with exact poses, small enough to train a regressor on in seconds."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from localization_place import import_rendered, looking_at
from relocalize.geometry import Camera
from relocalize.mapping import map_place
from relocalize.place import Place

CAMERA = Camera("SIMPLE_PINHOLE", 240, 180, (195.0, 120.0, 90.0))
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


def mapped_walk(folder: Path) -> None:
    poses = walk_poses()
    test = [name for i, name in enumerate(poses) if i in _TEST]
    near = {i + step for i in _TEST for step in (-1, 0, 1)}
    train = [name for i, name in enumerate(poses) if i not in near]
    place = import_rendered(folder, poses, train, test, CAMERA, capture="walk", split=SPLIT)
    map_place(place)


def copy_of_walk(made_once: Callable[..., Path], folder: Path) -> Place:
    """A Place of the walk with its exact poses, and points from its train frames.

    ``made_once`` is the fixture; the Place is in ``folder``, the caller's to change.
    """
    shutil.copytree(made_once(mapped_walk) / "place", folder / "place")
    return Place.open(folder / "place")
