"""Cambridge Landmarks: ``dataset_train.txt`` and ``dataset_test.txt`` beside the images.

Source: Kendall, Grimes and Cipolla, "PoseNet", ICCV 2015, whose data set this is. Three header
lines, then ``image x y z w p q r``: the camera's centre, and the quaternion, w first, that turns
the world's axes to the camera's. The numbers come from VisualSFM's NVM files, whose cameras are
x right, y down, z forward ("NVM", VisualSFM's documentation). Metres, as the authors report.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from relocalize.errors import FormatError
from relocalize.formats.cameras_beside import with_cameras, write_cameras
from relocalize.formats.image_links import place_image
from relocalize.formats.pose_rows import PoseRows
from relocalize.formats.posed_images import PosedImages
from relocalize.formats.registration import Registration
from relocalize.formats.text import first_lines, read_lines
from relocalize.formats.trajectory_rows import floats
from relocalize.geometry import Convention
from relocalize.place import atomic
from relocalize.place.folder import METRE

NAME = "Cambridge Landmarks list"
CONVENTION = Convention("wxyz", "cam_from_world", "RDF", "centre")
_LAYOUT = "image x y z w p q r"
_HEADER = ("Visual Landmark Dataset V1", "ImageFile, Camera Position [X Y Z W P Q R]", "")
_TRAIN, _TEST = "dataset_train.txt", "dataset_test.txt"


def detect(path: Path) -> bool:
    """Whether the file begins with the data set's header, or the folder holds such a file."""
    lists = [path / name for name in (_TRAIN, _TEST)] if path.is_dir() else [path]
    return any(any(map(_is_header, first_lines(one)[:2])) for one in lists)


def read_cambridge(path: Path) -> Registration:
    """Read one list, or both of a folder, which then are train and test.

    A single list is train or test where its file name says so.

    Raises:
        FormatError: there is no list, it cannot be read, or is mostly something else.
    """
    lists = [path]
    if path.is_dir():
        lists = [path / name for name in (_TRAIN, _TEST) if (path / name).is_file()]
    if not lists:
        raise FormatError(f"{path} has neither {_TRAIN} nor {_TEST}; name the list")
    rows = PoseRows(path, CONVENTION, _LAYOUT)
    sides: dict[str, list[str]] = {"train": [], "test": [], "": []}
    for one in lists:
        side = next((side for side in ("train", "test") if side in one.stem.lower()), "")
        sides[side] += _read_list(rows, one, f"{one.name}, " if path.is_dir() else "")
    registration = rows.registration(
        format_name=NAME,
        unit=METRE,
        scale_from="the data set's unit, metres",
        train=sides["train"],
        test=sides["test"],
    )
    return with_cameras(registration, lists[0].parent)


def write_cambridge(posed: PosedImages, out: Path) -> None:
    """Write the data set's folder: both lists, and the images under their names.

    Without a split, all images are in ``dataset_train.txt`` and ``dataset_test.txt`` is empty.
    """
    train = posed.train if posed.train or posed.test else tuple(posed.model.images)
    with atomic.new_folder(out) as folder:
        for name, images in ((_TRAIN, train), (_TEST, posed.test)):
            atomic.write_text(folder / name, "\n".join([*_HEADER, *_rows(posed, images), ""]))
        for name, file in posed.files.items():
            place_image(file, folder / name)
        cameras = {name: image.camera for name, image in posed.model.images.items()}
        write_cameras(folder, cameras, posed.unit)


def _is_header(line: str) -> bool:
    return line.lower().startswith(("visual landmark dataset", "imagefile, camera position"))


def _read_list(rows: PoseRows, path: Path, place: str) -> list[str]:
    """Take the rows of one list; their images' names."""
    names = []
    for number, line in enumerate(read_lines(path), start=1):
        row, where = line.strip(), f"{place}line {number}"
        # Lists that others wrote have one, two or none of the header's lines.
        if not row or row.startswith("#") or (number <= 2 and _is_header(row)):
            continue
        name, *columns = row.rsplit(maxsplit=7)
        if len(columns) != 7:
            rows.reject(where, f"{len(columns) + 1} columns, want {_LAYOUT}")
            continue
        try:
            numbers = floats(columns)
        except ValueError as error:
            rows.reject(where, str(error))
            continue
        if rows.add(where, name, numbers[3:], numbers[:3]):
            names.append(name)
    return names


def _rows(posed: PosedImages, names: Iterable[str]) -> list[str]:
    rows = []
    for name in names:
        image = posed.model.images[name]
        numbers = (*image.world_from_cam.translation, *image.cam_from_world.quat_wxyz)
        rows.append(" ".join([name, *(repr(float(number)) for number in numbers)]))
    return rows
