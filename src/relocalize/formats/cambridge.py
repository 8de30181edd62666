"""Cambridge Landmarks: ``dataset_train.txt`` and ``dataset_test.txt`` beside the images.

Source: Kendall, Grimes and Cipolla, "PoseNet", ICCV 2015, whose data set this is. Three header
lines, then ``image x y z w p q r``: the camera's centre, and the quaternion, w first, that turns
the world's axes to the camera's. The numbers come from VisualSFM's NVM files, whose cameras are
x right, y down, z forward ("NVM", VisualSFM's documentation). Metres, as the authors report.
"""

from __future__ import annotations

from pathlib import Path

from relocalize.errors import FormatError
from relocalize.formats.pose_rows import PoseRows
from relocalize.formats.posed_images import PosedImages, refuse_blanks, with_cameras, write_cameras
from relocalize.formats.registration import Registration
from relocalize.formats.text import first_lines, floats, read_lines
from relocalize.geometry import Convention
from relocalize.place import PosedImage, atomic
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


def read(path: Path) -> Registration:
    """Read one list, or both of a folder, which then are train and test.

    A single list is train or test where its file name says so.
    """
    lists = [path]
    if path.is_dir():
        lists = [path / name for name in (_TRAIN, _TEST) if (path / name).is_file()]
    if not lists:
        raise FormatError(f"{path} has neither {_TRAIN} nor {_TEST}; name the list")
    rows = PoseRows(path, NAME, CONVENTION, _LAYOUT)
    for one in lists:
        side = next((side for side in ("train", "test") if side in one.stem.lower()), "")
        _read_list(rows, one, side, f"{one.name}, " if path.is_dir() else "")
    registration = rows.registration(unit=METRE, scale_from="the data set's unit, metres")
    return with_cameras(registration, lists[0].parent)


def write(posed: PosedImages, out: Path) -> None:
    """Write the data set's folder: both lists, and the images under their names.

    Without a split, all images are in ``dataset_train.txt`` and ``dataset_test.txt`` is empty.
    """
    images = posed.model.images
    refuse_blanks(images, "a Cambridge list", "plain-csv")
    with atomic.new_folder(out) as folder:
        for file, names in ((_TRAIN, posed.training), (_TEST, posed.test)):
            rows = [_row(images[name]) for name in names]
            atomic.write_text(folder / file, "\n".join([*_HEADER, *rows, ""]))
        posed.place(folder)
        write_cameras(folder, {name: one.camera for name, one in images.items()}, posed.unit)


def _is_header(line: str) -> bool:
    return line.lower().startswith(("visual landmark dataset", "imagefile, camera position"))


def _read_list(rows: PoseRows, path: Path, side: str, place: str) -> None:
    for number, line in enumerate(map(str.strip, read_lines(path)), start=1):
        # Lists that others wrote have one, two or none of the header's lines.
        if not line or line.startswith("#") or (number <= 2 and _is_header(line)):
            continue
        with rows.row(f"{place}line {number}"):
            name, *cells = line.rsplit(maxsplit=7)
            if len(cells) != 7:
                raise ValueError(f"{len(cells) + 1} columns, want {_LAYOUT}")
            numbers = floats(cells)
            rows.add(name, numbers[3:], numbers[:3], side=side)


def _row(image: PosedImage) -> str:
    numbers = (*image.world_from_cam.translation, *image.cam_from_world.quat_wxyz)
    return " ".join([image.name, *(repr(float(number)) for number in numbers)])
