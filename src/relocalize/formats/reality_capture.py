"""RealityCapture's and RealityScan's registration as a table: ``#name,x,y,alt,heading,...``.

What its columns mean, and who says so:

- Rotation: Epic's forum, "Knowledge Base: Registration export and camera orientations": with all
  angles 0 the camera looks down and the picture's upper side is to the world's y (x is east, y
  north, z up); the matrix given there equals Rz(-heading) Rx(pitch) Ry(roll) from a camera with x
  right, y up, z back, degrees. nerfstudio's ``realitycapture_utils`` reads it the same way.
- Omega, phi, kappa: photogrammetry's Rx(omega) Ry(phi) Rz(kappa) of the same camera axes, degrees.
- Position: the camera's centre, in the coordinate system that was chosen at the export.
- ``f`` is in millimetres of a 36 mm wide film whose width is the picture's longer side, ``px`` and
  ``py`` are shares of that side from the picture's middle, right and down positive: RealityScan's
  export templates (calibration.xml) write ``f*36``, call them ``px_norm``, ``py_norm``, and make
  pixels by ``px*scale + width*0.5``. The middle is width/2, so pixel (0, 0) is a corner.
- ``k1 k2 k3 k4`` are factors of r^2 to r^8 (Epic, "RealityCapture XMP Camera Math"); the same
  templates put ``k1,k2,t2,t1,k3`` in OpenCV's order, so ``t2`` is OpenCV's p1 and ``t1`` its p2.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from relocalize.formats.delimited import Header, find_header, head_lines, pick, read_table
from relocalize.formats.distortion import NEGLIGIBLE_PX, three_radial_terms
from relocalize.formats.pose_rows import PoseRows
from relocalize.formats.registration import Registration, SizelessCamera
from relocalize.geometry import Convention
from relocalize.place.folder import MAP_UNIT

NAME = "RealityCapture table"
CONVENTION = Convention("euler:-z0x1y2:deg", "world_from_cam", "RUB", "centre")
OMEGA_PHI_KAPPA = Convention("euler:x0y1z2:deg", "world_from_cam", "RUB", "centre")

FILM_WIDTH_MM = 36.0
_ALIASES: Mapping[str, tuple[str, ...]] = {
    "name": ("name", "image", "imagename", "filename"),
    "x": ("x",),
    "y": ("y",),
    "z": ("alt", "altitude", "z"),
    "heading": ("heading", "yaw"),
    "pitch": ("pitch",),
    "roll": ("roll",),
    "omega": ("omega",),
    "phi": ("phi",),
    "kappa": ("kappa",),
    "f": ("f", "f_35mm", "focal", "focallength35mm"),
    "px": ("px", "px_norm"),
    "py": ("py", "py_norm"),
    **{name: (name,) for name in ("k1", "k2", "k3", "k4", "t1", "t2")},
}
_PLACE = ("name", "x", "y", "z")
_HEADING = ("heading", "pitch", "roll")
_OMEGA = ("omega", "phi", "kappa")
_LENS = ("k1", "k2", "k3", "k4", "t1", "t2")
_WANT = "name, x, y, alt (or z), and heading, pitch, roll or omega, phi, kappa"
_COUNT = re.compile(r"cameras\s*[,;:]?\s*(\d{1,9})")
# Focal lengths of real lenses lie between 1 mm and 10 m at 35 mm film.
_SHORTEST, _LONGEST = 1.0, 10_000.0
_WIDE_PX = 4000  # a picture's longer side, which the table does not have, for saying an error
_HALF_DIAGONAL = 0.5**0.5  # of a square picture, the farthest that a corner can be


def detect(path: Path) -> bool:
    """Whether the first lines name RealityCapture's columns."""
    lines = head_lines(path)
    declared = any(line.lstrip("# ").startswith("convention:") for line in lines[:50])
    return not declared and find_header(lines, _is_header) is not None


def read_reality_capture(path: Path) -> Registration:
    """Read a table of poses, with intrinsics where it has their columns.

    Raises:
        FormatError: the file cannot be read, has no such header, or is mostly something else.
    """
    header, lines = read_table(path, _is_header, _WANT)
    at = pick(header.columns, _ALIASES)
    angles = _HEADING if all(name in at for name in _HEADING) else _OMEGA
    convention = CONVENTION if angles is _HEADING else OMEGA_PHI_KAPPA
    rows = PoseRows(path, convention, f"name, x, y, z and {', '.join(angles)}")
    used = set(_PLACE) | set(angles) | {"f", "px", "py", *_LENS}
    extra = [
        index
        for index, name in enumerate(header.columns)
        if name and index not in {at[key] for key in used if key in at}
    ]
    columns: dict[str, dict[str, str]] = {}
    lenses = _Lenses()
    count = 0
    for number, line in lines:
        count += 1
        where = f"line {number}"
        try:
            cells = header.cells(line)
            position = [header.number(cells[at[key]]) for key in ("x", "y", "z")]
            rotation = [header.number(cells[at[key]]) for key in angles]
            camera = lenses.camera(_numbers(header, cells, at))
        except ValueError as error:
            rows.reject(where, str(error))
            continue
        name = cells[at["name"]]
        if rows.add(where, name, rotation, position, camera) and extra:
            columns[name] = {header.columns[index]: cells[index] for index in extra}
    registration = rows.registration(
        format_name=NAME,
        unit=MAP_UNIT,
        columns=columns,
        remarks=[*_missing(header, count), *lenses.remarks()],
    )
    return _with_geographic_remark(registration)


def _is_header(names: tuple[str, ...]) -> bool:
    found = pick(names, _ALIASES)
    return all(key in found for key in _PLACE) and (
        all(key in found for key in _HEADING) or all(key in found for key in _OMEGA)
    )


def _numbers(header: Header, cells: list[str], at: Mapping[str, int]) -> dict[str, float]:
    wanted = ("f", "px", "py", *_LENS)
    return {key: header.number(cells[at[key]]) for key in wanted if key in at}


class _Lenses:
    """Cameras of the rows, and what could not be said of them exactly."""

    def __init__(self) -> None:
        self._unusable = 0
        self._folded = 0
        self._worst_px = 0.0

    def camera(self, numbers: Mapping[str, float]) -> SizelessCamera | None:
        if "f" not in numbers:
            return None
        offset = (numbers.get("px", 0.0), numbers.get("py", 0.0))
        if not _SHORTEST <= numbers["f"] <= _LONGEST or max(map(abs, offset)) > 1:
            self._unusable += 1
            return None
        camera, shift = thirty_five_mm_camera(
            numbers["f"], offset, [numbers.get(key, 0.0) for key in _LENS]
        )
        if shift:
            self._folded += 1
            self._worst_px = max(self._worst_px, shift * _WIDE_PX)
        return camera

    def remarks(self) -> list[str]:
        said = []
        if self._unusable:
            said.append(
                f"{self._unusable} rows have a focal length or principal point that no lens has; "
                "their intrinsics are estimated"
            )
        if self._worst_px > NEGLIGIBLE_PX:
            said.append(
                f"k4 of {self._folded} rows is expressed by k1, k2 and k3, which is off by up to "
                f"{self._worst_px:.2f} pixels on a picture of {_WIDE_PX} pixels"
            )
        return said


def thirty_five_mm_camera(
    focal_mm: float,
    offset: tuple[float, float],
    lens: list[float],
    aspect: float = 1.0,
) -> tuple[SizelessCamera, float]:
    """The camera of RealityCapture's numbers, and how far off its distortion is.

    Args:
        focal_mm: at 35 mm film.
        offset: of the principal point, in shares of the longer side.
        lens: k1, k2, k3, k4, t1, t2.
        aspect: vertical over horizontal focal length.

    Returns:
        The camera, and the largest shift from leaving out k4, in shares of the longer side.
    """
    focal = focal_mm / FILM_WIDTH_MM
    k1, k2, k3, k4, t1, t2 = lens
    (k1, k2, k3), shift = three_radial_terms((k1, k2, k3, k4), _HALF_DIAGONAL / focal)
    camera = SizelessCamera(
        focal=focal,
        unit="longer side",
        focal_y=None if aspect == 1 else focal * aspect,
        principal_offset=offset,
        distortion=(k1, k2, t2, t1, k3),
    )
    return camera, shift * focal


def _missing(header: Header, count: int) -> list[str]:
    for comment in header.comments:
        stated = _COUNT.fullmatch(comment.strip().lower())
        if stated and int(stated[1]) != count:
            return [
                f"the file says that it has {int(stated[1])} cameras and has {count} rows; "
                "was it cut off?"
            ]
    return []


def _with_geographic_remark(registration: Registration) -> Registration:
    """Positions in degrees are no lengths; say where they look like longitude and latitude."""
    positions = registration.stated.positions
    middle = np.median(positions[:, :2], axis=0)
    spread = float(np.abs(positions[:, :2] - middle).max())
    if len(positions) < 2 or np.any(np.abs(middle) > (180, 90)):
        return registration
    # A building is 0.001 degrees wide, and seldom near where both equator and Greenwich are.
    if spread > 0.02 or spread * 100 > float(np.abs(middle).max()):
        return registration
    return replace(
        registration,
        remarks=(
            *registration.remarks,
            f"x and y lie within {spread:.2g} of {middle[0]:.6g}, {middle[1]:.6g}: if these are "
            "longitude and latitude, export again in a metric or local coordinate system",
        ),
    )
