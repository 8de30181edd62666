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
from functools import cache
from pathlib import Path

from relocalize import progress
from relocalize.errors import FormatError, GeometryError
from relocalize.formats.json_file import JsonObject, json_file_in, read_json_object
from relocalize.formats.lenses import brown_camera
from relocalize.formats.pose_rows import PoseRows
from relocalize.formats.registration import Registration
from relocalize.formats.tracks import Observation, model_of_tracks
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
    return '"sfm_data_version"' in json_file_in(path, _FILE)


def read(path: Path) -> Registration:
    """Read the views that have a pose, and the structure that they observe."""
    file = path / _FILE if path.is_dir() else path
    root = read_json_object(file)
    if "sfm_data_version" not in root:
        raise FormatError(f"{file} is no {NAME}: it has no 'sfm_data_version'")
    rows = PoseRows(file, NAME, CONVENTION, _LAYOUT)
    poses, intrinsics = _by_key(root, "extrinsics"), _by_key(root, "intrinsics")

    @cache
    def camera_of(key: int) -> Camera | None:
        return _camera(key, intrinsics[key]) if key in intrinsics else None

    name_of: dict[int, str] = {}
    for key, value in progress.track(_by_key(root, "views").items(), "views"):
        with rows.row(f"view {key}"):
            view = _pointed_to(value)
            name = _name(view)
            pose_id = view.whole("id_pose", _UNDEFINED)
            if pose_id == _UNDEFINED or pose_id not in poses:
                rows.said["views have no pose"] += 1
                continue
            camera = camera_of(view.whole("id_intrinsic", _UNDEFINED))
            pose = JsonObject.of(poses[pose_id])
            rotation = pose.matrix("rotation", [(3, 3)])
            rows.add(name, rotation, pose.numbers("center", 3), camera)
            name_of[key] = name
    registration = rows.registration(unit=MAP_UNIT)
    return registration.with_model(lambda: _model(registration, root, name_of))


def _by_key(root: JsonObject, what: str) -> dict[int, object]:
    """The values of a list of ``{"key": ..., "value": ...}``."""
    values = {}
    for number, item in enumerate(root.array(what)):
        node = JsonObject.of(item, f"{root.where}, {what} {number}")
        values[node.whole("key")] = node.values.get("value")
    return values


def _pointed_to(value: object) -> JsonObject:
    """The data in cereal's wrapper of a pointer."""
    return JsonObject(JsonObject.of(value).child("ptr_wrapper").child("data").values)


def _name(view: JsonObject) -> str:
    folder = view.text("local_path", "").replace("\\", "/").strip("/")
    return f"{folder}/{view.text('filename')}" if folder else view.text("filename")


def _camera(key: int, value: object) -> Camera:
    try:
        node = _pointed_to(value)
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
    except (FormatError, GeometryError) as error:
        raise FormatError(f"intrinsics {key}: {error}") from None


def _model(
    registration: Registration, root: JsonObject, name_of: dict[int, str]
) -> MapModel | None:
    landmarks = []
    for number, item in enumerate(root.array("structure")):
        where = f"{root.where}, structure {number}"
        landmarks.append(JsonObject.of(JsonObject.of(item, where).values.get("value"), where))
    if not landmarks:
        return None
    positions = [landmark.numbers("X", 3) for landmark in landmarks]
    colors = [[_GREY] * 3] * len(positions)
    return model_of_tracks(registration, positions, colors, _observations(landmarks, name_of))


def _observations(landmarks: list[JsonObject], name_of: dict[int, str]) -> Iterator[Observation]:
    for row, landmark in enumerate(landmarks):
        for one in landmark.array("observations"):
            observation = JsonObject.of(one, landmark.where)
            u, v = observation.child("value").numbers("x", 2)
            name = name_of.get(observation.whole("key"), "")
            yield name, u + _HALF_PIXEL, v + _HALF_PIXEL, row
