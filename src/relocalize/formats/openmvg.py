"""openMVG's ``sfm_data.json``.

An extrinsic is the world-to-camera rotation, row by row, and the camera's centre; OpenCV axes.
Pixel (0, 0) is the centre of the first pixel, so half a pixel is added to principal points and
observations.
Sources: openMVG's documentation, "SfM_Data", and its ``geometry/pose3.hpp`` and ``pose3_io.hpp``
(x_cam = R (X - C)), ``cameras/Camera_Pinhole_*_io.hpp`` (names of the distortion's lists),
``Camera_undistort_image.hpp`` (whole numbers are samples' centres; measured as well: the
observations of openMVG's sample are 0.5 px less than COLMAP's features of the same images).
What cereal adds around the values (``polymorphic_id``, ``ptr_wrapper``) says nothing that their
keys do not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from relocalize import progress
from relocalize.errors import FormatError, GeometryError
from relocalize.formats.json_file import JsonObject, json_head, read_json_object
from relocalize.formats.pose_rows import PoseRows
from relocalize.formats.registration import Registration, brown_camera
from relocalize.formats.tracks import model_of_tracks
from relocalize.geometry import Camera, Convention
from relocalize.place import MapModel
from relocalize.place.folder import MAP_UNIT

NAME = "openMVG sfm_data.json"
CONVENTION = Convention("matrix", "cam_from_world", "RDF", "centre")
_FILE = "sfm_data.json"
_LAYOUT = "rotation [3, 3] and center [3]"
_UNDEFINED = 2**32 - 1  # openMVG's UndefinedIndexT: no pose, no intrinsics
_HALF_PIXEL = 0.5
_GREY = 128  # the file has no colors


def detect(path: Path) -> bool:
    """Whether ``path`` is such a file, or a folder with one."""
    if path.is_dir():
        return (path / _FILE).is_file() and detect(path / _FILE)
    if path.suffix.lower() != ".json" or not path.is_file():
        return False
    return '"sfm_data_version"' in json_head(path)


def read_openmvg(path: Path) -> Registration:
    """Read the views that have a pose, and the structure that they observe.

    Raises:
        FormatError: there is no such file, it is something else, or it has no poses.
    """
    file = path / _FILE if path.is_dir() else path
    root = read_json_object(file)
    if "sfm_data_version" not in root:
        raise FormatError(f"{file} is no {NAME}: it has no 'sfm_data_version'")
    rows = PoseRows(file, CONVENTION, _LAYOUT)
    poses = _by_key(root, "extrinsics")
    intrinsics = _by_key(root, "intrinsics")
    cameras: dict[int, Camera | str | None] = {}
    name_of: dict[int, str] = {}
    views = list(_by_key(root, "views").items())
    without_pose = 0
    for key, value in progress.track(views, "views"):
        where = f"view {key}"
        try:
            view = _pointed_to(value, where)
            name = _name(view)
            pose_id = view.whole("id_pose", _UNDEFINED)
            if pose_id == _UNDEFINED or pose_id not in poses:
                without_pose += 1
                continue
            camera = _camera_of(view.whole("id_intrinsic", _UNDEFINED), intrinsics, cameras)
            pose = JsonObject.of(poses[pose_id])
            rotation = pose.matrix("rotation", [(3, 3)])
            if rows.add(where, name, rotation, pose.numbers("center", 3), camera):
                name_of[key] = name
        except (FormatError, GeometryError) as error:
            rows.reject(where, str(error).removeprefix(f"{where}: "))
    remarks = [f"{without_pose} views have no pose"] if without_pose else []
    registration = rows.registration(format_name=NAME, unit=MAP_UNIT, remarks=remarks)
    try:
        return replace(registration, model=_model(registration, root, name_of))
    except FormatError as error:
        left_out = f"the structure is left out: {error}"
        return replace(registration, remarks=(*registration.remarks, left_out))


def _by_key(root: JsonObject, what: str) -> dict[int, object]:
    """The values of a list of ``{"key": ..., "value": ...}``."""
    values = {}
    for number, item in enumerate(root.array(what)):
        node = JsonObject.of(item, f"{root.where}, {what} {number}")
        values[node.whole("key")] = node.values.get("value")
    return values


def _pointed_to(value: object, where: str) -> JsonObject:
    """The data in cereal's wrapper of a pointer."""
    wrapper = JsonObject.of(value, where).child("ptr_wrapper")
    return JsonObject(wrapper.child("data").values, where)


def _name(view: JsonObject) -> str:
    folder = view.text("local_path", "").replace("\\", "/").strip("/")
    return f"{folder}/{view.text('filename')}" if folder else view.text("filename")


# -- cameras ---------------------------------------------------------------------------------


def _camera_of(
    key: int, intrinsics: dict[int, object], cameras: dict[int, Camera | str | None]
) -> Camera | None:
    if key not in cameras:
        try:
            cameras[key] = _camera(_pointed_to(intrinsics[key], "")) if key in intrinsics else None
        except (FormatError, GeometryError) as error:
            cameras[key] = f"intrinsics {key}: {error}"
    camera = cameras[key]
    if isinstance(camera, str):
        raise FormatError(camera)
    return camera


def _camera(node: JsonObject) -> Camera:
    if "focal_length" not in node:
        raise FormatError("they have no focal_length (spherical cameras cannot be read)")
    width, height = node.whole("width"), node.whole("height")
    focal = node.number("focal_length")
    cx, cy = node.numbers("principal_point", 2)
    pinhole = (focal, focal, cx + _HALF_PIXEL, cy + _HALF_PIXEL)
    if "fisheye" in node:
        return Camera("OPENCV_FISHEYE", width, height, (*pinhole, *node.numbers("fisheye", 4)))
    distortion: tuple[float, ...] = (0.0,)
    if "disto_k1" in node:
        distortion = node.numbers("disto_k1", 1)
    elif "disto_k3" in node:
        k1, k2, k3 = node.numbers("disto_k3", 3)
        distortion = (k1, k2, 0.0, 0.0, k3)
    elif "disto_t2" in node:
        k1, k2, k3, t1, t2 = node.numbers("disto_t2", 5)
        distortion = (k1, k2, t1, t2, k3)
    return brown_camera(width, height, pinhole, distortion)


# -- structure -------------------------------------------------------------------------------


def _model(
    registration: Registration, root: JsonObject, name_of: dict[int, str]
) -> MapModel | None:
    positions: list[tuple[float, ...]] = []
    pixels, rows, views = [], [], []
    for position, seen in _landmarks(root):
        for view, pixel in seen:
            if view in name_of:
                views.append(view)
                rows.append(len(positions))
                pixels.append(pixel)
        positions.append(position)
    if not positions:
        return None
    of_view, all_rows = np.array(views), np.array(rows, dtype=np.int64)
    all_pixels = np.array(pixels, dtype=np.float64).reshape(-1, 2) + _HALF_PIXEL
    observations = {
        name: (all_pixels[of_view == view], all_rows[of_view == view])
        for view, name in name_of.items()
    }
    colors = np.full((len(positions), 3), _GREY, dtype=np.uint8)
    return model_of_tracks(registration, np.array(positions), colors, observations)


def _landmarks(
    root: JsonObject,
) -> Iterator[tuple[tuple[float, ...], list[tuple[int, tuple[float, ...]]]]]:
    """Each landmark's position, and its observations: view and pixel."""
    for number, item in enumerate(root.array("structure")):
        where = f"{root.where}, structure {number}"
        node = JsonObject.of(JsonObject.of(item, where).values.get("value"), where)
        seen = []
        for one in node.array("observations"):
            observation = JsonObject.of(one, where)
            seen.append((observation.whole("key"), observation.child("value").numbers("x", 2)))
        yield node.numbers("X", 3), seen
