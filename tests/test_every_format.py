"""Every format of the registry: coordinates of 5e6 m come back whole, and names of all kinds.

A format that can be written is here by itself; one that is only read needs a file in `MAKERS`.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from relocalize.formats import (
    alicevision,
    bundler,
    gaussian_splatting,
    kitti,
    llff,
    matrix_rows,
    navvis,
    nvm,
    polycam,
    read_registration,
)
from relocalize.formats.images import find_images
from relocalize.formats.posed_images import PosedImages
from relocalize.formats.registry import FORMATS
from relocalize.geometry import Camera, Convention, Rigid3, position_error, rotation_error_deg
from relocalize.geometry.conventions import axes_matrix
from relocalize.geometry.transforms import rotvec_from_rotation
from relocalize.place import MapModel, Points, PosedImage

CAMERA = Camera("SIMPLE_PINHOLE", 64, 48, (61.5, 32.0, 24.0))
UTM = np.array([458123.25, 5734211.75, 98.5])
COMPOSED = "b\u00e4r.0001.JPG"
DECOMPOSED = unicodedata.normalize("NFD", "\u00fcber.0001.x.JPG")
NAMES = ["a.b/c.d.png", f"sub/{COMPOSED}", DECOMPOSED, "U.PNG", "Room 1/frame 1.jpg"]
# What a format cannot hold: rows that part at blanks, files of one folder.
NO_BLANKS = {"colmap-text", "cambridge", "tum", "pose-list", "matrix-rows"}
ONE_FOLDER = {"ace", "polycam", "navvis", "llff", "mvsnet"}
Poses = dict[str, Rigid3]
# What is given to the reader, and the image of each name where the format has names of its own.
Made = tuple[Path, dict[str, str]]


def rotation_at(row: int) -> np.ndarray:
    return Rotation.from_euler("xyz", [70 + 3 * row, 20 * row - 35, 11 * row], degrees=True)


POSES = {
    name: Rigid3(rotation_at(row).as_matrix(), UTM + np.array([1.1, 0.3 * row, 0.07]) * row)
    for row, name in enumerate(NAMES)
}


def spaced(numbers: Iterable[float], by: str = " ") -> str:
    return by.join(repr(float(number)) for number in numbers)


def numbers_of(convention: Convention, pose: Rigid3) -> tuple[np.ndarray, np.ndarray]:
    """Rotation and position of a pose as a file of this convention has them."""
    rotation = pose.rotation @ axes_matrix(convention.camera_axes).T
    stated = rotation.T if convention.direction == "cam_from_world" else rotation
    quat = Rigid3(stated, np.zeros(3)).quat_wxyz
    kinds = {"matrix": stated, "wxyz": quat, "xyzw": np.roll(quat, -1)}
    position = pose.translation if convention.position == "centre" else -stated @ pose.translation
    return kinds[convention.rotation], position


def rows_of(matrix: np.ndarray) -> str:
    return "".join(spaced(row) + "\n" for row in matrix)


def text(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


def pinhole(*, by_rows: bool) -> list[float]:
    matrix = np.array([[61.5, 0, 32], [0, 61.5, 24], [0, 0, 1]])
    return (matrix if by_rows else matrix.T).ravel().tolist()


def ace(folder: Path, poses: Poses) -> Made:
    for name, pose in poses.items():
        stem = name.rpartition(".")[0]
        text(folder / "train" / "poses" / f"{stem}.txt", rows_of(pose.matrix))
        text(folder / "train" / "calibration" / f"{stem}.txt", "61.5\n")
        text(folder / "train" / "rgb" / name, "")
    return folder, {name: f"train/rgb/{name}" for name in poses}


def scannet(folder: Path, poses: Poses) -> Made:
    (folder / "color").mkdir(parents=True)
    matrix = np.array(pinhole(by_rows=True)).reshape(3, 3)
    text(folder / "intrinsic" / "intrinsic_color.txt", rows_of(matrix))
    for row, pose in enumerate(poses.values()):
        text(folder / "pose" / f"{row}.txt", rows_of(pose.matrix))
    return folder, {name: f"color/{row}.jpg" for row, name in enumerate(poses)}


def polycam_scan(folder: Path, poses: Poses) -> Made:
    lens = {"fx": 61.5, "fy": 61.5, "cx": 32, "cy": 24, "width": 64, "height": 48}
    for name, pose in poses.items():
        rotation, centre = numbers_of(polycam.CONVENTION, pose)
        matrix = np.column_stack([rotation, centre])
        values = {f"t_{i}{j}": matrix[i, j] for i in range(3) for j in range(4)}
        stem = name.rpartition(".")[0]
        text(folder / "keyframes" / "cameras" / f"{stem}.json", json.dumps(values | lens))
    return folder, {}


def record3d(folder: Path, poses: Poses) -> Made:
    rows = []
    for pose in poses.values():
        quat, centre = numbers_of(Convention("xyzw", "world_from_cam", "RUB", "centre"), pose)
        rows.append([*quat, *centre])
    values = {"w": 64, "h": 48, "K": pinhole(by_rows=False), "poses": rows}
    file = text(folder / "metadata", json.dumps(values))
    return file.parent, {name: f"rgbd/{row}.jpg" for row, name in enumerate(poses)}


def scanner_app(folder: Path, poses: Poses) -> Made:
    for row, pose in enumerate(poses.values()):
        values = {
            "cameraPoseARFrame": (pose.matrix @ np.diag([1.0, -1, -1, 1])).ravel().tolist(),
            "intrinsics": pinhole(by_rows=True),
        }
        text(folder / f"frame_{row:05d}.json", json.dumps(values))
        Image.new("RGB", (64, 48)).save(folder / f"frame_{row:05d}.jpg")
    return folder, {name: f"frame_{row:05d}.jpg" for row, name in enumerate(poses)}


def arkit_scenes(folder: Path, poses: Poses) -> Made:
    rows, images = [], {}
    for row, (name, pose) in enumerate(poses.items()):
        found = pose.inverse()
        numbers = [100.5 + row, *rotvec_from_rotation(found.rotation), *found.translation]
        rows.append(spaced(numbers))
        images[name] = f"lowres_wide/4775_{100.5 + row:.3f}.png"
        (folder / images[name]).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 48)).save(folder / images[name])
        lens = folder / "lowres_wide_intrinsics" / f"4775_{100.5 + row:.3f}.pincam"
        text(lens, "64 48 61.5 61.5 32 24")
    text(folder / "lowres_wide.traj", "\n".join(rows))
    return folder, images


def opensfm(folder: Path, poses: Poses) -> Made:
    lens = {"projection_type": "perspective", "width": 64, "height": 48, "focal": 61.5 / 64}
    shots = {
        name: {
            "rotation": rotvec_from_rotation(pose.rotation.T).tolist(),
            "translation": pose.inverse().translation.tolist(),
            "camera": "c",
        }
        for name, pose in poses.items()
    }
    content = json.dumps([{"cameras": {"c": lens}, "shots": shots}], ensure_ascii=False)
    return text(folder / "reconstruction.json", content), {}


def openmvg(folder: Path, poses: Poses) -> Made:
    views, extrinsics = [], []
    for row, (name, pose) in enumerate(poses.items()):
        below, _, file = name.rpartition("/")
        data: dict[str, Any] = {"local_path": below, "filename": file, "width": 64, "height": 48}
        data |= {"id_view": row, "id_intrinsic": 0, "id_pose": row}
        wrapper = {"id": 2147483649 + row, "data": data}
        views.append({"key": row, "value": {"polymorphic_id": 1073741824, "ptr_wrapper": wrapper}})
        value = {"rotation": pose.rotation.T.tolist(), "center": pose.translation.tolist()}
        extrinsics.append({"key": row, "value": value})
    lens = {"width": 64, "height": 48, "focal_length": 61.5, "principal_point": [31.5, 23.5]}
    value = {
        "polymorphic_id": 2147483649,
        "polymorphic_name": "pinhole",
        "ptr_wrapper": {"id": 1, "data": lens},
    }
    content = {
        "sfm_data_version": "0.3",
        "root_path": "/x",
        "views": views,
        "intrinsics": [{"key": 0, "value": value}],
        "extrinsics": extrinsics,
    }
    return text(folder / "sfm_data.json", json.dumps(content, ensure_ascii=False)), {}


def navvis_scan(folder: Path, poses: Poses) -> Made:
    rows, images = [], {}
    for name, pose in poses.items():
        quat, centre = numbers_of(navvis.CONVENTION, pose)
        turns = "".join(f"<{k}>{v!r}</{k}>" for k, v in zip("wxyz", quat.tolist(), strict=True))
        moves = "".join(f"<{k}>{v!r}</{k}>" for k, v in zip("xyz", centre.tolist(), strict=True))
        stem = name.rpartition(".")[0]
        images[name] = f"scan/{stem}.jpg"
        rows.append(
            f"<pose><id>{stem}</id><translation>{moves}</translation>"
            f"<rotation>{turns}</rotation></pose>"
        )
    return text(folder / "scan_poses.xml", f"<poses>{''.join(rows)}</poses>"), images


def euroc(folder: Path, poses: Poses) -> Made:
    rows, images = [], {}
    for row, (name, pose) in enumerate(poses.items()):
        stamp = 1403715524907143168 + 50_000_000 * row
        rows.append(f"{stamp},{spaced([*pose.translation, *pose.quat_wxyz], ',')}")
        images[name] = f"{stamp}.png"
    return text(folder / "data.csv", "\n".join(rows)), images


def kitti_rows(folder: Path, poses: Poses) -> Made:
    rows = [
        spaced(np.column_stack(numbers_of(kitti.CONVENTION, p)).ravel()) for p in poses.values()
    ]
    images = {name: f"{row:06d}.png" for row, name in enumerate(poses)}
    return text(folder / "00.txt", "\n".join(rows)), images


def named_matrices(folder: Path, poses: Poses) -> Made:
    rows = []
    for name, pose in poses.items():
        rotation, centre = numbers_of(matrix_rows.CONVENTION, pose)
        rows.append(f"{name} {spaced(np.column_stack([rotation, centre]).ravel())}")
    return text(folder / "poses.txt", "\n".join(rows)), {}


def pose_list(folder: Path, poses: Poses) -> Made:
    rows = []
    for name, pose in poses.items():
        back = pose.inverse()
        rows.append(f"{name} {spaced([*back.quat_wxyz, *back.translation, 61.5])}")
    return text(folder / "poses.txt", "\n".join(rows)), {}


def reality_capture(folder: Path, poses: Poses) -> Made:
    rows = ["#name,x,y,alt,heading,pitch,roll"]
    for name, pose in poses.items():
        # Epic's forum, "Registration export and camera orientations", EulerRotation, solved.
        R = pose.rotation.T
        heading = np.arctan2(-R[1, 0], -R[1, 1])
        pitch = np.arctan2(-R[1, 2], np.hypot(R[1, 0], R[1, 1]))
        roll = np.arctan2(-R[0, 2], -R[2, 2])
        numbers = [*pose.translation, *np.degrees([heading, pitch, roll])]
        rows.append(f'"{name}",{spaced(numbers, ",")}')
    return text(folder / "poses.csv", "\n".join(rows)), {}


def metashape(folder: Path, poses: Poses) -> Made:
    cameras = "".join(
        f'<camera id="{row}" sensor_id="0" label={quoteattr(name)}><transform>'
        f"{spaced(pose.matrix.ravel())}</transform></camera>"
        for row, (name, pose) in enumerate(poses.items())
    )
    sensor = (
        '<sensor id="0" type="frame"><resolution width="64" height="48"/>'
        "<calibration><f>61.5</f></calibration></sensor>"
    )
    chunk = f"<sensors>{sensor}</sensors><cameras>{cameras}</cameras>"
    content = f'<document version="2.0.0"><chunk>{chunk}</chunk></document>'
    return text(folder / "cameras.xml", content), {}


def sidecars(folder: Path, poses: Poses) -> Made:
    for name, pose in poses.items():
        content = (
            '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
            'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
            'xmlns:xcr="http://www.capturingreality.com/ns/xcr/1.1#" xcr:FocalLength35mm="34">'
            f"<xcr:Rotation>{spaced(pose.rotation.T.ravel())}</xcr:Rotation>"
            f"<xcr:Position>{spaced(pose.translation)}</xcr:Position>"
            "</rdf:Description></rdf:RDF></x:xmpmeta>"
        )
        text(folder / f"{name.rpartition('.')[0]}.xmp", content)
    return folder, {}


def bundle(folder: Path, poses: Poses) -> Made:
    rows = ["# Bundle file v0.3", f"{len(poses)} 0"]
    for pose in poses.values():
        rotation, translation = numbers_of(bundler.CONVENTION, pose)
        rows += ["61.5 0 0", *(spaced(row) for row in rotation), spaced(translation)]
    text(folder / "list.txt", "\n".join(poses))
    return text(folder / "bundle.out", "\n".join(rows) + "\n"), {}


def meshroom(folder: Path, poses: Poses) -> Made:
    views, stated = [], []
    for row, (name, pose) in enumerate(poses.items()):
        rotation, centre = numbers_of(alicevision.CONVENTION, pose)
        texts = {"rotation": rotation.T.ravel(), "center": centre}
        transform = {key: [repr(float(one)) for one in value] for key, value in texts.items()}
        views.append({"viewId": str(row), "poseId": str(row), "intrinsicId": "7", "path": name})
        stated.append({"poseId": str(row), "pose": {"transform": transform, "locked": "0"}})
    lens = {"intrinsicId": "7", "width": "64", "height": "48", "type": "radial3"}
    lens |= {"sensorWidth": "36", "focalLength": repr(61.5 * 36 / 64), "pixelRatio": "1"}
    lens |= {"principalPoint": ["0", "0"], "distortionParams": ["0", "0", "0"]}
    root = {"version": ["1", "2", "6"], "views": views, "intrinsics": [lens], "poses": stated}
    return text(folder / "cameras.sfm", json.dumps(root)), {}


def splatted(folder: Path, poses: Poses) -> Made:
    cameras = []
    for row, (name, pose) in enumerate(poses.items()):
        rotation, centre = numbers_of(gaussian_splatting.CONVENTION, pose)
        lens = {"width": 64, "height": 48, "fx": 61.5, "fy": 61.5}
        numbers = {"position": centre.tolist(), "rotation": rotation.tolist()}
        cameras.append({"id": row, "img_name": name.rpartition(".")[0]} | lens | numbers)
    return text(folder / "cameras.json", json.dumps(cameras)), {}


def forward_facing(folder: Path, poses: Poses) -> Made:
    table = np.zeros((len(poses), 17))
    names = sorted(poses)
    for name, row in zip(names, table, strict=True):
        rotation, centre = numbers_of(llff.CONVENTION, poses[name])
        row[:15] = np.column_stack([rotation, centre, [48, 64, 61.5]]).ravel()
        text(folder / "images" / name, "")
    np.save(folder / "poses_bounds.npy", table)
    return folder / "poses_bounds.npy", {}


def visual_sfm(folder: Path, poses: Poses) -> Made:
    rows = ["NVM_V3 ", "", str(len(poses))]
    for name, pose in poses.items():
        numbers = [np.asarray(one) for one in numbers_of(nvm.CONVENTION, pose)]
        written = name.replace(" ", '"')
        rows.append(f"{written}\t{spaced([61.5, *numbers[0], *numbers[1], 0.01])} 0")
    points = ["1", "1 2 3 9 9 9 1 0 5 0.5 -2.5"]
    other = ["", "1", f"other.jpg {spaced([60, 1, 0, 0, 0, 5, 5, 5, 0])} 0", "0", "0"]
    return text(folder / "result.nvm", "\n".join([*rows, "", *points, *other])), {}


def multi_view_stereo(folder: Path, poses: Poses) -> Made:
    lens = rows_of(np.reshape(pinhole(by_rows=True), (3, 3)))
    for name, pose in poses.items():
        content = f"extrinsic\n{rows_of(pose.inverse().matrix)}\nintrinsic\n{lens}\n0.5 0.01\n"
        text(folder / "cams" / f"{name.rpartition('.')[0]}_cam.txt", content)
    return folder, {}


def redwood_log(folder: Path, poses: Poses) -> Made:
    frames = [f"{row} {row} {row + 1}\n{rows_of(p.matrix)}" for row, p in enumerate(poses.values())]
    return text(folder / "walk.log", "".join(frames)), {
        name: f"image/{row:06d}.jpg" for row, name in enumerate(poses)
    }


def rtabmap_export(folder: Path, poses: Poses) -> Made:
    """Poses of the robot, as it exports them where nothing else is asked for."""
    cam_from_robot = Rigid3(rotation_at(1).as_matrix(), np.array([0.1, 0.2, 0.3]))
    rows = [
        "#timestamp x y z qx qy qz qw id",
        "0.000000 1 2 3 0 0 0 1 -12",  # a landmark
    ]
    images = {}
    for row, (name, pose) in enumerate(poses.items()):
        robot = pose @ cam_from_robot
        quat = np.roll(robot.quat_wxyz, -1)
        rows.append(f"{1000.5 + row:.6f} {spaced([*robot.translation, *quat])} {3 * row + 2}")
        # By id or by stamp.
        stamp = f"{1000.5 + row:.6f}" if row % 2 else str(3 * row + 2)
        images[name] = f"rgb/{stamp}.jpg"
        matrix = spaced([*pinhole(by_rows=True)[:2], 31.5, 0, 61.5, 23.5, 0, 0, 1], ", ")
        mount = spaced(cam_from_robot.inverse().matrix[:3].ravel(), ",\n   ")
        content = (
            "%YAML:1.0\n---\nimage_width: 64\nimage_height: 48\ncamera_matrix:\n   rows: 3\n   "
            f"cols: 3\n   data: [ {matrix} ]\ndistortion_model: plumb_bob\n"
            "distortion_coefficients:\n   rows: 1\n   cols: 5\n   data: [ 0., 0., 0., 0., 0. ]\n"
            f"local_transform:\n   rows: 3\n   cols: 4\n   data: [ {mount} ]\n"
        )
        text(folder / "map_calib" / f"{stamp}.yaml", content)
    return text(folder / "map_poses.txt", "\n".join(rows)), images


def blocks(folder: Path, poses: Poses) -> Made:
    """Two photogroups: matrices along axes of photogrammetry, and omega, phi, kappa."""
    groups: list[list[str]] = [[], []]
    for row, (name, pose) in enumerate(poses.items()):
        if row % 2:
            turns = Rotation.from_matrix(pose.rotation).as_euler("XYZ", degrees=True)
            numbers = dict(zip(("Omega", "Phi", "Kappa"), turns, strict=True))
        else:
            matrix = axes_matrix("RUB") @ pose.rotation.T
            numbers = {f"M_{i}{j}": matrix[i, j] for i in range(3) for j in range(3)}
        turned = "".join(f"<{key}>{float(value)!r}</{key}>" for key, value in numbers.items())
        placed = "".join(
            f"<{k}>{float(v)!r}</{k}>" for k, v in zip("xyz", pose.translation, strict=True)
        )
        groups[row % 2].append(
            f"<Photo><Id>{row}</Id><ImagePath>D:\\x\\{name}</ImagePath><Pose><Rotation>{turned}"
            f"</Rotation><Center>{placed}</Center></Pose></Photo>"
        )
    size = "<ImageDimensions><Width>64</Width><Height>48</Height></ImageDimensions>"
    lenses = [
        "<SensorSize>36</SensorSize><FocalLength>34.59375</FocalLength>"
        "<CameraOrientation>XRightYUp</CameraOrientation>",
        "<FocalLengthPixels>61.5</FocalLengthPixels>",
    ]
    content = "".join(
        f"<Photogroup>{size}{lens}{''.join(photos)}</Photogroup>"
        for lens, photos in zip(lenses, groups, strict=True)
    )
    content = f"<Block><Photogroups>{content}</Photogroups></Block>"
    return text(folder / "at.xml", f"<BlocksExchange>{content}</BlocksExchange>"), {}


MAKERS: dict[str, Callable[[Path, Poses], Made]] = {
    "ace": ace,
    "scannet": scannet,
    "polycam": polycam_scan,
    "record3d": record3d,
    "3d-scanner-app": scanner_app,
    "arkit-scenes": arkit_scenes,
    "opensfm": opensfm,
    "openmvg": openmvg,
    "navvis": navvis_scan,
    "euroc": euroc,
    "kitti": kitti_rows,
    "matrix-rows": named_matrices,
    "pose-list": pose_list,
    "reality-capture": reality_capture,
    "metashape": metashape,
    "reality-capture-xmp": sidecars,
    "bundler": bundle,
    "alicevision": meshroom,
    "gaussian-splatting": splatted,
    "llff": forward_facing,
    "nvm": visual_sfm,
    "mvsnet": multi_view_stereo,
    "redwood": redwood_log,
    "rtabmap": rtabmap_export,
    "blocks-exchange": blocks,
}


def shade(row: int) -> Image.Image:
    """An image that says which one it is, whatever it is called."""
    return Image.new("RGB", (64, 48), (30 + 40 * row,) * 3)


def otherwise_composed(name: str) -> str:
    """The same name with its umlauts in the other form of Unicode."""
    composed = unicodedata.normalize("NFC", name)
    return unicodedata.normalize("NFD", name) if composed == name else composed


def written(folder: Path, poses: Poses, key: str) -> tuple[Path, Path]:
    """By the format's own writer: what to read, and the folder of the images."""
    images, files = {}, {}
    for row, (name, pose) in enumerate(poses.items()):
        images[name] = PosedImage(name, CAMERA, 1, pose.inverse())
        files[name] = folder / "before" / name
        files[name].parent.mkdir(parents=True, exist_ok=True)
        shade(row).save(files[name])
    write = FORMATS[key].write
    assert write is not None
    times = {name: 100 + 0.5 * row for row, name in enumerate(poses)}
    posed = PosedImages(MapModel(images, Points.none()), files, "metre", times=times)
    write(posed, folder / "out")
    return folder / "out", folder / "out"


def made(folder: Path, poses: Poses, key: str) -> tuple[Path, Path]:
    """By a maker: what to read, and the folder of the images."""
    assert key in MAKERS, f"make a file of {key} in MAKERS, so that it is tested too"
    path, names = MAKERS[key](folder / "made", poses)
    for row, name in enumerate(poses):
        file = folder / "images" / otherwise_composed(names.get(name, name))
        file.parent.mkdir(parents=True, exist_ok=True)
        shade(row).save(file)
    return path, folder / "images"


@pytest.mark.parametrize("key", FORMATS)
def test_poses_under_all_names_come_back_to_a_micrometre(tmp_path, key):
    poses = {}
    for name, pose in POSES.items():
        kept = name.replace(" ", "_") if key in NO_BLANKS else name
        poses[kept.rpartition("/")[2] if key in ONE_FOLDER else kept] = pose
    is_written = FORMATS[key].write is not None
    path, images = (written if is_written else made)(tmp_path, poses, key)
    read = FORMATS[key].read(path)
    assert FORMATS[key].detect(path)
    assert read_registration(path).format == read.format
    assert not read.problems
    found = find_images(read, images)
    truth = list(poses.values())
    rows = []
    for image in found.usable:
        rows.append(round((np.asarray(image.opened()).mean() - 30) / 40))
        pose = read.world_from_cam(image.listed)
        assert position_error(pose, truth[rows[-1]]) < 1e-6
        assert rotation_error_deg(pose, truth[rows[-1]]) < 1e-9
        focal = read.camera_of(image.listed, 64, 48)
        assert focal.known == "unknown" or focal.focal_px == pytest.approx(61.5, rel=0.02)
    assert sorted(rows) == list(range(len(truth)))
