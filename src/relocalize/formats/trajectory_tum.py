"""TUM trajectories: ``timestamp tx ty tz qx qy qz qw``, and the data set's folder around one.

Source: "File Formats" of the TUM RGB-D benchmark (Computer Vision Group, TU Munich): seconds,
position of the colour camera's optical centre in the world, orientation as a unit quaternion with
w last, metres; ``rgb.txt`` names the image of each time. The camera's axes are OpenCV's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from relocalize import progress
from relocalize.errors import FormatError
from relocalize.formats.cameras_beside import with_cameras, write_cameras
from relocalize.formats.image_links import place_image
from relocalize.formats.names import LONGEST_GAP_S, nearest_in_time
from relocalize.formats.pose_rows import PoseRows
from relocalize.formats.posed_images import PosedImages
from relocalize.formats.registration import Registration, StatedPoses
from relocalize.formats.trajectory_rows import first_row, floats, number_rows
from relocalize.geometry import Convention, Rigid3
from relocalize.place import atomic
from relocalize.place.folder import METRE

NAME = "TUM trajectory"
CONVENTION = Convention("xyzw", "world_from_cam", "RDF", "centre")
_LAYOUT = "timestamp tx ty tz qx qy qz qw"
_TRAJECTORY, _IMAGES = "groundtruth.txt", "rgb.txt"


def detect(path: Path) -> bool:
    """Whether the file's first row is a row of a trajectory, or the folder holds such a file."""
    path = path / _TRAJECTORY if path.is_dir() else path
    rows, first = PoseRows(path, CONVENTION, _LAYOUT), first_row(path)
    if first is not None:
        _take(rows, {}, *first)
    return len(rows) == 1


def read_tum(path: Path) -> Registration:
    """Read a trajectory; where ``rgb.txt`` lies beside it, under the images' names.

    Each image of ``rgb.txt`` gets the pose nearest in time within `LONGEST_GAP_S`, and no two
    the same. Without it, images are named by their timestamps, which are in `Registration.times`.

    Args:
        path: the trajectory, or the folder of a data set with its ``groundtruth.txt``.

    Raises:
        FormatError: the file cannot be read, holds no pose, or is mostly something else.
    """
    path = _trajectory_of(path)
    rows, times = PoseRows(path, CONVENTION, _LAYOUT), dict[str, float]()
    for where, columns in number_rows(path):
        _take(rows, times, where, columns)
    registration = rows.registration(
        format_name=NAME, unit=METRE, scale_from="the format's unit, metres", times=times
    )
    listed = path.with_name(_IMAGES)
    if listed.is_file():
        return with_cameras(_under_image_names(registration, listed), path.parent)
    return replace(
        registration,
        remarks=("no image names: an image is found by the time that is its name",),
    )


def write_tum(posed: PosedImages, out: Path) -> None:
    """Write a data set's folder: ``groundtruth.txt``, ``rgb.txt``, and the images in ``rgb/``.

    Images without a time, or with one that another image has too (two captures that both
    begin at 0 s), make all of them numbered: the image's row is then its second.
    """
    images = list(posed.model.images.values())
    times = [posed.times.get(image.name) for image in images]
    if None in times or len(set(times)) < len(times):
        progress.say("the images' times are unknown or not distinct: seconds count images from 0")
        times = [float(row) for row in range(len(images))]
    order = sorted(range(len(images)), key=lambda row: times[row] or 0.0)
    stamped = [(times[row] or 0.0, images[row].world_from_cam) for row in order]
    listed = ["# images", "# timestamp filename"]
    with atomic.new_folder(out) as folder:
        for row in order:
            image = images[row]
            listed.append(f"{times[row]!r} rgb/{image.name}")
            place_image(posed.files[image.name], folder / "rgb" / image.name)
        atomic.write_text(folder / _TRAJECTORY, tum_trajectory(stamped))
        atomic.write_text(folder / _IMAGES, "\n".join(listed) + "\n")
        write_cameras(folder, {f"rgb/{one.name}": one.camera for one in images}, posed.unit)


def tum_trajectory(stamped: Iterable[tuple[float, Rigid3]]) -> str:
    """The text of a trajectory: seconds and ``world_from_cam`` of each pose."""
    rows = ["# trajectory: the camera in the world", f"# {_LAYOUT}"]
    for time, pose in stamped:
        w, x, y, z = pose.quat_wxyz
        values = (time, *pose.translation, x, y, z, w)
        rows.append(" ".join(repr(float(value)) for value in values))
    return "\n".join(rows) + "\n"


def _trajectory_of(path: Path) -> Path:
    if not path.is_dir():
        return path
    if not (path / _TRAJECTORY).is_file():
        raise FormatError(f"{path} has no {_TRAJECTORY}; name the trajectory's file")
    return path / _TRAJECTORY


def _take(rows: PoseRows, times: dict[str, float], where: str, columns: list[str]) -> None:
    if len(columns) != 8:
        rows.reject(where, f"{len(columns)} columns, want {_LAYOUT}")
        return
    try:
        time, *numbers = floats(columns)
    except ValueError as error:
        rows.reject(where, str(error))
        return
    if not 0 <= time < float("inf"):
        rows.reject(where, f"a time of {time:g} seconds")
        return
    if rows.add(where, columns[0], numbers[3:], numbers[:3]):
        times[columns[0]] = time


def _under_image_names(registration: Registration, listed: Path) -> Registration:
    """The poses under the names that ``rgb.txt`` gives to their times."""
    times: dict[str, float] = {}
    for where, columns in number_rows(listed, columns=2):
        try:
            time = floats(columns[:1])[0]
            name = columns[1]
        except (ValueError, IndexError):
            raise FormatError(f"{listed}, {where}: want timestamp filename") from None
        times[name] = time
    pose_of, gap_of = nearest_in_time(registration.times, times)
    if not pose_of:
        raise FormatError(
            f"no pose of {registration.source} is within {LONGEST_GAP_S} s of any of the "
            f"{len(times)} images in {listed}; are they of one recording?"
        )
    remarks = [f"{len(pose_of)} images of {listed.name} have the pose nearest in time"]
    without = [name for name in times if name not in pose_of]
    if without:
        remarks.append(
            f"{len(without)} images of {listed.name} have no pose of their own within "
            f"{LONGEST_GAP_S} s, such as {without[0]} (nearest: {gap_of[without[0]]:.3f} s)"
        )
    stated = registration.stated
    row_of = {name: row for row, name in enumerate(stated.names)}
    rows = [row_of[pose] for pose in pose_of.values()]
    return replace(
        registration,
        poses={name: registration.poses[pose] for name, pose in pose_of.items()},
        stated_poses=StatedPoses(
            tuple(pose_of), stated.rotations[rows], stated.positions[rows], stated.convention
        ),
        times={},
        remarks=tuple(remarks),
    )
