"""LLFF's ``poses_bounds.npy``, as many NeRFs are given their scenes.

A row of 17 numbers per image: a matrix [3, 5] of the camera's axes in the world, which point down,
right and backwards, its centre, and height, width and focal length in pixels; then two depths. It
has no names: the rows are all images of the scene, sorted by name.
Source: Fyusion/LLFF, README, "Using your own poses without running COLMAP", and
``llff/poses/pose_utils.py``.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from relocalize.errors import FormatError
from relocalize.formats.lenses import pinhole_of
from relocalize.formats.pose_rows import PoseRows
from relocalize.formats.registration import Registration
from relocalize.formats.text import check_file
from relocalize.geometry import Convention
from relocalize.geometry.transforms import FloatArray
from relocalize.place.folder import MAP_UNIT

NAME = "LLFF poses_bounds.npy"
CONVENTION = Convention("matrix", "world_from_cam", "DRB", "centre")
_FILE = "poses_bounds.npy"
_LAYOUT = "[3, 5] of pose and height, width, focal length, then two depths"
_COLUMNS = 17
# As NumPy writes it; its own reader runs a tokenizer on whatever stands there.
_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '(?P<dtype>[<>]f[48])', 'fortran_order': False, "
    rb"'shape': \((?P<rows>[0-9]{1,7}), 17\), \} *\n",
    re.DOTALL,
)
_ENDINGS = {".jpg", ".jpeg", ".png", ".heic", ".webp", ".tif", ".tiff", ".bmp"}


def detect(path: Path) -> bool:
    """Whether ``path`` is such a file, or a folder with one."""
    file = path / _FILE if path.is_dir() else path
    return file.name == _FILE and file.is_file()


def read(path: Path) -> Registration:
    """Read the poses, under names of images where as many lie in ``images`` beside the file."""
    file = path / _FILE if path.is_dir() else path
    table = _table(file)
    rows = PoseRows(file, NAME, CONVENTION, _LAYOUT)
    for number, (name, row) in enumerate(zip(_names(file, len(table)), table, strict=True)):
        with rows.row(f"row {number}"):
            matrix = row[:15].reshape(3, 5)
            height, width, focal = matrix[:, 4].tolist()
            if not (width == round(width) and height == round(height) and focal > 0):
                raise ValueError(f"{name} has {width:g} x {height:g} pixels, focal {focal:g}")
            pinhole = (focal, focal, width / 2, height / 2)
            camera = pinhole_of(round(width), round(height), pinhole)
            rows.add(name, matrix[:, :3], matrix[:, 3], camera)
    registration = rows.registration(
        unit=MAP_UNIT, remarks=["its rows are the images in the order of their names"]
    )
    return replace(registration, in_order=True)


def _table(file: Path) -> FloatArray:
    """The numbers [N, 17]."""
    try:
        check_file(file, _FILE)
        data = file.read_bytes()
    except OSError as error:
        raise FormatError(f"{file} cannot be read: {error.strerror}") from error
    header = _HEADER.match(data)
    if header is None:
        raise FormatError(f"{file} is no {NAME}: want an array [N, {_COLUMNS}] of floats")
    dtype, rows = np.dtype(header["dtype"].decode()), int(header["rows"])
    numbers = data[header.end() :]
    if len(numbers) != rows * _COLUMNS * dtype.itemsize:
        raise FormatError(f"{file} has not {rows} rows of {_COLUMNS} numbers; was it cut off?")
    table = np.frombuffer(numbers, dtype).reshape(rows, _COLUMNS)
    return np.asarray(table, dtype=np.float64)


def _names(file: Path, count: int) -> list[str]:
    """Names of the images, one for each row; of the rows where none lie beside the file."""
    for folder in (file.parent / "images", file.parent):
        if folder.is_dir():
            there = sorted(one.name for one in folder.iterdir())
            names = [one for one in there if Path(one).suffix.lower() in _ENDINGS]
            if len(names) == count:
                return names
    return [f"row {row}" for row in range(count)]
