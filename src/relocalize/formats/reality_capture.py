"""RealityCapture's and RealityScan's registration as a table: ``#name,x,y,alt,heading,...``.

What its columns mean, and who says so:

- Rotation: Epic's forum, "Knowledge Base: Registration export and camera orientations": with all
  angles 0 the camera looks down and the image's upper side is to the world's y (x is east, y
  north, z up); the matrix given there equals Rz(-heading) Rx(pitch) Ry(roll) from a camera with x
  right, y up, z back, degrees. nerfstudio's ``realitycapture_utils`` reads it the same way.
- Omega, phi, kappa: photogrammetry's Rx(omega) Ry(phi) Rz(kappa) of the same camera axes, degrees;
  so Pix4D's and Metashape's tables of these angles are read, too.
- Position: the camera's centre, in the coordinate system that was chosen at the export.
- Intrinsics: `reality_capture_lens`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from relocalize.formats.lenses import SizelessCamera
from relocalize.formats.pose_rows import PoseRows
from relocalize.formats.reality_capture_lens import FilmLenses
from relocalize.formats.registration import Registration
from relocalize.formats.table import Header, find_header, read_table
from relocalize.formats.text import first_lines
from relocalize.geometry import Convention
from relocalize.geometry.transforms import FloatArray
from relocalize.place.folder import MAP_UNIT

NAME = "RealityCapture table"
CONVENTION = Convention("euler:-z0x1y2:deg", "world_from_cam", "RUB", "centre")
OMEGA_PHI_KAPPA = Convention("euler:x0y1z2:deg", "world_from_cam", "RUB", "centre")

_PLACE = ("name", "x", "y", "z")
_HEADING = ("heading", "pitch", "roll")
_OMEGA = ("omega", "phi", "kappa")
_LENS = ("k1", "k2", "k3", "k4", "t1", "t2")
_ALIASES: Mapping[str, tuple[str, ...]] = {
    **{key: (key,) for key in (*_PLACE, *_HEADING, *_OMEGA, *_LENS)},
    "name": ("name", "image", "imagename", "filename", "photoid", "label"),
    "z": ("alt", "altitude", "z"),
    "heading": ("heading", "yaw"),
    "f": ("f", "f_35mm", "focal", "focallength35mm"),
    "px": ("px", "px_norm"),
    "py": ("py", "py_norm"),
}
_WANT = "name, x, y, alt (or z), and heading, pitch, roll or omega, phi, kappa"
_COUNT = re.compile(r"cameras\s*[,;:]?\s*(\d{1,9})")


def detect(path: Path) -> bool:
    """Whether the first lines name RealityCapture's columns."""
    lines = first_lines(path)
    declared = any(line.lstrip("# ").startswith("convention:") for line in lines[:50])
    return not declared and find_header(lines, _ALIASES, _is_header) is not None


def read(path: Path) -> Registration:
    """Read a table of poses, with intrinsics where it has their columns."""
    header, lines = read_table(path, _ALIASES, _is_header, _WANT)
    angles = _HEADING if all(name in header.at for name in _HEADING) else _OMEGA
    convention = CONVENTION if angles is _HEADING else OMEGA_PHI_KAPPA
    rows = PoseRows(path, NAME, convention, f"name, x, y, z and {', '.join(angles)}")
    lenses = FilmLenses()
    for where, line in lines:
        with rows.row(where):
            cells, others = header.cells(line)
            position = [header.number(cells[key]) for key in ("x", "y", "z")]
            rotation = [header.number(cells[key]) for key in angles]
            camera = _camera(header, cells, lenses)
            rows.add(cells["name"], rotation, position, camera, columns=others)
    remarks = [*_missing(header, rows.count), *lenses.remarks()]
    registration = rows.registration(unit=MAP_UNIT, remarks=remarks)
    return registration.remarked(*_geographic(registration.stated.positions))


def _is_header(at: Mapping[str, int]) -> bool:
    return all(key in at for key in _PLACE) and (
        all(key in at for key in _HEADING) or all(key in at for key in _OMEGA)
    )


def _camera(header: Header, cells: dict[str, str], lenses: FilmLenses) -> SizelessCamera | None:
    """The row's camera; None where the table has no focal lengths, or this one is none."""
    if "f" not in cells:
        return None
    wanted = ("f", "px", "py", *_LENS)
    values = {key: header.number(cells[key]) for key in wanted if key in cells}
    lens = [values.get(key, 0.0) for key in _LENS] if "k1" in values else []
    return lenses.camera(values["f"], (values.get("px", 0.0), values.get("py", 0.0)), lens)


def _missing(header: Header, count: int) -> list[str]:
    for comment in header.comments:
        stated = _COUNT.fullmatch(comment.strip().lower())
        if stated and int(stated[1]) != count:
            cut_off = "; was it cut off?" if count < int(stated[1]) else ""
            return [
                f"the file says that it has {int(stated[1])} cameras and has {count} rows{cut_off}"
            ]
    return []


def _geographic(positions: FloatArray) -> list[str]:
    """A remark where positions look like longitude and latitude: degrees are no lengths."""
    middle = np.median(positions[:, :2], axis=0)
    spread = float(np.abs(positions[:, :2] - middle).max())
    if len(positions) < 2 or np.any(np.abs(middle) > (180, 90)):
        return []
    # A building is 0.001 degrees wide, and seldom near where both equator and Greenwich are.
    if spread > 0.02 or spread * 100 > float(np.abs(middle).max()):
        return []
    return [
        f"x and y lie within {spread:.2g} of {middle[0]:.6g}, {middle[1]:.6g}: if these are "
        "longitude and latitude, export again in a metric or local coordinate system"
    ]
