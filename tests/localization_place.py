"""A corner of a room with exactly known truth, rendered by ray casting, for localizers' tests."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from relocalize.geometry import Camera, Rigid3
from relocalize.mapping import map_place
from relocalize.place import Place
from relocalize.verbs.import_poses import import_poses

CAMERA = Camera.from_focal(480, 360, 400.0, model="SIMPLE_PINHOLE")
VISITOR = Camera("SIMPLE_RADIAL", 560, 420, (430.0, 280.0, 210.0, -0.06))
SPLIT = "given"

# Each plane: a corner, two edges (metres). Two walls and the floor of a room, z up.
_PLANES = (
    ((4.0, -3.0, -1.5), (0.0, 7.0, 0.0), (0.0, 0.0, 4.0)),
    ((-3.0, 4.0, -1.5), (7.0, 0.0, 0.0), (0.0, 0.0, 4.0)),
    ((-3.0, -3.0, -1.5), (7.0, 0.0, 0.0), (0.0, 7.0, 0.0)),
)
_TEXELS_PER_METRE = 150


def looking_at(centre, target, roll_deg=0.0) -> Rigid3:
    """world_from_cam of a camera at ``centre`` whose axis goes through ``target``, z up."""
    forward = np.subtract(target, centre) / np.linalg.norm(np.subtract(target, centre))
    right = np.cross(forward, [0, 0, 1])
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    roll = np.radians(roll_deg)
    x = np.cos(roll) * right + np.sin(roll) * down
    return Rigid3(np.stack([x, np.cross(forward, x), forward], axis=1), np.array(centre, float))


TRAIN_POSES = {
    f"train-{i:02d}.png": looking_at(
        (1.2 * np.cos(a) - 0.6, 1.2 * np.sin(a) - 0.6, 0.15 * (i % 3)), (4, 4, -0.3 + 0.1 * (i % 2))
    )
    for i, a in enumerate(np.linspace(-0.6, 2.2, 14))
}
TEST_POSES = {
    f"test-{i:02d}.png": looking_at((x, y, z), (4.0, 3.6, -0.2), roll)
    for i, (x, y, z, roll) in enumerate(
        [(0.2, -0.1, 0.1, 0), (-0.2, 0.3, 0.2, 6), (0.4, 0.2, 0.0, -4), (-0.4, -0.5, 0.3, 3)]
    )
}


@lru_cache(maxsize=4)
def _textures(seed: int):
    rng = np.random.default_rng(seed)
    textures = []
    for _, u, v in _PLANES:
        size = [int(np.linalg.norm(edge) * _TEXELS_PER_METRE) for edge in (u, v)]
        texture = np.zeros((size[1], size[0], 3), np.float32)
        for sigma in (3, 8, 24):
            noise = rng.standard_normal((size[1] // sigma + 2, size[0] // sigma + 2, 3))
            texture += cv2.resize(
                noise.astype(np.float32), (size[0], size[1]), interpolation=cv2.INTER_CUBIC
            )
        textures.append(np.clip(128 + 40 * texture, 0, 255).astype(np.uint8))
    return textures


@lru_cache(maxsize=4)
def _rays(camera: Camera):
    y, x = np.mgrid[: camera.height, : camera.width]
    plane = camera.cam_from_img(np.stack([x.ravel(), y.ravel()], axis=1) + 0.5)
    return np.concatenate([plane, np.ones((len(plane), 1))], axis=1)


def render(world_from_cam: Rigid3, camera: Camera = CAMERA, *, room: int | tuple = 0):
    """The image of room ``room`` from a pose, RGB [H, W, 3].

    Three rooms: one whose two walls and floor look like theirs.
    """
    rooms = (room,) * len(_PLANES) if isinstance(room, int) else room
    textures = [_textures(number)[plane] for plane, number in enumerate(rooms)]
    rays = _rays(camera) @ world_from_cam.rotation.T
    shape = (camera.height, camera.width)
    nearest = np.full(len(rays), np.inf)
    image = np.full((*shape, 3), 90, np.uint8)
    for plane, texture in zip(_PLANES, textures, strict=True):
        corner, u, v = np.array(plane)
        normal = np.cross(u, v)
        with np.errstate(divide="ignore", invalid="ignore"):
            distance = ((corner - world_from_cam.translation) @ normal) / (rays @ normal)
        hit = world_from_cam.translation + distance[:, None] * rays - corner
        a, b = hit @ u / (u @ u), hit @ v / (v @ v)
        seen = (distance > 0) & (distance < nearest) & (a > 0) & (a < 1) & (b > 0) & (b < 1)
        nearest[seen] = distance[seen]
        map_x = (a * texture.shape[1] - 0.5).reshape(shape).astype(np.float32)
        map_y = (b * texture.shape[0] - 0.5).reshape(shape).astype(np.float32)
        sampled = cv2.remap(texture, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        image[seen.reshape(shape)] = sampled[seen.reshape(shape)]
    return image


def import_rendered(
    folder: Path, poses, train, test, camera: Camera, *, capture, split, room=0
) -> Place:
    """A Place of the room seen from exact poses (world_from_cam by name), without points."""
    source = folder / "source"
    source.mkdir(parents=True)
    lines = []
    for name, pose in poses.items():
        cv2.imwrite(str(source / name), render(pose, camera, room=room)[:, :, ::-1])
        cam_from_world = pose.inverse()
        values = [*cam_from_world.quat_wxyz, *cam_from_world.translation, camera.focal_px]
        lines.append(" ".join([name, *(f"{value:.9f}" for value in values)]))
    (folder / "poses.txt").write_text("\n".join(lines) + "\n")
    (folder / "train.txt").write_text("\n".join(train) + "\n")
    (folder / "test.txt").write_text("\n".join(test) + "\n")
    place = Place.create(folder / "place")
    import_poses(
        folder / "poses.txt",
        place,
        source,
        convention="stated",
        capture=capture,
        train=folder / "train.txt",
        test=folder / "test.txt",
        split=split,
    )
    return place


def mapped_room(folder: Path) -> None:
    poses = {**TRAIN_POSES, **TEST_POSES}
    place = import_rendered(
        folder, poses, TRAIN_POSES, TEST_POSES, CAMERA, capture="room", split=SPLIT
    )
    map_place(place)


def copy_of_room(made_once: Callable[..., Path], folder: Path) -> Place:
    """A Place of the room: known poses of train and test, a map of the train images alone.

    ``made_once`` is the fixture; the Place is in ``folder``, the caller's to change.
    """
    shutil.copytree(made_once(mapped_room) / "place", folder / "place")
    return Place.open(folder / "place")
