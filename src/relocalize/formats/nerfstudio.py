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
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from relocalize import progress
from relocalize.errors import FormatError, GeometryError
from relocalize.formats.distortion import NEGLIGIBLE_PX, three_radial_terms
from relocalize.formats.image_links import place_image
from relocalize.formats.json_file import JsonObject, json_head, read_json_object
from relocalize.formats.pose_rows import PoseRows
from relocalize.formats.posed_images import PosedImages
from relocalize.formats.registration import Registration, SizelessCamera, brown_camera
from relocalize.geometry import Camera, Convention
from relocalize.geometry.conventions import axes_matrix
from relocalize.place import Points, atomic
from relocalize.place.folder import MAP_UNIT

NAME = "nerfstudio or instant-ngp transforms.json"
CONVENTION = Convention("matrix", "world_from_cam", "RUB", "centre")
_FILE = "transforms.json"
_PLY = "sparse_pc.ply"
_SPLIT_FILES = {f"transforms_{split}.json": split for split in ("train", "val", "test")}
_LAYOUT = "file_path and a transform_matrix of [4, 4]"
_INTRINSICS = (
    *("fl_x", "fl_y", "cx", "cy", "w", "h", "k1", "k2", "k3", "k4", "p1", "p2"),
    *("camera_angle_x", "camera_angle_y", "is_fisheye", "distortion_params"),
)
_PERSPECTIVE = ("SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV")
_WIDEST_CORNER, _LARGEST_TERM = 20.0, 1e4  # in focal lengths; what is beyond is no lens
_SHORT = 1e-6  # numbers of a homogeneous matrix's last row, off 0 0 0 1

_Camera = Camera | SizelessCamera | None


def detect(path: Path) -> bool:
    """Whether ``path`` is such a file, or a folder with one."""
    if path.is_dir():
        return any((path / name).is_file() for name in (_FILE, *_SPLIT_FILES))
    if path.suffix.lower() != ".json" or not path.is_file():
        return False
    head = json_head(path)
    named = path.name.startswith("transforms") and '"frames"' in head
    return named or ('"transform_matrix"' in head and '"file_path"' in head)


def read_nerfstudio(path: Path) -> Registration:
    """Read a ``transforms.json``, or a folder with one or with ``transforms_train.json`` and so on.

    Frames that are no poses are left out and named in `Registration.problems`.

    Raises:
        FormatError: there is no such file, it is something else, or its cameras see all around.
    """
    rows = PoseRows(path, CONVENTION, _LAYOUT)
    split: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    remarks: list[str] = []
    for file, side in _files(path):
        meta = read_json_object(file)
        names = _take_frames(rows, meta, file, remarks)
        if side is not None:
            split[side] += names
        for key, listed in split.items():
            listed.extend(_names(meta.array(f"{key}_filenames")))
        remarks += _world_remarks(meta)
    if split["val"] and split["test"] and set(split["val"]) != set(split["test"]):
        remarks.append(f"{len(split['val'])} validation images are neither train nor test")
    known = set(rows.names)
    train = [name for name in split["train"] if name in known]
    test = [name for name in split["test"] or split["val"] if name in known]
    return rows.registration(
        format_name=NAME,
        unit=MAP_UNIT,
        train=tuple(dict.fromkeys(train)),
        test=tuple(dict.fromkeys(test)),
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


def _world_remarks(meta: JsonObject) -> Iterator[str]:
    for key in ("applied_transform", "applied_scale"):
        if key in meta:
            yield (
                f"{key} is not undone: the world is that of the file's poses and points, not that "
                "of the tool from which they were converted"
            )


# -- reading frames --------------------------------------------------------------------------


def _take_frames(rows: PoseRows, meta: JsonObject, file: Path, remarks: list[str]) -> list[str]:
    """The names of the frames that are poses."""
    cameras: dict[tuple[str, ...], _Camera] = {}
    names = []
    frames = meta.array("frames")
    if not frames:
        raise FormatError(f"{file} is no {NAME}: it has no 'frames'")
    for number, value in enumerate(progress.track(frames, "frames", unit="frames")):
        where = f"frame {number}" if rows.path == file else f"{file.name}, frame {number}"
        try:
            frame = JsonObject.of(value)
            name = _name(frame.text("file_path"))
            named = JsonObject(frame.values, name)
            matrix = np.array(named.matrix("transform_matrix", [(4, 4), (3, 4)]))
            if len(matrix) == 4 and np.abs(matrix[3] - [0, 0, 0, 1]).max() > _SHORT:
                raise FormatError(f"{name} has a last row of {matrix[3].tolist()}, want 0 0 0 1")
            camera = _cached_camera(cameras, meta, frame, file.parent / name)
        except (FormatError, GeometryError) as error:
            rows.reject(where, str(error))
            continue
        if rows.add(where, name, matrix[:3, :3], matrix[:3, 3], camera):
            names.append(name)
    if None in cameras.values():
        remarks.append("some frames have no focal length")
    if any(isinstance(camera, SizelessCamera) for camera in cameras.values()):
        remarks.append("cameras have no w and h: camera_angle_x is taken across the longer side")
    return names


def _names(listed: list[object]) -> list[str]:
    return [_name(one) for one in listed if isinstance(one, str)]


def _name(file_path: str) -> str:
    return file_path.replace("\\", "/").removeprefix("./")


def _cached_camera(
    cameras: dict[tuple[str, ...], _Camera], meta: JsonObject, frame: JsonObject, image: Path
) -> _Camera:
    own = tuple(repr(frame.values.get(key)) for key in _INTRINSICS)
    if own not in cameras:
        values = {key: meta.values[key] for key in (*_INTRINSICS, "camera_model") if key in meta}
        values |= {key: frame.values[key] for key in _INTRINSICS if key in frame}
        cameras[own] = _camera(JsonObject(values), image)
    return cameras[own]


def _camera(node: JsonObject, image: Path) -> _Camera:
    """The camera of a frame's and its file's values together; None where they have no focal."""
    model = node.text("camera_model", "").upper()
    if model and model not in (*_PERSPECTIVE, "OPENCV_FISHEYE"):
        raise FormatError(
            f"camera_model {model} cannot be read; relocalize reads {', '.join(_PERSPECTIVE)} and "
            "OPENCV_FISHEYE"
        )
    width, height = _size(node, image)
    focal_x = _focal(node, "fl_x", "camera_angle_x", width)
    focal_y = _focal(node, "fl_y", "camera_angle_y", height) or focal_x
    focal_x = focal_x or focal_y
    if not width and focal_x is None and "camera_angle_x" in node:
        return SizelessCamera(0.5 / math.tan(_angle(node, "camera_angle_x") / 2), "longer side")
    if focal_x is None or focal_y is None:
        return None
    distortion = _distortion(node)
    if not width:
        raise FormatError("no w and h, and no image to take them from")
    pinhole = (focal_x, focal_y, node.number("cx", width / 2), node.number("cy", height / 2))
    k1, k2, k3, k4, p1, p2 = distortion
    if model == "OPENCV_FISHEYE" or node.flag("is_fisheye"):
        return Camera("OPENCV_FISHEYE", width, height, (*pinhole, k1, k2, k3, k4))
    k1, k2, k3 = _three_terms((k1, k2, k3, k4), pinhole, width, height)
    return _declared_camera(model, width, height, pinhole, (k1, k2, p1, p2, k3))


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
    if 0 < corner < _WIDEST_CORNER and max(map(abs, radial)) < _LARGEST_TERM:
        terms, shift = three_radial_terms(radial, corner)
        if shift * max(fx, fy) < NEGLIGIBLE_PX:
            return terms
    raise FormatError(
        f"a perspective lens with k4 = {radial[3]:g}, which no three terms follow to "
        f"{NEGLIGIBLE_PX:g} px; COLMAP's models end at k3"
    )


def _declared_camera(
    model: str,
    width: int,
    height: int,
    pinhole: tuple[float, float, float, float],
    distortion: tuple[float, float, float, float, float],
) -> Camera:
    """The camera in the model that the file declares, where its numbers fit into that."""
    fx, fy, cx, cy = pinhole
    k1, k2, p1, p2, k3 = distortion
    terms = [bool(k1), bool(k2), bool(p1 or p2), bool(k3)]
    if model == "SIMPLE_PINHOLE" and fx == fy and not any(terms):
        return Camera(model, width, height, (fx, cx, cy))
    if model == "PINHOLE" and not any(terms):
        return Camera(model, width, height, pinhole)
    if model == "SIMPLE_RADIAL" and fx == fy and not any(terms[1:]):
        return Camera(model, width, height, (fx, cx, cy, k1))
    if model == "RADIAL" and fx == fy and not any(terms[2:]):
        return Camera(model, width, height, (fx, cx, cy, k1, k2))
    if model == "OPENCV" and not k3:
        return Camera(model, width, height, (*pinhole, k1, k2, p1, p2))
    return brown_camera(width, height, pinhole, distortion)


def _size(node: JsonObject, image: Path) -> tuple[int, int]:
    """Width and height of the file, else of the image beside it, else 0 and 0."""
    stated = "w" in node and "h" in node
    size = (node.whole("w"), node.whole("h")) if stated else _image_size(image)
    if size != (0, 0) and not (0 < size[0] < 1e6 and 0 < size[1] < 1e6):
        raise FormatError(f"images of {size[0]} x {size[1]} pixels")
    return size


def _image_size(image: Path) -> tuple[int, int]:
    if ".." in image.parts:
        return 0, 0
    ends = ("", ".png", ".jpg")
    there = (image.with_name(image.name + end) for end in ends)
    try:
        file = next((one for one in there if one.is_file()), None)
        if file is None:
            return 0, 0
        with Image.open(file) as opened:
            width, height = opened.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return 0, 0
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


def _distortion(node: JsonObject) -> tuple[float, ...]:
    """k1 k2 k3 k4 p1 p2, the order of nerfstudio's ``distortion_params``."""
    if "distortion_params" in node:
        return node.numbers("distortion_params", 6)
    return tuple(node.number(key, 0.0) for key in ("k1", "k2", "k3", "k4", "p1", "p2"))


# -- writing ---------------------------------------------------------------------------------


def write_nerfstudio(posed: PosedImages, out: Path) -> None:
    """Write a nerfstudio data folder: ``transforms.json``, ``images/`` and ``sparse_pc.ply``.

    A split is written as nerfstudio wants it: the test images are also its validation images.

    Raises:
        FormatError: a camera is none that the format has, or an image cannot be placed.
    """
    model = posed.model
    cameras = {number: _camera_values(camera) for number, camera in model.cameras.items()}
    models = {str(values.pop("camera_model")) for values in cameras.values()}
    if "OPENCV_FISHEYE" in models and len(models) > 1:
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
        for name in progress.track(model.images, "images"):
            place_image(posed.files[name], folder / _path(name))
        if len(model.points):
            (folder / _PLY).write_text(_ply(model.points), encoding="utf-8")
        text = json.dumps(meta, indent=1, ensure_ascii=False, allow_nan=False)
        (folder / _FILE).write_text(text + "\n", encoding="utf-8")


def _path(name: str) -> str:
    return (PurePosixPath("images") / name).as_posix()


def _camera_values(camera: Camera) -> dict[str, float | int | str]:
    """The keys of one camera, ``camera_model`` among them."""
    own = camera.params
    if camera.model in {"SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL"}:
        fx, fy, cx, cy = own[0], own[0], own[1], own[2]
        terms = dict(zip(("k1", "k2"), own[3:], strict=False))
    elif camera.model in {"SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE"}:
        fx, fy, cx, cy = own[0], own[0], own[1], own[2]
        terms = {"k1": own[3], "k2": own[4] if len(own) > 4 else 0.0, "k3": 0.0, "k4": 0.0}
    elif camera.model in {"PINHOLE", "OPENCV", "OPENCV_FISHEYE"}:
        fx, fy, cx, cy = own[:4]
        fisheye = camera.model == "OPENCV_FISHEYE"
        keys = ("k1", "k2", "k3", "k4") if fisheye else ("k1", "k2", "p1", "p2")
        terms = dict(zip(keys, own[4:], strict=False))
    elif camera.model == "FULL_OPENCV" and not any(own[9:]):
        fx, fy, cx, cy = own[:4]
        terms = dict(zip(("k1", "k2", "p1", "p2", "k3"), own[4:9], strict=True))
    else:
        raise FormatError(
            f"{_FILE} cannot hold a {camera.model} camera with parameters {list(own)}; "
            f"it has {', '.join(_PERSPECTIVE)} and OPENCV_FISHEYE"
        )
    model = {"FULL_OPENCV": "OPENCV"}.get(camera.model, camera.model)
    if model.endswith("FISHEYE"):
        model, terms = "OPENCV_FISHEYE", terms | {"is_fisheye": True}  # the key of instant-ngp
    pinhole = {"fl_x": fx, "fl_y": fy, "cx": cx, "cy": cy, "w": camera.width, "h": camera.height}
    return {"camera_model": model} | pinhole | terms


def _ply(points: Points) -> str:
    """An ASCII PLY of positions and colors, as nerfstudio's own converter from COLMAP writes it."""
    header = ["ply", "format ascii 1.0", f"element vertex {len(points)}"]
    header += [f"property float {axis}" for axis in "xyz"]
    header += [f"property uint8 {color}" for color in ("red", "green", "blue")]
    header += ["end_header"]
    rows = [
        f"{x:.9g} {y:.9g} {z:.9g} {red} {green} {blue}"
        for (x, y, z), (red, green, blue) in zip(points.positions, points.colors, strict=True)
    ]
    return "\n".join([*header, *rows]) + "\n"
