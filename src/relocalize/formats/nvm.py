"""VisualSFM's NVM files, such as the ones that Cambridge Landmarks and Aachen come with.

After ``NVM_V3`` come models of a world each: a number of cameras, and a row for each of
``name focal_px qw qx qy qz cx cy cz r 0``: the rotation from the world, the camera's centre, OpenCV
axes; pixels count from the image's middle. ``r`` undoes the distortion: a measured image-plane
point m is (1 + r |m|^2) m without it. A blank in a name is written as a double quote.
Sources: VisualSFM's documentation, "NVM file format"; Multicore Bundle Adjustment's
``DataInterface.h`` (``SetNormalizedMeasurementDistortion``) and ``util.h``.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import islice
from pathlib import Path

import numpy as np

from relocalize.errors import FormatError
from relocalize.formats.lenses import LARGEST_TERM, LONGEST_FOCAL, SizelessCamera
from relocalize.formats.pose_rows import PoseRows
from relocalize.formats.registration import Registration
from relocalize.formats.text import first_lines, floats, read_lines, rows_in
from relocalize.geometry import Convention
from relocalize.place.folder import MAP_UNIT

NAME = "VisualSFM NVM file"
CONVENTION = Convention("wxyz", "cam_from_world", "RDF", "centre")
_VERSION = "NVM_V3"
_LAYOUT = "name focal_px qw qx qy qz cx cy cz radial 0"
_WIDEST = 0.8  # tangent of half the diagonal angle up to which radial terms are fitted
_Row = tuple[str, list[str]]


def detect(path: Path) -> bool:
    """Whether the file begins as NVM files do."""
    lines = first_lines(path) if path.is_file() else []
    return bool(lines) and lines[0].split()[:1] == [_VERSION]


def read(path: Path) -> Registration:
    """Read the cameras of the model that has most of them; its points are left out."""
    lines = iter(list(rows_in(read_lines(path))))
    _, first = next(lines, ("", [""]))
    if first[0] != _VERSION:
        raise FormatError(f"{path} is no {NAME}: want {_VERSION} first")
    models: list[list[_Row]] = []
    while count := _count(path, next(lines, None)):
        models.append(_rows(path, lines, count, "cameras"))
        _rows(path, lines, _count(path, next(lines, None)), "points")
    if not models:
        raise FormatError(f"{path} has no cameras")
    largest = max(models, key=len)
    rows = PoseRows(path, NAME, CONVENTION, _LAYOUT)
    for where, cells in largest:
        with rows.row(where):
            _take(rows, cells)
    remarks = ["its points are left out: map makes them anew"]
    if len(models) > 1:
        listed = sum(map(len, models))
        remarks.append(
            f"the largest of {len(models)} models is read ({len(largest)} of {listed} cameras); "
            "they share no frame"
        )
    return rows.registration(unit=MAP_UNIT, remarks=remarks)


def _count(path: Path, row: _Row | None) -> int:
    """The number in a row of its own; 0 at the end of the file."""
    where, cells = row or ("", ["0"])
    if len(cells) != 1 or not (cells[0].isascii() and cells[0].isdigit()):
        raise FormatError(f"{path}, {where}: want a number of cameras or points")
    return int(cells[0][:9])


def _rows(path: Path, lines: Iterator[_Row], count: int, what: str) -> list[_Row]:
    rows = list(islice(lines, count))
    if len(rows) < count:
        raise FormatError(f"{path} ends after {len(rows)} of {count} {what}; was it cut off?")
    return rows


def _take(rows: PoseRows, cells: list[str]) -> None:
    # The names of some tools have blanks after all; the ten numbers are the last ones.
    if len(cells) < 11:
        raise ValueError(f"{len(cells)} columns, want {_LAYOUT}")
    name = " ".join(cells[:-10]).replace('"', " ").replace("\\", "/")
    focal, *numbers = floats(cells[-10:])
    if not 1 <= focal <= LONGEST_FOCAL or not abs(numbers[7]) <= LARGEST_TERM:
        raise ValueError(f"{name} has a focal length of {focal:g} and a radial {numbers[7]:g}")
    camera = SizelessCamera(focal, distortion=_brown(numbers[7]))
    rows.add(name, numbers[:4], numbers[4:7], camera)


@cache
def _brown(radial: float) -> tuple[float, float, float, float, float]:
    """OpenCV's k1 k2 p1 p2 k3 that distort as ``radial`` undoes it."""
    if radial == 0:
        return (0.0, 0.0, 0.0, 0.0, 0.0)
    measured = np.linspace(0, _WIDEST, 200)
    ideal = measured * (1 + radial * measured**2)
    # Beyond its turning point a measured radius stands for no ideal one.
    rising = int(np.argmax(np.diff(ideal, append=-np.inf) <= 0)) + 1
    measured, ideal = measured[:rising], ideal[:rising]
    powers = ideal[:, None] ** np.array([3, 5, 7])
    scale = np.maximum(powers[-1], 1e-12)
    k1, k2, k3 = np.linalg.lstsq(powers / scale, measured - ideal, rcond=None)[0] / scale
    return (float(k1), float(k2), 0.0, 0.0, float(k3))
