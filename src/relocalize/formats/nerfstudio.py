"""``transforms.json`` of nerfstudio and instant-ngp, and of the NeRF synthetic scenes.

Camera-to-world matrices with OpenGL axes (x right, y up, z back). The principal point is counted
from the corner of the top-left pixel: nerfstudio shoots the ray of the first pixel through
(0.5, 0.5), and both tools' converters copy COLMAP's numbers.
Sources: nerfstudio's documentation, "Data conventions", and its ``nerfstudio_dataparser.py``,
``cameras.py`` (``get_image_coords``) and ``camera_utils.py`` (distortion, which is OpenCV's);
instant-ngp's "Tips for training NeRF models" and ``scripts/colmap2nerf.py``.

``applied_transform`` and ``applied_scale`` say how the converter moved the world before it wrote
the poses; nerfstudio uses them only to go back to the tool before. The poses and ``ply_file_path``
are both in the file's world, so that is the one that is read, and a remark says so.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np

from relocalize import progress
from relocalize.errors import FormatError
from relocalize.formats.json_file import JsonObject, json_file_in, read_json_object
from relocalize.formats.lenses import (
    LARGEST_TERM,
    NEGLIGIBLE_PX,
    SizelessCamera,
    brown_camera,
    three_radial_terms,
)
from relocalize.formats.pose_rows import PoseRows
from relocalize.formats.posed_images import PosedImages
from relocalize.formats.registration import Registration
from relocalize.geometry import Camera, Convention
from relocalize.geometry.cameras import param_names
from relocalize.geometry.conventions import axes_matrix
from relocalize.place import Points, atomic
from relocalize.place.folder import MAP_UNIT

NAME = "nerfstudio or instant-ngp transforms.json"
CONVENTION = Convention("matrix", "world_from_cam", "RUB", "centre")
_FILE = "transforms.json"
_PLY, _IMAGES = "sparse_pc.ply", "images"
_SPLIT_FILES = {f"transforms_{split}.json": split for split in ("train", "val", "test")}
_LAYOUT = "file_path and a transform_matrix of [4, 4]"
_INTRINSICS = (
    *("fl_x", "fl_y", "cx", "cy", "w", "h", "k1", "k2", "k3", "k4", "p1", "p2"),
    *("camera_angle_x", "camera_angle_y", "is_fisheye", "distortion_params", "camera_model"),
)
_PERSPECTIVE = ("SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV")
_FISHEYE = "OPENCV_FISHEYE"
_WIDEST_CORNER = 20.0  # in focal lengths; what is beyond is no lens

_Camera = Camera | SizelessCamera | None


def detect(path: Path) -> bool:
    """Whether ``path`` is such a file, or a folder with one."""
    if path.is_dir():
        return any((path / name).is_file() for name in (_FILE, *_SPLIT_FILES))
    head = json_file_in(path, _FILE)
    named = path.name.startswith("transforms") and '"frames"' in head
    return named or ('"transform_matrix"' in head and '"file_path"' in head)


def read(path: Path) -> Registration:
    """Read a ``transforms.json``, or a folder with one or with ``transforms_train.json`` and so on.

    Frames that are no poses are left out and named in `Registration.problems`.
    """
    rows = PoseRows(path, NAME, CONVENTION, _LAYOUT)
    split: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    remarks: list[str] = []
    for file, side in _files(path):
        meta = read_json_object(file)
        names = _take_frames(rows, meta, file, remarks)
        if side is not None:
            split[side] += names
        for key, listed in split.items():
            named = meta.array(f"{key}_filenames")
            listed.extend(_name(one) for one in named if isinstance(one, str))
        remarks += [
            f"{key} is not undone: the world is that of the file's poses and points, not that "
            "of the tool from which they were converted"
            for key in ("applied_transform", "applied_scale")
            if key in meta
        ]
    if split["val"] and split["test"] and set(split["val"]) != set(split["test"]):
        remarks.append(f"{len(split['val'])} validation images are neither train nor test")
    test = split["test"] or split["val"]
    return rows.registration(
        unit=MAP_UNIT,
        train=[name for name in dict.fromkeys(split["train"]) if name in rows],
        test=[name for name in dict.fromkeys(test) if name in rows],
        remarks=tuple(dict.fromkeys(remarks)),
    )


def _files(path: Path) -> Iterator[tuple[Path, str | None]]:
    """The files to read, with the split that a file's name makes of its frames."""
    if not path.is_dir():
        yield path, None
    elif (path / _FILE).is_file():
        yield path / _FILE, None
    else:
        there = [(path / name, split) for name, split in _SPLIT_FILES.items()]
        there = [(file, split) for file, split in there if file.is_file()]
        if not there:
            raise FormatError(f"{path} has no {_FILE}")
        yield from there


# -- reading frames --------------------------------------------------------------------------


def _take_frames(rows: PoseRows, meta: JsonObject, file: Path, remarks: list[str]) -> list[str]:
    """The names of the frames that are poses."""
    cameras: dict[str, _Camera] = {}
    names = []
    frames, meta = meta.array("frames"), _unfolded(meta)
    if not frames:
        raise FormatError(f"{file} is no {NAME}: it has no 'frames'")
    for number, value in enumerate(progress.track(frames, "frames", unit="frames")):
        with rows.row(f"frame {number}" if rows.path == file else f"{file.name}, frame {number}"):
            frame = _unfolded(JsonObject.of(value))
            name = _name(frame.text("file_path"))
            named = JsonObject(frame.values, name)
            matrix = np.array(named.matrix("transform_matrix", [(4, 4), (3, 4)]))
            own = repr([frame.values.get(key) for key in _INTRINSICS])
            if own not in cameras:
                cameras[own] = _camera(_joined(meta, frame))
            rows.add_matrix(name, matrix, cameras[own])
            names.append(name)
    if None in cameras.values():
        remarks.append("some frames have no focal length")
    if any(isinstance(camera, SizelessCamera) for camera in cameras.values()):
        remarks.append("cameras have no w and h: their size is that of the images")
    return names


def _name(file_path: str) -> str:
    return file_path.replace("\\", "/").removeprefix("./")


def _unfolded(node: JsonObject) -> JsonObject:
    """The same with what scripts put into ``intrinsics``: such values, or a matrix [3, 3]."""
    inner = node.values.get("intrinsics")
    if isinstance(inner, list) and [len(row) for row in inner if isinstance(row, list)] == [3] * 3:
        (fx, _, cx), (_, fy, cy), _ = node.matrix("intrinsics", [(3, 3)])
        inner = {"fl_x": fx, "fl_y": fy, "cx": cx, "cy": cy}
    return JsonObject({**inner, **node.values}, node.where) if isinstance(inner, dict) else node


def _joined(meta: JsonObject, frame: JsonObject) -> JsonObject:
    """The intrinsics of a frame, and of its file where it has none."""
    values = {key: meta.values[key] for key in _INTRINSICS if key in meta}
    return JsonObject(values | {key: frame.values[key] for key in _INTRINSICS if key in frame})


def _camera(node: JsonObject) -> _Camera:
    """The camera of a frame's and its file's values together; None where they have no focal."""
    model = node.text("camera_model", "").upper()
    if model and model not in (*_PERSPECTIVE, _FISHEYE):
        raise FormatError(
            f"camera_model {model} cannot be read; relocalize reads {', '.join(_PERSPECTIVE)} and "
            f"{_FISHEYE}"
        )
    if "distortion_params" in node:
        k1, k2, k3, k4, p1, p2 = node.numbers("distortion_params", 6)
    else:
        k1, k2, k3, k4, p1, p2 = (
            node.number(key, 0.0) for key in ("k1", "k2", "k3", "k4", "p1", "p2")
        )
    fisheye = model == _FISHEYE or node.flag("is_fisheye")
    width, height = _size(node)
    if not width:
        if k4 and not fisheye:
            raise FormatError("k4 without w and h")
        return _sizeless(node, (k1, k2, k3, k4) if fisheye else (k1, k2, p1, p2, k3), fisheye)
    focal_x = _focal(node, "fl_x", "camera_angle_x", width)
    focal_y = _focal(node, "fl_y", "camera_angle_y", height) or focal_x
    focal_x = focal_x or focal_y
    if focal_x is None or focal_y is None:
        return None
    pinhole = (focal_x, focal_y, node.number("cx", width / 2), node.number("cy", height / 2))
    if fisheye:
        return Camera(_FISHEYE, width, height, (*pinhole, k1, k2, k3, k4))
    k1, k2, k3 = _three_terms((k1, k2, k3, k4), pinhole, width, height)
    # In the model that the file declares, where its numbers fit into that.
    names = param_names(model) if model else ()
    terms = {"k1": k1, "k2": k2, "p1": p1, "p2": p2, "k3": k3}
    values = dict(zip(("fx", "fy", "cx", "cy"), pinhole, strict=True)) | terms | {"f": focal_x}
    fits = all(key in names for key, term in terms.items() if term)
    if model and fits and (focal_x == focal_y or "fx" in names):
        return Camera(model, width, height, tuple(values[key] for key in names))
    return brown_camera(width, height, pinhole, (k1, k2, p1, p2, k3))


def _sizeless(node: JsonObject, distortion: tuple[float, ...], fisheye: bool) -> _Camera:
    """The camera of images whose size the file does not say.

    An image that lies beside the file does not say it either: whether the poses are of its pixels
    as stored or upright, all images tell together.
    """
    centre = None
    if "cx" in node and "cy" in node:
        centre = (node.number("cx"), node.number("cy"))
    lens = SizelessCamera(1.0, distortion=distortion, principal_point=centre, fisheye=fisheye)
    if "fl_x" in node or "fl_y" in node:
        focal_x, focal_y = node.number("fl_x", 0.0), node.number("fl_y", 0.0)
        focal_x, focal_y = focal_x or focal_y, focal_y or focal_x
        if not all(1e-3 < one < 1e9 for one in (focal_x, focal_y)):
            raise FormatError(f"a focal length of {focal_x:g} and {focal_y:g} pixels")
        return replace(lens, focal=focal_x, focal_y=None if focal_x == focal_y else focal_y)
    if "camera_angle_x" in node:
        # Across the width, of a portrait image too (instant-ngp, "Preparing new NeRF datasets").
        angle = _angle(node, "camera_angle_x")
        return replace(lens, focal=0.5 / math.tan(angle / 2), unit="width")
    return None


def _three_terms(
    radial: tuple[float, float, float, float],
    pinhole: tuple[float, float, float, float],
    width: int,
    height: int,
) -> tuple[float, float, float]:
    """k1, k2, k3 that do what k1, k2, k3, k4 do, as far as an image can tell."""
    if radial[3] == 0:
        return radial[:3]
    fx, fy, cx, cy = pinhole
    corner = math.hypot(max(cx, width - cx) / fx, max(cy, height - cy) / fy)
    if 0 < corner < _WIDEST_CORNER and max(map(abs, radial)) < LARGEST_TERM:
        terms, shift = three_radial_terms(radial, corner)
        if shift * max(fx, fy) < NEGLIGIBLE_PX:
            return terms
    raise FormatError(
        f"a perspective lens with k4 = {radial[3]:g}, which no three terms follow to "
        f"{NEGLIGIBLE_PX:g} px; COLMAP's models end at k3"
    )


def _size(node: JsonObject) -> tuple[int, int]:
    """Width and height, or 0 and 0 where the file does not say them."""
    if not ("w" in node and "h" in node):
        return 0, 0
    width, height = node.whole("w"), node.whole("h")
    if (width, height) != (0, 0) and not (0 < width < 1e6 and 0 < height < 1e6):
        raise FormatError(f"images of {width} x {height} pixels")
    return width, height


def _focal(node: JsonObject, key: str, angle: str, size: int) -> float | None:
    if key in node:
        return node.number(key)
    if angle in node and size:
        return 0.5 * size / math.tan(_angle(node, angle) / 2)
    return None


def _angle(node: JsonObject, key: str) -> float:
    angle = node.number(key)
    if not 1e-6 < angle < math.pi - 1e-6:
        raise FormatError(f"{key} is {angle:g}; want radians between 0 and pi")
    return angle


# -- writing ---------------------------------------------------------------------------------


def write(posed: PosedImages, out: Path) -> None:
    """Write a nerfstudio data folder: ``transforms.json``, ``images/`` and ``sparse_pc.ply``.

    A split is written as nerfstudio wants it: the test images are also its validation images.
    """
    model = posed.model
    cameras = {number: _camera_values(camera) for number, camera in model.cameras.items()}
    models = {str(values.pop("camera_model")) for values in cameras.values()}
    if _FISHEYE in models and len(models) > 1:
        raise FormatError(
            f"{_FILE} has one camera model for all images, and these have {', '.join(models)}; "
            "export the captures one by one"
        )
    meta: dict[str, object] = {"camera_model": models.pop() if len(models) == 1 else "OPENCV"}
    shared = next(iter(cameras.values())) if len(cameras) == 1 else {}
    meta |= shared
    axes = axes_matrix(CONVENTION.camera_axes).T
    frames = []
    for name, image in model.images.items():
        matrix = image.world_from_cam.matrix
        matrix[:3, :3] = matrix[:3, :3] @ axes
        own = {} if shared else cameras[image.camera_id]
        frames.append({"file_path": _path(name), "transform_matrix": matrix.tolist()} | own)
    meta["frames"] = frames
    if posed.train or posed.test:
        for key, names in (("train", posed.train), ("val", posed.test), ("test", posed.test)):
            meta[f"{key}_filenames"] = [_path(name) for name in names]
    if len(model.points):
        meta["ply_file_path"] = _PLY
    with atomic.new_folder(out) as folder:
        posed.place(folder / _IMAGES)
        if len(model.points):
            (folder / _PLY).write_text(_ply(model.points), encoding="utf-8")
        text = json.dumps(meta, indent=1, ensure_ascii=False, allow_nan=False)
        (folder / _FILE).write_text(text + "\n", encoding="utf-8")


def _path(name: str) -> str:
    return (PurePosixPath(_IMAGES) / name).as_posix()


def _camera_values(camera: Camera) -> dict[str, float | int | str]:
    """The keys of one camera, ``camera_model`` among them."""
    terms = dict(zip(param_names(camera.model), camera.params, strict=True))
    model = camera.model
    if model == "FULL_OPENCV" and not any(terms.pop(key) for key in ("k4", "k5", "k6")):
        model = "OPENCV"
    if model in {"SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE", _FISHEYE}:
        model = _FISHEYE
        terms = dict.fromkeys(("k1", "k2", "k3", "k4"), 0.0) | terms
        terms["is_fisheye"] = True  # the key of instant-ngp
    elif model not in _PERSPECTIVE:
        raise FormatError(
            f"{_FILE} cannot hold a {camera.model} camera with parameters {list(camera.params)}; "
            f"it has {', '.join(_PERSPECTIVE)} and {_FISHEYE}"
        )
    fl_y = terms.pop("fy", terms.get("f", 0.0))
    fl_x = terms.pop("fx", terms.pop("f", 0.0))
    return {
        "camera_model": model,
        "fl_x": fl_x,
        "fl_y": fl_y,
        "w": camera.width,
        "h": camera.height,
        **terms,
    }


def _ply(points: Points) -> str:
    """An ASCII PLY of positions and colors, as nerfstudio's own converter from COLMAP writes it."""
    header = ["ply", "format ascii 1.0", f"element vertex {len(points)}"]
    # Numbers in full: world coordinates can have seven digits before the point.
    header += [f"property double {axis}" for axis in "xyz"]
    header += [f"property uint8 {color}" for color in ("red", "green", "blue")]
    header += ["end_header"]
    rows = [
        f"{x!r} {y!r} {z!r} {red} {green} {blue}"
        for (x, y, z), (red, green, blue) in zip(
            points.positions.tolist(), points.colors, strict=True
        )
    ]
    return "\n".join([*header, *rows]) + "\n"
