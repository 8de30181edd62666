"""TUM trajectories: ``timestamp tx ty tz qx qy qz qw``, and the data set's folder around one.

Source: "File Formats" of the TUM RGB-D benchmark (Computer Vision Group, TU Munich): seconds,
position of the colour camera's optical centre in the world, orientation as a unit quaternion with
w last, metres; ``rgb.txt`` names the image of each time. The camera's axes are OpenCV's.

Scripts write such rows with commas, and with an image's name in place of the time; what those mean
nobody states, and only the images can prove it.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from relocalize import progress
from relocalize.errors import FormatError
from relocalize.formats import pose_list
from relocalize.formats.names import LONGEST_GAP_S, nearest_in_time
from relocalize.formats.pose_rows import PoseRows, begins_with_pose
from relocalize.formats.posed_images import PosedImages, refuse_blanks, with_cameras, write_cameras
from relocalize.formats.registration import Registration
from relocalize.formats.text import COMMAS_OR_BLANKS, floats, read_lines, rows_in
from relocalize.geometry import Convention, Rigid3
from relocalize.place import atomic
from relocalize.place.folder import MAP_UNIT, METRE

NAME = "TUM trajectory"
CONVENTION = Convention("xyzw", "world_from_cam", "RDF", "centre")
_LAYOUT = "timestamp tx ty tz qx qy qz qw"
# Seconds since 1970 are some 1e9.
_SMALLER_UNITS = ((1e17, 1e-9), (1e14, 1e-6), (1e11, 1e-3))
_TRAJECTORY, _IMAGES = "groundtruth.txt", "rgb.txt"


def detect(path: Path) -> bool:
    """Whether the file's first row is a row of a trajectory, or the folder holds such a file."""
    file = path / _TRAJECTORY if path.is_dir() else path
    if begins_with_pose(file, CONVENTION, _take, COMMAS_OR_BLANKS, want=_LAYOUT):
        return True
    named = begins_with_pose(file, CONVENTION, _take_named, COMMAS_OR_BLANKS)
    return named and not pose_list.detect(file)


def read(path: Path) -> Registration:
    """Read a trajectory, or a data set's; where ``rgb.txt`` lies beside it, under images' names.

    Each image of ``rgb.txt`` gets the pose nearest in time within `LONGEST_GAP_S`, and no two
    the same. Without it, images are named by their timestamps, which are in `Registration.times`.
    """
    if path.is_dir():
        if not (path / _TRAJECTORY).is_file():
            raise FormatError(f"{path} has no {_TRAJECTORY}; name the trajectory's file")
        path = path / _TRAJECTORY
    if begins_with_pose(path, CONVENTION, _take_named, COMMAS_OR_BLANKS):
        named = PoseRows(path, NAME, CONVENTION, f"name {_LAYOUT[10:]}")
        named.read(_take_named, COMMAS_OR_BLANKS)
        return named.registration(unit=MAP_UNIT, declared=False)
    rows = PoseRows(path, NAME, CONVENTION, _LAYOUT).read(_take, COMMAS_OR_BLANKS)
    registration = rows.registration(unit=METRE, scale_from="the format's unit, metres")
    listed = path.with_name(_IMAGES)
    if listed.is_file():
        return with_cameras(_under_image_names(registration, listed), path.parent)
    return registration.remarked("no image names: an image is found by the time that is its name")


def write(posed: PosedImages, out: Path) -> None:
    """Write a data set's folder: ``groundtruth.txt``, ``rgb.txt``, and the images in ``rgb/``.

    Images without a time, or with one that another image has too (two captures that both
    begin at 0 s), make all of them numbered: the image's row is then its second.
    """
    images = posed.model.images
    refuse_blanks(images, "TUM's rgb.txt", "plain-csv")
    times = {name: posed.times[name] for name in images if name in posed.times}
    if len(set(times.values())) < len(images):
        progress.say("the images' times are unknown or not distinct: seconds count images from 0")
        times = {name: float(row) for row, name in enumerate(images)}
    order = sorted(times, key=times.__getitem__)
    listed = ["# images", "# timestamp filename", *(f"{times[one]!r} rgb/{one}" for one in order)]
    trajectory = tum_trajectory((times[name], images[name].world_from_cam) for name in order)
    with atomic.new_folder(out) as folder:
        posed.place(folder / "rgb")
        atomic.write_text(folder / _TRAJECTORY, trajectory)
        atomic.write_text(folder / _IMAGES, "\n".join(listed) + "\n")
        cameras = {f"rgb/{name}": image.camera for name, image in images.items()}
        write_cameras(folder, cameras, posed.unit)


def tum_trajectory(stamped: Iterable[tuple[float, Rigid3]]) -> str:
    """The text of a trajectory: seconds and ``world_from_cam`` of each pose."""
    rows = ["# trajectory: the camera in the world", f"# {_LAYOUT}"]
    for time, pose in stamped:
        w, x, y, z = pose.quat_wxyz
        values = (time, *pose.translation, x, y, z, w)
        rows.append(" ".join(repr(float(value)) for value in values))
    return "\n".join(rows) + "\n"


def _take(rows: PoseRows, cells: list[str]) -> None:
    if len(cells) != 8:
        raise ValueError(f"{len(cells)} columns, want {_LAYOUT}")
    time, *numbers = floats(cells)
    if not 0 <= time < float("inf"):
        raise ValueError(f"a time of {time:g} seconds")
    rows.add(cells[0], numbers[3:], numbers[:3], time=_seconds(time))


def _seconds(time: float) -> float:
    """Seconds of a time that may be milli-, micro- or nanoseconds since 1970, as of ORB-SLAM3."""
    scale = next((scale for least, scale in _SMALLER_UNITS if time > least), 1.0)
    return time * scale


def _take_named(rows: PoseRows, cells: list[str]) -> None:
    if len(cells) != 8:
        raise ValueError(f"{len(cells)} columns, want name {_LAYOUT[10:]}")
    numbers = floats(cells[1:])
    with suppress(ValueError):
        raise FormatError(f"{float(cells[0]):g} is a time, not a name")
    rows.add(cells[0], numbers[3:], numbers[:3])


def _under_image_names(registration: Registration, listed: Path) -> Registration:
    """The poses under the names that ``rgb.txt`` gives to their times."""
    times: dict[str, float] = {}
    for where, cells in rows_in(read_lines(listed), columns=2):
        if not times and cells[0].casefold() == "timestamp":
            continue  # names of the columns, without a #
        try:
            time, name = float(cells[0]), cells[1]
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
    row_of = {name: row for row, name in enumerate(registration.stated.names)}
    rows = [row_of[pose] for pose in pose_of.values()]
    return replace(
        registration,
        poses={name: registration.poses[pose] for name, pose in pose_of.items()},
        stated_poses=registration.stated.only(tuple(pose_of), rows),
        times={},
    ).remarked(*remarks)
