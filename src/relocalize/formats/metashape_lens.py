"""Lenses of Metashape's XML as COLMAP's models, with what COLMAP's models cannot hold.

Source: "Agisoft Metashape User Manual", appendix "Camera models". Camera axes are x right, y down,
z forward; the centre of the top-left pixel is (0.5, 0.5). With x = X/Z, y = Y/Z (frame cameras) or
these scaled to the length of the angle from the axis (fisheye), and r^2 = x^2 + y^2:

    x' = x (1 + k1 r^2 + k2 r^4 + k3 r^6 + k4 r^8) + p1 (r^2 + 2 x^2) + 2 p2 x y
    y' = y (1 + k1 r^2 + k2 r^4 + k3 r^6 + k4 r^8) + p2 (r^2 + 2 y^2) + 2 p1 x y
    u = w/2 + cx + x' f + x' b1 + y' b2,   v = h/2 + cy + y' f

so p1 and p2 have changed places against OpenCV.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from xml.etree import ElementTree

import numpy as np

from relocalize.errors import FormatError
from relocalize.formats.lenses import LARGEST_SIDE, LARGEST_TERM, brown_camera, three_radial_terms
from relocalize.formats.xml_file import number_in
from relocalize.geometry import Camera
from relocalize.geometry.transforms import FloatArray

_FISHEYE = frozenset({"fisheye", "equidistant_fisheye"})
_PINHOLE = ("f", "cx", "cy", "b1", "b2")
_LENS = ("k1", "k2", "k3", "k4", "p1", "p2", "p3", "p4")
_GRID = 25  # points along each side of the image where models are compared


@dataclass(frozen=True)
class SensorLens:
    """One sensor's lens."""

    camera: Camera | None  # COLMAP's, or None where the file has no usable focal length
    error_px: float = 0.0  # largest distance, over the image, to where Metashape projects
    # whether the sensor is panoramic, so that its images are no photos
    see_all_around: bool = False
    # whether its calibration is PhotoScan's before 1.3, with fx and fy, which is not read, so that
    # the camera has the focal length of the EXIF
    of_exif: bool = False


def sensor_lens(sensor: ElementTree.Element) -> SensorLens:
    """The lens of a ``<sensor>``: the adjusted calibration, else the initial, else its EXIF's.

    Raises:
        FormatError: a number is none.
    """
    kind = sensor.get("type", "frame")
    if kind not in _FISHEYE | {"frame"}:
        return SensorLens(None, see_all_around=True)
    calibration = _calibration(sensor)
    resolution = sensor.find("resolution") if calibration is None else calibration
    if calibration is not None and calibration.find("resolution") is not None:
        resolution = calibration.find("resolution")
    if resolution is None or resolution.get("width") is None:
        resolution = sensor.find("resolution")
    if resolution is None:
        return SensorLens(None)
    width, height = _side(resolution, "width"), _side(resolution, "height")
    numbers = dict.fromkeys((*_PINHOLE, *_LENS), 0.0)
    if calibration is not None:
        for element in calibration:
            if element.tag in numbers:
                numbers[element.tag] = number_in(element.text, f"<{element.tag}> of a sensor")
    of_exif = calibration is not None and calibration.find("f") is None
    if calibration is None or of_exif:
        numbers = dict.fromkeys(numbers, 0.0)
        numbers["f"] = _nominal_focal(sensor)
    if not _is_lens(numbers, max(width, height)):
        return SensorLens(None, of_exif=of_exif)
    camera = _camera(numbers, width, height, fisheye=kind in _FISHEYE)
    error = _error_px(camera, numbers, fisheye=kind in _FISHEYE)
    return SensorLens(camera, error, of_exif=of_exif)


def _is_lens(numbers: dict[str, float], longer_side: int) -> bool:
    """Whether a lens can have these numbers: a view between 0.06 and 178.9 degrees, and so on."""
    focals = (numbers["f"], numbers["f"] + numbers["b1"])
    offsets = (numbers["cx"], numbers["cy"], numbers["b2"])
    return (
        all(longer_side / 100 <= focal <= longer_side * 1000 for focal in focals)
        and all(abs(offset) <= longer_side for offset in offsets)
        and all(abs(numbers[name]) <= LARGEST_TERM for name in _LENS)
    )


def _calibration(sensor: ElementTree.Element) -> ElementTree.Element | None:
    """The adjusted calibration, or the initial one."""
    by_class = {found.get("class", "adjusted"): found for found in sensor.findall("calibration")}
    return by_class.get("adjusted", by_class.get("initial"))


def _side(resolution: ElementTree.Element, name: str) -> int:
    value = number_in(resolution.get(name), f"the {name} of a sensor")
    if not 1 <= value <= LARGEST_SIDE or value != int(value):
        raise FormatError(f"a sensor's {name} is {value:g} pixels")
    return int(value)


def _nominal_focal(sensor: ElementTree.Element) -> float:
    """Focal length over pixel size, which are from EXIF; 0 where they are not given."""
    given = {one.get("name"): one.get("value") for one in sensor.findall("property")}
    if not given.get("focal_length") or not given.get("pixel_width"):
        return 0.0
    focal_mm = number_in(given["focal_length"], "a sensor's focal_length")
    pixel_mm = number_in(given["pixel_width"], "a sensor's pixel_width")
    return focal_mm / pixel_mm if pixel_mm > 0 else 0.0


def _camera(numbers: dict[str, float], width: int, height: int, *, fisheye: bool) -> Camera:
    fx, fy = numbers["f"] + numbers["b1"], numbers["f"]
    pinhole = (fx, fy, width / 2 + numbers["cx"], height / 2 + numbers["cy"])
    k1, k2, k3, k4 = (numbers[name] for name in ("k1", "k2", "k3", "k4"))
    p1, p2 = numbers["p2"], numbers["p1"]  # in OpenCV's order
    if fisheye and (p1 or p2):
        params = (*pinhole, k1, k2, p1, p2, k3, k4, 0.0, 0.0)
        return Camera("THIN_PRISM_FISHEYE", width, height, params)
    if fisheye:
        return Camera("OPENCV_FISHEYE", width, height, (*pinhole, k1, k2, k3, k4))
    corner = math.hypot(width / 2 + abs(numbers["cx"]), height / 2 + abs(numbers["cy"])) / fy
    (k1, k2, k3), _ = three_radial_terms((k1, k2, k3, k4), corner)
    return brown_camera(width, height, pinhole, (k1, k2, p1, p2, k3))


def _error_px(camera: Camera, numbers: dict[str, float], *, fisheye: bool) -> float:
    """How far the camera's projection is from Metashape's, at most, over the image."""
    # Directions that reach the image's border and somewhat beyond; those outside do not count.
    reach = 1.5 * math.hypot(camera.width, camera.height) / 2 / numbers["f"]
    reach = math.tan(min(reach, 1.4)) if fisheye else reach
    steps = np.linspace(-reach, reach, 2 * _GRID + 1)
    x, y = (side.ravel() for side in np.meshgrid(steps, steps))
    theirs = _projected(x, y, numbers, camera, fisheye=fisheye)
    ours = camera.img_from_cam(np.stack([x, y, np.ones_like(x)], axis=1))
    inside = np.all((theirs >= 0) & (theirs <= [camera.width, camera.height]), axis=1)
    inside &= np.all(np.isfinite(ours), axis=1)
    if not inside.any():
        return 0.0
    return float(np.linalg.norm(ours - theirs, axis=1)[inside].max())


def _projected(
    x: FloatArray, y: FloatArray, numbers: dict[str, float], camera: Camera, *, fisheye: bool
) -> FloatArray:
    """Pixels [N, 2] of directions (x, y, 1) as the manual's formulas have them."""
    if fisheye:
        radius = np.maximum(np.hypot(x, y), 1e-12)
        scale = np.arctan(radius) / radius
        x, y = x * scale, y * scale
    with np.errstate(over="ignore", invalid="ignore"):
        r2 = x**2 + y**2
        radial = 1 + r2 * (
            numbers["k1"] + r2 * (numbers["k2"] + r2 * (numbers["k3"] + r2 * numbers["k4"]))
        )
        # Versions before 1.8 scale the tangential terms with the radius, too.
        more = 1 + r2 * (numbers["p3"] + r2 * numbers["p4"])
        tx = (numbers["p1"] * (r2 + 2 * x**2) + 2 * numbers["p2"] * x * y) * more
        ty = (numbers["p2"] * (r2 + 2 * y**2) + 2 * numbers["p1"] * x * y) * more
        dx, dy = x * radial + tx, y * radial + ty
        u = camera.width / 2 + numbers["cx"] + dx * (numbers["f"] + numbers["b1"])
        v = camera.height / 2 + numbers["cy"] + dy * numbers["f"]
        return np.stack([u + dy * numbers["b2"], v], axis=1)
