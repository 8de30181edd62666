"""A plain table of poses that says what it means: for spreadsheets, scripts, and other tools.

    # convention: wxyz,cam_from_world,RDF,translation
    # unit: metre
    name,qw,qx,qy,qz,tx,ty,tz,width,height,camera_model,fx,fy,cx,cy,k1,k2,p1,p2
    hall/001.jpg,0.99,0.01,0.1,0.02,0.4,-0.1,2.5,640,480,OPENCV,525,525,320,240,0.01,0,0,0

The convention is a `Convention`'s name. Rotations are ``qw qx qy qz``, ``r00 ... r22`` (or ``r11
... r33``) row by row,
or three angles (``yaw`` or ``heading``, ``pitch``, ``roll``; ``omega``, ``phi``, ``kappa``; ``rx``,
``ry``, ``rz``), which are angles 0, 1 and 2 of the convention in the order given here; positions
``tx ty tz`` or ``x y z``. Of cameras, ``camera_model`` is COLMAP's, its parameters are columns, and
the principal point counts from the corner of the top-left pixel; without it the model is the
smallest that holds the columns, ``f`` or ``focal_px`` standing for ``fx`` and ``fy``, and k1 k2 p1
p2 k3 k4 k5 k6 mean what OpenCV means by them. ``split`` says ``train`` or ``test``. All but a name,
a rotation and a position may be missing.

Where no convention is declared, the names are read as they are most often meant, and a remark says
that this has to be proven.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from relocalize.errors import FormatError, GeometryError
from relocalize.formats.lenses import SizelessCamera, brown_camera
from relocalize.formats.pose_rows import PoseRows
from relocalize.formats.posed_images import PosedImages
from relocalize.formats.registration import Registration
from relocalize.formats.table import Header, find_header, read_table
from relocalize.formats.text import first_lines
from relocalize.geometry import Camera, Convention
from relocalize.geometry.cameras import param_names
from relocalize.place import PosedImage, atomic
from relocalize.place.folder import MAP_UNIT, METRE

NAME = "plain CSV"
CONVENTION = Convention("wxyz", "cam_from_world", "RDF", "translation")
_FILE = "poses.csv"
_IMAGES = "images"

_NAME = ("name", "image", "image_name", "filename", "file_name", "file", "frame")
_QUATERNION = ("qw", "qx", "qy", "qz")
_MATRIX = tuple(f"r{row}{column}" for row in range(3) for column in range(3))
_MATRIX_FROM_1 = tuple(f"r{row}{column}" for row in "123" for column in "123")
_YAW, _OMEGA, _RX = ("yaw", "pitch", "roll"), ("omega", "phi", "kappa"), ("rx", "ry", "rz")
_POSITIONS = _TRANSLATION, _CENTRE = ("tx", "ty", "tz"), ("x", "y", "z")
# What the names mean most often: COLMAP's, a camera's pose in the world, photogrammetry's.
_USUAL: Mapping[tuple[str, ...], tuple[str, str, str]] = {
    _QUATERNION: ("wxyz", "world_from_cam", "RDF"),
    _MATRIX: ("matrix", "world_from_cam", "RDF"),
    _MATRIX_FROM_1: ("matrix", "world_from_cam", "RDF"),
    _OMEGA: ("euler:x0y1z2:deg", "world_from_cam", "RUB"),
    _YAW: ("euler:-z0x1y2:deg", "world_from_cam", "RUB"),
    _RX: ("euler:z2y1x0:deg", "world_from_cam", "RDF"),
}
# COLMAP's models and their parameters in its order, by column.
_MODELS = {
    model: tuple("focal_px" if name == "f" else name for name in param_names(model))
    for model in (
        *("SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "SIMPLE_RADIAL_FISHEYE"),
        *("RADIAL_FISHEYE", "OPENCV", "OPENCV_FISHEYE", "FULL_OPENCV", "THIN_PRISM_FISHEYE"),
    )
}
_BROWN, _RATIONAL = ("k1", "k2", "p1", "p2", "k3"), ("k4", "k5", "k6")
_PARAMETERS = ("focal_px", "fx", "fy", "cx", "cy", *_BROWN, *_RATIONAL, "sx1", "sy1")
_SIZE = ("width", "height")
_ALIASES: Mapping[str, tuple[str, ...]] = {
    **{key: (key,) for key in (*_QUATERNION, *_MATRIX, *_MATRIX_FROM_1)},
    **{key: (key,) for key in (*_YAW, *_OMEGA, *_RX)},
    **{key: (key,) for key in (*_TRANSLATION, *_CENTRE)},
    **{key: (key,) for key in (*_PARAMETERS, *_SIZE, "camera_model", "split")},
    "name": _NAME,
    "yaw": ("yaw", "heading"),
    "z": ("z", "alt"),
    "focal_px": ("focal_px", "f"),
}
_WANT = "name, qw qx qy qz (or r00 to r22, or three angles), and tx ty tz (or x y z)"
_DECLARES = "convention:"
_UNIT = "unit:"
_LARGEST = 1e9  # of a focal length or side in pixels


def detect(path: Path) -> bool:
    """Whether a header names such columns; angles need a declared convention.

    Undeclared heading, pitch and roll, or omega, phi and kappa, are RealityCapture's.
    """
    lines = first_lines(path / _FILE if path.is_dir() else path)
    header = find_header(lines, _ALIASES, _is_header)
    if header is None:
        return False
    if _declared(header, _DECLARES) is not None:
        return True
    # COLMAP's images.txt has a comment that reads like a header, with the name at its end.
    commented = lines[header.line - 1].lstrip().startswith("#")
    if commented and header.columns[0] not in _NAME:
        return False
    return _first_of(_USUAL, header.at) not in {_YAW, _OMEGA}


def read(path: Path) -> Registration:
    """Read a table, or the folder with ``poses.csv`` that `write` makes."""
    file = path / _FILE if path.is_dir() else path
    header, lines = read_table(file, _ALIASES, _is_header, _WANT)
    rotation, position = _first_of(_USUAL, header.at), _first_of(_POSITIONS, header.at)
    convention, remarks = _convention(file, header, rotation, position)
    needs_size = [key for key in _RATIONAL if key in header.at]
    if needs_size and not set(_SIZE) <= header.at.keys():
        remarks.append(f"{', '.join(needs_size)} are not used: they need columns width and height")
    if convention.rotation == "xyzw":
        rotation = (*rotation[1:], rotation[0])
    rows = PoseRows(file, NAME, convention, _WANT)
    for where, line in lines:
        with rows.row(where):
            cells, others = header.cells(line)
            rows.add(
                cells["name"],
                np.reshape([header.number(cells[key]) for key in rotation], convention.numbers),
                [header.number(cells[key]) for key in position],
                _camera(header, cells),
                side=cells.get("split", "").lower(),
                columns=others,
            )
    unit = METRE if _declared(header, _UNIT) == METRE else MAP_UNIT
    return rows.registration(
        unit=unit,
        scale_from="the imported file says metre" if unit == METRE else None,
        declared=_declared(header, _DECLARES) is not None,
        remarks=remarks,
    )


def write(posed: PosedImages, out: Path) -> None:
    """Write a table to ``out`` where that ends in ``.csv``, else a folder with images as well.

    The folder has ``poses.csv``, and the images under their names in ``images/``. Points are
    not written.
    """
    text = _table(posed)
    if out.suffix.lower() == ".csv":
        atomic.write_text(out, text)
        return
    with atomic.new_folder(out) as folder:
        atomic.write_text(folder / _FILE, text)
        posed.place(folder / _IMAGES)


# -- reading ---------------------------------------------------------------------------------


def _is_header(at: Mapping[str, int]) -> bool:
    return "name" in at and bool(_first_of(_USUAL, at)) and bool(_first_of(_POSITIONS, at))


def _first_of(sets: Iterable[tuple[str, ...]], at: Mapping[str, int]) -> tuple[str, ...]:
    """The first set of columns that the header has; empty where it has none."""
    return next((one for one in sets if all(key in at for key in one)), ())


def _declared(header: Header, key: str) -> str | None:
    """What a comment before the header says after ``key``."""
    said = [line for line in header.comments if line.lower().startswith(key)]
    return said[0][len(key) :].strip() if said else None


def _convention(
    file: Path, header: Header, rotation: tuple[str, ...], position: tuple[str, ...]
) -> tuple[Convention, list[str]]:
    """The declared convention, or the usual one and a remark."""
    declared = _declared(header, _DECLARES)
    if declared is not None:
        try:
            convention = Convention.parse(declared)
        except GeometryError as error:
            raise FormatError(f"{file}: {error}") from None
        kinds = {_QUATERNION: "quaternion", _MATRIX: "matrix", _MATRIX_FROM_1: "matrix"}
        wants = {(4,): "quaternion", (3, 3): "matrix"}.get(convention.numbers, "three angles")
        has = kinds.get(rotation, "three angles")
        if has != wants:
            raise FormatError(
                f"{file} declares {convention.name}, whose rotation is a {wants}, and has columns "
                f"{', '.join(rotation)}"
            )
        return convention, []
    numbers, direction, axes = _USUAL[rotation]
    if position == _TRANSLATION:
        direction = "cam_from_world"
    convention = Convention(
        numbers, direction, axes, "translation" if position == _TRANSLATION else "centre"
    )
    return convention, [
        f"its convention is not declared and was read as {convention.name}, which is not proven: "
        "prove it against the images (relocalize check), or declare it in a first line "
        "'# convention: NAME'"
    ]


def _camera(header: Header, cells: Mapping[str, str]) -> Camera | SizelessCamera | None:
    """The row's camera; None where it has no focal length.

    Raises:
        ValueError: a cell is no number, or no possible one.
        GeometryError: the numbers are no camera of the model.
    """
    given = [key for key in (*_PARAMETERS, *_SIZE) if cells.get(key)]
    values = {key: header.number(cells[key]) for key in given}
    model = cells.get("camera_model", "")
    if model:
        return _camera_of_model(model.upper(), values)
    fx = values.get("fx", values.get("focal_px"))
    if fx is None:
        return None
    fy = values.get("fy", fx)
    if not (0 < fx <= _LARGEST and 0 < fy <= _LARGEST):
        raise ValueError(f"a focal length of {fx:g} and {fy:g} pixels")
    brown = tuple(values.get(key, 0.0) for key in _BROWN)
    distortion = brown if any(key in values for key in _BROWN) else ()
    rational = tuple(values.get(key, 0.0) for key in _RATIONAL)
    if "width" not in values or "height" not in values:
        centre = (values["cx"], values["cy"]) if {"cx", "cy"} <= values.keys() else None
        if max(map(abs, centre or (0,))) > _LARGEST:
            raise ValueError(f"a principal point of {centre}")
        focal_y = None if fy == fx else fy
        return SizelessCamera(fx, "pixel", focal_y, distortion=distortion, principal_point=centre)
    width, height = _side(values["width"]), _side(values["height"])
    pinhole = (fx, fy, values.get("cx", width / 2), values.get("cy", height / 2))
    if any(rational):
        return Camera("FULL_OPENCV", width, height, (*pinhole, *brown, *rational))
    return brown_camera(width, height, pinhole, distortion)


def _camera_of_model(model: str, values: Mapping[str, float]) -> Camera:
    if model not in _MODELS:
        raise ValueError(f"camera model {model[:40]!r}; want {', '.join(_MODELS)}")
    missing = [key for key in (*_SIZE, *_MODELS[model]) if key not in values]
    if missing:
        raise ValueError(f"a {model} camera without {', '.join(missing)}")
    params = tuple(values[key] for key in _MODELS[model])
    return Camera(model, _side(values["width"]), _side(values["height"]), params)


def _side(value: float) -> int:
    if not 1 <= value <= _LARGEST or value != int(value):
        raise ValueError(f"an image's side of {value:g} pixels")
    return int(value)


# -- writing ---------------------------------------------------------------------------------


def _table(posed: PosedImages) -> str:
    images = list(posed.model.images.values())
    models = {image.camera.model for image in images}
    for model in sorted(models - _MODELS.keys()):
        raise FormatError(f"a plain CSV has no columns for {model} cameras")
    used = {key for model in models for key in _MODELS[model]}
    parameters = [key for key in _PARAMETERS if key in used]
    split = {**dict.fromkeys(posed.train, "train"), **dict.fromkeys(posed.test, "test")}
    columns = ["name", *_QUATERNION, *_TRANSLATION, *_SIZE, "camera_model", *parameters]
    columns += ["split"] if split else []
    columns += ["time"] if posed.times else []
    rows = [f"# {_DECLARES} {CONVENTION.name}", f"# {_UNIT} {posed.unit}", ",".join(columns)]
    for image in images:
        cells = _cells(image, parameters)
        cells += [split.get(image.name, "")] if split else []
        cells += [_exact(posed.times.get(image.name))] if posed.times else []
        rows.append(",".join(cells))
    return "\n".join(rows) + "\n"


def _cells(image: PosedImage, parameters: Sequence[str]) -> list[str]:
    pose, camera = image.cam_from_world, image.camera
    params = dict(zip(_MODELS[camera.model], camera.params, strict=True))
    return [
        _quoted(image.name),
        *map(_exact, pose.quat_wxyz),
        *map(_exact, pose.translation),
        str(camera.width),
        str(camera.height),
        camera.model,
        *(_exact(params.get(key)) for key in parameters),
    ]


def _exact(value: float | None) -> str:
    """The shortest digits, 17 at most, that are read back to the last bit; nothing for None."""
    return "" if value is None else repr(float(value))


def _quoted(name: str) -> str:
    if len(name.splitlines()) != 1:
        raise FormatError(f"image {name!r} has a line break in its name, which no table can hold")
    if name != name.strip() or any(letter in name for letter in '",#'):
        return '"' + name.replace('"', '""') + '"'
    return name
