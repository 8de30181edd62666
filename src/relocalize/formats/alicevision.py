"""AliceVision's and Meshroom's ``cameras.sfm`` (SfMData as JSON).

A pose is the world-to-camera rotation, column by column, and the camera's centre; OpenCV axes.
Numbers are written as texts. Focal lengths are in millimetres of ``sensorWidth``, before 1.2.2 in
pixels; the principal point is an offset from the image's middle, before 1.2.1 from its first pixel.
Pixel (0, 0) is the centre of the first pixel, as in openMVG, from which AliceVision comes.
Source: alicevision/AliceVision, ``src/aliceVision/sfmDataIO/jsonIO.cpp`` and its CHANGELOG.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

from relocalize import progress
from relocalize.errors import FormatError
from relocalize.formats.json_file import JsonObject, head_of, read_json_object
from relocalize.formats.lenses import brown_camera, check_sides
from relocalize.formats.pose_rows import PoseRows
from relocalize.formats.registration import Registration
from relocalize.geometry import Camera, Convention
from relocalize.place.folder import MAP_UNIT

NAME = "AliceVision SfMData"
CONVENTION = Convention("matrix", "cam_from_world", "RDF", "centre")
_FILE = "cameras.sfm"
_LAYOUT = "a transform with rotation [9] and center [3]"
_HALF_PIXEL = 0.5
_SMALLEST = 1e-6  # of what a focal length is divided by
# Types and distortion types by the terms that they have.
_NO_TERMS = {"pinhole", "none", ""}
_BROWN = {"radial1", "radialk1", "radial3", "radialk3", "brown"}
_FISHEYE = {"fisheye", "fisheye4"}


def detect(path: Path) -> bool:
    """Whether ``path`` is such a file, or a folder with ``cameras.sfm``."""
    file = path / _FILE if path.is_dir() else path
    if file.suffix.lower() not in {".sfm", ".json"}:
        return False
    head = head_of(file)
    return '"viewId"' in head and '"views"' in head and '"version"' in head


def read(path: Path) -> Registration:
    """Read the views that have a pose; its points are left out."""
    file = path / _FILE if path.is_dir() else path
    root = read_json_object(file)
    version = tuple(map(int, JsonObject.of(_numeric(root.values)).numbers("version", 3)))
    intrinsics = _by_id(root, "intrinsics", "intrinsicId")
    poses = _by_id(root, "poses", "poseId")
    rows = PoseRows(file, NAME, CONVENTION, _LAYOUT)

    @cache
    def camera_of(key: str) -> Camera | None:
        return _camera(intrinsics[key], version) if key in intrinsics else None

    for number, value in enumerate(progress.track(root.array("views"), "views")):
        with rows.row(f"view {number}"):
            view = JsonObject.of(value)
            name = view.text("path").replace("\\", "/")
            pose = poses.get(str(view.values.get("poseId")))
            if pose is None:
                rows.said["views have no pose"] += 1
                continue
            is_own = view.values.get("isPoseIndependant", True) in (True, 1, "1", "true")
            if "rigId" in view and not is_own:
                raise ValueError(f"{name} has the pose of a rig, which is not read")
            camera = camera_of(str(view.values.get("intrinsicId")))
            transform = pose.child("pose").child("transform")
            rotation = np.reshape(transform.numbers("rotation", 9), (3, 3)).T
            rows.add(name, rotation, transform.numbers("center", 3), camera)
    return rows.registration(unit=MAP_UNIT)


def _by_id(root: JsonObject, what: str, key: str) -> dict[str, JsonObject]:
    """The objects of a list by their identifiers, with numbers in place of texts."""
    found = {}
    for number, item in enumerate(root.array(what)):
        one = JsonObject.of(item, f"{root.where}, {what} {number}")
        values = {name: _numeric(value) for name, value in one.values.items()}
        found[str(one.values.get(key))] = JsonObject(values, one.where)
    return found


def _numeric(value: object, depth: int = 8) -> object:
    """A value with numbers in place of the texts that are numbers, in its lists and objects too."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    if depth and isinstance(value, list):
        return [_numeric(one, depth - 1) for one in value]
    if depth and isinstance(value, dict):
        return {key: _numeric(one, depth - 1) for key, one in value.items()}
    return value


def _camera(node: JsonObject, version: tuple[int, ...]) -> Camera:
    width, height = node.whole("width"), node.whole("height")
    check_sides(width, height)
    if version < (1, 2, 0):
        fx = fy = node.number("pxFocalLength")
    elif version < (1, 2, 2):
        fx, fy = node.numbers("pxFocalLength", 2)
    else:
        ratio, sensor = node.number("pixelRatio", 1.0), node.number("sensorWidth", 36.0)
        if min(ratio, sensor) < _SMALLEST:
            raise FormatError(f"a pixelRatio of {ratio:g} and a sensorWidth of {sensor:g} mm")
        fx = node.number("focalLength") / sensor * width
        # It was the focal lengths' ratio before 1.2.5.
        fy = fx / ratio if version < (1, 2, 5) else fx * ratio
    cx, cy = node.numbers("principalPoint", 2)
    if version >= (1, 2, 1):
        cx, cy = cx + width / 2, cy + height / 2
    pinhole = (fx, fy, cx + _HALF_PIXEL, cy + _HALF_PIXEL)
    kind = str(node.values.get("type", ""))
    if kind == "pinhole":
        kind = str(node.values.get("distortionType", ""))
    terms = node.array("distortionParams") if node.values.get("distortionParams") else []
    values = node.numbers("distortionParams", len(terms)) if terms else ()
    if kind in _NO_TERMS or (kind in _BROWN and not values):
        return brown_camera(width, height, pinhole, (0.0,))
    if kind in _BROWN and len(values) in {1, 3, 5}:
        k1, k2, k3, t1, t2 = (*values, *[0.0] * (5 - len(values)))
        return brown_camera(width, height, pinhole, (k1, k2, t1, t2, k3))
    if kind in _FISHEYE and len(values) == 4:
        return Camera("OPENCV_FISHEYE", width, height, (*pinhole, *values))
    raise FormatError(
        f"cameras of type {kind!r} with {len(values)} terms cannot be read; relocalize reads "
        "pinhole, radial1, radial3, brown and fisheye4"
    )
