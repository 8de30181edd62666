"""EuRoC trajectories: a CSV of nanoseconds, positions and w-first quaternions of the body frame.

Source: Burri et al., "The EuRoC micro aerial vehicle datasets", IJRR 2016, and the ASL data set
format that it defines: ``p_RS_R`` and ``q_RS`` are the sensor S in the reference frame R, and the
sensor of ``state_groundtruth_estimate0`` is the body, which is the IMU. A camera's ``sensor.yaml``
has ``T_BS``, the camera in the body's frame, and OpenCV's intrinsics, whose pixel (0, 0) is the
first pixel's centre: 0.5 is added to the principal point.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from relocalize.errors import FormatError, GeometryError
from relocalize.formats.lenses import brown_camera
from relocalize.formats.names import seconds_of
from relocalize.formats.pose_rows import PoseRows, begins_with_pose
from relocalize.formats.registration import Registration
from relocalize.formats.text import check_file, first_lines, floats, read_text
from relocalize.geometry import Camera, Convention, Rigid3
from relocalize.place.folder import METRE

NAME = "EuRoC trajectory"
CONVENTION = Convention("wxyz", "world_from_cam", "RDF", "centre")
_LAYOUT = "timestamp [ns], p_x, p_y, p_z, q_w, q_x, q_y, q_z"
_SENSOR, _DATA = "sensor.yaml", "data.csv"
_LARGEST_SENSOR = 20_000  # bytes; EuRoC's have 800
_NANOSECONDS = re.compile(r"\d{10,20}")


@dataclass(frozen=True)
class _Sensor:
    """What ``sensor.yaml`` says of a camera; ``camera`` is None where its model is unknown."""

    source: str
    body_from_cam: Rigid3
    camera: Camera | None

    def on(self, body: Registration) -> Registration:
        """The camera's poses, which are products and not numbers of the file any more."""
        cam_from_body = self.body_from_cam.inverse()
        poses = {name: cam_from_body @ pose for name, (pose, _) in body.poses.items()}
        index = None if self.camera is None else 0
        return replace(
            body,
            cameras=() if self.camera is None else (self.camera,),
            poses={name: (pose, index) for name, pose in poses.items()},
            stated_poses=None,
        )


def detect(path: Path) -> bool:
    """Whether the file begins with EuRoC's header, or its first row is one of nanoseconds."""
    path = _trajectory_of(path)
    if any(line.startswith("#") and "p_RS_R_x" in line for line in first_lines(path)[:3]):
        return True
    return begins_with_pose(path, CONVENTION, _take, ",", want=_LAYOUT)


def read(path: Path) -> Registration:
    """Read a ground truth, its CSV or folder; images are named by their nanoseconds.

    Where the ``sensor.yaml`` of a camera lies beside the file, or in the data set's ``cam0``, the
    poses are that camera's; otherwise they are the body's, and `Registration.remarks` says so.
    """
    path = _trajectory_of(path)
    sensor = _camera_sensor(path)
    rows = PoseRows(path, NAME, CONVENTION, _LAYOUT).read(_take, ",")
    registration = rows.registration(unit=METRE, scale_from="the format's unit, metres")
    remark = (
        "these are poses of the body (the IMU), not of a camera: put the sensor.yaml of the "
        "images' camera beside the file"
    )
    if sensor is not None:
        registration = sensor.on(registration)
        remark = f"poses of the camera of {sensor.source}: the body's poses times its T_BS"
    return registration.remarked(
        remark, "no image names: an image is found by the nanoseconds that name it"
    )


def _trajectory_of(path: Path) -> Path:
    if not path.is_dir():
        return path
    truth = path / "state_groundtruth_estimate0"
    return (truth if truth.is_dir() else path) / _DATA


def _take(rows: PoseRows, cells: list[str]) -> None:
    if len(cells) < 8:
        raise ValueError(f"{len(cells)} columns, want {_LAYOUT}")
    stamp = cells[0]
    if not _NANOSECONDS.fullmatch(stamp):
        raise ValueError(f"a time of {stamp[:20]!r}, want nanoseconds")
    numbers = floats(cells[1:8])
    rows.add(stamp, numbers[3:], numbers[:3], time=seconds_of(stamp) or int(stamp) * 1e-9)


def _camera_sensor(path: Path) -> _Sensor | None:
    """The camera of the ``sensor.yaml`` beside the file, or of ``cam0`` in its data set."""
    for candidate in (path.with_name(_SENSOR), path.parent.parent / "cam0" / _SENSOR):
        if candidate.is_file():
            sensor = _read_sensor(candidate)
            if sensor is not None:
                return sensor
    return None


def _read_sensor(path: Path) -> _Sensor | None:
    """A camera's ``sensor.yaml``; None for one of another sensor, such as the ground truth's."""
    check_file(path, "a sensor.yaml", _LARGEST_SENSOR)
    text = re.sub(r"#.*", "", read_text(path))
    kind = re.search(r"^sensor_type:\s*(\w+)", text, re.MULTILINE)
    if kind is None or kind.group(1) != "camera":
        return None
    block = re.search(r"^T_BS:(.*?)\bdata:\s*\[([^\]]*)\]", text, re.MULTILINE | re.DOTALL)
    try:
        if block is None:
            raise ValueError("no T_BS")
        body_from_cam = Rigid3.from_matrix(np.array(_listed(block.group(2), 16)).reshape(4, 4))
        camera = _camera(text)
    except (ValueError, GeometryError) as error:
        raise FormatError(f"{path} is no camera of the ASL format: {error}") from None
    return _Sensor(f"{path.parent.name}/{path.name}", body_from_cam, camera)


def _camera(text: str) -> Camera | None:
    def value(key: str) -> str | None:
        found = re.search(rf"^{key}:\s*\[?([^\]\n]*)", text, re.MULTILINE)
        return None if found is None else found.group(1).strip()

    size, pinhole, terms = (
        value(key) for key in ("resolution", "intrinsics", "distortion_coefficients")
    )
    if value("camera_model") != "pinhole" or size is None or pinhole is None or terms is None:
        return None
    width, height = (int(number) for number in _listed(size, 2))
    fx, fy, cx, cy = _listed(pinhole, 4)
    distortion = tuple(_listed(terms, 4))
    if value("distortion_model") in {"radial-tangential", "radtan", "plumb_bob"}:
        return brown_camera(width, height, (fx, fy, cx + 0.5, cy + 0.5), distortion)
    if value("distortion_model") == "equidistant":
        params = (fx, fy, cx + 0.5, cy + 0.5, *distortion)
        return Camera("OPENCV_FISHEYE", width, height, params)
    return None


def _listed(text: str, count: int) -> list[float]:
    numbers = floats(part.strip() for part in text.split(",") if part.strip())
    if len(numbers) != count or not all(abs(number) < 1e9 for number in numbers):
        raise ValueError(f"{len(numbers)} numbers where there should be {count}")
    return numbers
