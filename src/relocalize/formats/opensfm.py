"""OpenSfM's ``reconstruction.json``.

A list of reconstructions; a shot's ``rotation`` is the angle-axis vector in radians and with its
``translation`` maps the world to the camera, OpenCV axes. Image coordinates are normalised: the
origin is the image's centre (w/2, h/2 counted from the corner of the first pixel) and the unit
its longer side.
Sources: OpenSfM's documentation, "Geometric Models" and "Reconstruction file format", and its
``opensfm/io.py`` (cameras, rig instances: a shot's own pose is the composed one) and
``opensfm/features.py`` (``normalized_image_coordinates`` adds the half pixel).
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from relocalize import progress
from relocalize.errors import FormatError, GeometryError
from relocalize.formats.json_file import JsonObject, json_file_in, read_json
from relocalize.formats.lenses import SizelessCamera, brown_camera
from relocalize.formats.pose_rows import PoseRows
from relocalize.formats.registration import Registration
from relocalize.geometry import Camera, Convention
from relocalize.place.folder import MAP_UNIT, METRE

NAME = "OpenSfM reconstruction.json"
# The angle-axis vector has one reading, its matrix; direction and axes are as documented.
CONVENTION = Convention("matrix", "cam_from_world", "RDF", "translation")
_FILE = "reconstruction.json"
_LAYOUT = "rotation, translation and camera"
_WORST_DOP = 100.0  # OpenSfM writes 999999 for photos without GPS
_GPS_SHOTS = 3  # fewer cannot give a scale


def detect(path: Path) -> bool:
    """Whether ``path`` is such a file, or a project folder with one."""
    head = json_file_in(path, _FILE).lstrip("\ufeff \t\r\n")
    return head.startswith("[") and '"cameras"' in head and '"projection_type"' in head


def read(path: Path) -> Registration:
    """Read the largest reconstruction of the file, or of a project folder's file."""
    file = path / _FILE if path.is_dir() else path
    reconstructions = read_json(file)
    if not isinstance(reconstructions, list) or not reconstructions:
        raise FormatError(f"{file} is no {NAME}: it is not a list of reconstructions")
    nodes = [
        JsonObject.of(value, f"{file}, reconstruction {number}")
        for number, value in enumerate(reconstructions)
    ]
    shots = [len(node.child("shots").values) for node in nodes]
    largest = int(np.argmax(shots))
    remarks = []
    if len(nodes) > 1:
        remarks.append(
            f"the largest of {len(nodes)} reconstructions is read ({shots[largest]} of "
            f"{sum(shots)} shots); they share no frame"
        )
    return _read(nodes[largest], file, remarks)


def _read(node: JsonObject, file: Path, remarks: list[str]) -> Registration:
    rows = PoseRows(file, NAME, CONVENTION, _LAYOUT)
    cameras = node.child("cameras")

    @cache
    def camera_of(key: str) -> Camera | SizelessCamera:
        try:
            return _camera(JsonObject.of(cameras.values.get(key)))
        except (FormatError, GeometryError) as error:
            raise FormatError(f"camera {key!r}: {error}") from None

    turned = with_gps = 0
    for name, value in progress.track(list(node.child("shots").items()), "shots"):
        with rows.row(f"shot {name}"):
            shot = JsonObject.of(value)
            camera = camera_of(shot.text("camera"))
            rotation = Rotation.from_rotvec(shot.numbers("rotation", 3)).as_matrix()
            rows.add(name, rotation, shot.numbers("translation", 3), camera)
            turned += shot.values.get("orientation", 1) not in (0, 1, None)
            with_gps += _has_gps(shot)
    if turned:
        remarks.append(f"{turned} poses are of images as stored, not as their EXIF turns them")
    if node.child("pano_shots").values:
        remarks.append(f"{len(node.child('pano_shots').values)} panorama shots are left out")
    metric = with_gps >= _GPS_SHOTS and "reference_lla" in node
    return rows.registration(
        unit=METRE if metric else MAP_UNIT,
        scale_from=f"GPS positions of {with_gps} photos" if metric else None,
        remarks=remarks,
    )


def _has_gps(shot: JsonObject) -> bool:
    dop = shot.values.get("gps_dop")
    return isinstance(dop, int | float) and 0 < dop < _WORST_DOP and "gps_position" in shot


def _camera(node: JsonObject) -> Camera | SizelessCamera:
    kind = node.text("projection_type", "perspective")
    width, height = node.whole("width", 0), node.whole("height", 0)
    if kind in {"perspective", "fisheye"}:
        focal_x = focal_y = node.number("focal")
    elif kind in {"simple_radial", "radial", "brown", "fisheye_opencv"}:
        focal_x = node.number("focal_x")
        focal_y = node.number("focal_y", focal_x)
    else:
        raise FormatError(
            f"projection_type {kind!r} is none that COLMAP's models hold; want perspective, "
            "simple_radial, radial, brown, fisheye or fisheye_opencv"
        )
    centre = node.number("c_x", 0.0), node.number("c_y", 0.0)
    radial = [node.number(key, 0.0) for key in ("k1", "k2", "k3", "k4")]
    tangential = node.number("p1", 0.0), node.number("p2", 0.0)
    if kind == "simple_radial":
        distortion: tuple[float, ...] = (radial[0],)
    elif kind == "brown":
        distortion = (*radial[:2], *tangential, radial[2])
    else:
        distortion = tuple(radial[:2])
    if width <= 0 or height <= 0:
        if kind.startswith("fisheye"):
            raise FormatError(f"a fisheye of {width} x {height} pixels")
        return SizelessCamera(focal_x, "longer side", focal_y, centre, distortion)
    side = max(width, height)
    cx, cy = width / 2 + centre[0] * side, height / 2 + centre[1] * side
    pinhole = (focal_x * side, focal_y * side, cx, cy)
    if kind == "fisheye":
        return Camera("RADIAL_FISHEYE", width, height, (pinhole[0], cx, cy, *radial[:2]))
    if kind == "fisheye_opencv":
        return Camera("OPENCV_FISHEYE", width, height, (*pinhole, *radial))
    return brown_camera(width, height, pinhole, distortion)
