"""Files of few numbers, a matrix each: poses and calibrations of scenes with a file per image."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from relocalize.errors import FormatError
from relocalize.formats.lenses import LONGEST_FOCAL, SizelessCamera
from relocalize.formats.text import check_file, floats, read_lines
from relocalize.geometry import Convention
from relocalize.geometry.transforms import FloatArray

CONVENTION = Convention("matrix", "world_from_cam", "RDF", "centre")
LAYOUT = "a camera-to-world matrix of 4 rows of 4 numbers"
_LARGEST_FILE = 10_000  # bytes; 16 numbers take 300


def read_matrix(file: Path) -> FloatArray:
    """The numbers [4, 4] of a pose file.

    Raises:
        ValueError: they are no pose, as of a frame that a tracker lost.
        FormatError: the file is no text, or too large.
    """
    matrix = numbers_in(file)
    if matrix.shape != (4, 4):
        raise ValueError(f"want {LAYOUT}")
    if not np.all(np.isfinite(matrix)):
        raise ValueError("a number that is not finite, as for frames that the tracker lost")
    if not matrix[:3].any():
        raise ValueError("a matrix of zeros, as for frames that the tracker lost")
    return matrix


def numbers_in(file: Path) -> FloatArray:
    """The numbers of a small file, [rows, columns]; [0, 0] where the rows are not equally long."""
    try:
        check_file(file, LAYOUT, _LARGEST_FILE)
    except OSError as error:
        raise FormatError(f"{file} cannot be read: {error.strerror}") from error
    lines = [line.split() for line in read_lines(file) if line.strip()]
    if not lines or len({len(line) for line in lines}) != 1:
        return np.zeros((0, 0))
    try:
        return np.array([floats(line) for line in lines])
    except ValueError as error:
        raise FormatError(f"{file}: {error}") from None


def pinhole_camera(matrix: FloatArray) -> SizelessCamera:
    """The camera of a calibration matrix [3, 3] or [4, 4]; raises ValueError where it is none."""
    fx, fy = focal_length(float(matrix[0, 0])), focal_length(float(matrix[1, 1]))
    centre = (float(matrix[0, 2]), float(matrix[1, 2]))
    if not all(abs(value) < LONGEST_FOCAL for value in centre):
        raise ValueError(f"a principal point of {centre}")
    return SizelessCamera(fx, focal_y=None if fx == fy else fy, principal_point=centre)


def focal_length(value: float) -> float:
    """The focal length; raises ValueError where it is none."""
    if not 1 <= value <= LONGEST_FOCAL:
        raise ValueError(f"a focal length of {value:g} pixels")
    return value


def ending_of(image: Path, endings: tuple[str, ...]) -> str:
    """Which of the endings there is a file with; the first of them where there is none."""
    there = (end for end in endings if image.with_name(image.name + end).is_file())
    return next(there, endings[0])


def files_in(folder: Path, endings: frozenset[str] | set[str]) -> list[Path]:
    """The files with these endings, in the order of their names."""
    if not folder.is_dir():
        return []
    return sorted(one for one in folder.iterdir() if one.suffix.lower() in endings)
