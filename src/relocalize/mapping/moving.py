"""Moving a Place's world frame: poses, points, and what is recorded of them, in one step."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import asdict

import numpy as np

from relocalize.errors import MappingError, PlaceError
from relocalize.geometry import Rigid3, Similarity3
from relocalize.geometry.transforms import rotation_angle_deg
from relocalize.mapping.stored_model import given_images, read_model, replace_model
from relocalize.place import Frame, Move, Place
from relocalize.place.folder import MOVED, read_json

# A transform that moves no camera by more of the extent, and turns by no more degrees, is none:
# the next alignment of what was aligned leaves about 1e-9 of numerical noise.
_NOTHING = 1e-7
_NOTHING_DEG = 1e-5


def move_place(place: Place, now_from_before: Similarity3, *, onto: str, frame: Frame) -> bool:
    """Transform the Place's map and record it in ``place.json``.

    The new map replaces the old one in one step and carries the record, so that a kill before
    ``place.json`` is written loses nothing: the next `Place.open` writes it. Features, matches,
    captures and splits do not depend on the frame; localizers see that the map has changed and
    are fitted again.

    Args:
        place: with a map.
        now_from_before: the transform of the world.
        onto: what the frame is moved onto, for people.
        frame: what is known of the frame since then.

    Returns:
        Whether anything changed: False for the identity in a frame already known to be this.

    Raises:
        PlaceError: the Place has no map, or another process writes to it.
        MappingError: the map cannot be moved so far (numbers that COLMAP cannot hold).
    """
    with place.lock():
        stays = _moves_nothing(place, now_from_before)
        if stays and frame == place.frame:
            return False
        move = Move(
            scale=now_from_before.scale,
            quat_wxyz=tuple(now_from_before.quat_wxyz.tolist()),
            translation=tuple(now_from_before.translation.tolist()),
            onto=onto,
            frame_before=place.frame,
        )
        moves = (*place.moves, move)
        if not stays:
            _replace_map(place, now_from_before, moves, frame)
        place.record_moves(moves, frame)
    return True


def given_poses(place: Place) -> bytes:
    """A digest of the poses that the map is made from, which a move of the whole leaves as it is.

    What was made from poses in another frame need not be made again when the frame has moved.
    """
    digest = _digest(
        (name, image.cam_from_world) for name, image in sorted(given_images(place).items())
    )
    try:
        record = read_json(place.map_dir / MOVED)
        if record["poses"] == digest.hex():
            return bytes.fromhex(record["poses_before"])
    except (PlaceError, KeyError, TypeError, ValueError):
        pass  # not moved, or the record is damaged: then it is made again, and nothing is lost
    return digest


def _moves_nothing(place: Place, now_from_before: Similarity3) -> bool:
    centres = np.stack([image.world_from_cam.translation for image in place.posed_images()])
    extent = max(float(np.ptp(centres, axis=0).max()), 1e-12)
    shift = np.linalg.norm(now_from_before @ centres - centres, axis=1).max()
    return bool(
        shift <= _NOTHING * extent
        and abs(now_from_before.scale - 1) <= _NOTHING
        and rotation_angle_deg(now_from_before.rotation) <= _NOTHING_DEG
    )


def _replace_map(
    place: Place, now_from_before: Similarity3, moves: tuple[Move, ...], frame: Frame
) -> None:
    before, given = given_poses(place), given_images(place).keys()
    model = read_model(place)
    model.transform(now_from_before.to_colmap())
    poses = sorted(
        (model.images[i].name, Rigid3.from_colmap(model.images[i].cam_from_world()))
        for i in model.reg_image_ids()
    )
    if not all(np.isfinite(pose.matrix).all() for _, pose in poses):
        raise MappingError(f"{place.root} cannot be moved so far: its poses are no finite numbers")
    record = {
        "poses": _digest(row for row in poses if row[0] in given).hex(),
        "poses_before": before.hex(),
        "moves": [asdict(move) for move in moves],
        "frame": asdict(frame),
    }
    replace_model(place, model, moved=record)


def _digest(poses: Iterable[tuple[str, Rigid3]]) -> bytes:
    digest = hashlib.sha256()
    for name, pose in poses:
        digest.update(name.encode() + pose.matrix.tobytes())
    return digest.digest()
