"""NavVis Indoor Dataset, of which TUM-LSI is one scan: ``<scan>_poses.xml``.

Source: readme of the NavVis Indoor Dataset: each ``pose`` has the id of an image (capture location
and camera, ``00012-cam3``), its translation and its quaternion (w, x, y, z) with respect to the
scan's coordinate system, metric; the image is ``<scan>/<id>.jpg``. Camera axes are not in the
readme; the files have them: of the six cameras, ``cam5`` looks up and the others away from the
trolley's axis only if the quaternion is camera-to-world with z forward, and then their x points up:
the cameras stand on end. So images as the sensor gave them (4592 x 3448) have OpenCV's axes, and
images turned upright have x up, y right: `UPRIGHT`.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree.ElementTree import Element

from relocalize.errors import FormatError
from relocalize.formats.pose_rows import PoseRows
from relocalize.formats.registration import Registration
from relocalize.formats.text import read_lines
from relocalize.formats.xml_file import number_in, read_xml, root_name
from relocalize.geometry import Convention
from relocalize.place.folder import METRE

NAME = "NavVis poses"
CONVENTION = Convention("wxyz", "world_from_cam", "RDF", "centre")
UPRIGHT = Convention("wxyz", "world_from_cam", "URF", "centre")
_LAYOUT = "a pose with id, translation x y z and rotation w x y z"
_ENDING = "_poses.xml"
_ROOT = "poses"


def detect(path: Path) -> bool:
    """Whether the file is XML whose root is ``poses``, or the folder holds one such file."""
    files = _scans(path)
    return bool(files) and root_name(files[0]) == _ROOT


def read(path: Path) -> Registration:
    """Read one scan: its file, or a folder with one (also in its ``poses``).

    Lists such as ``tum-lsi_train.txt`` and ``tum-lsi_test.txt`` in the file's folder, or the one
    above, become `Registration.train` and ``test`` where they name images of the scan.
    """
    files = _scans(path)
    if len(files) != 1:
        raise FormatError(
            f"{path} has {len(files)} scans (*{_ENDING}); each has its own frame, so name one"
            if files
            else f"{path} has no scan (*{_ENDING})"
        )
    file = files[0]
    root = read_xml(file)
    if root.tag != _ROOT:
        raise FormatError(f"{file} has <{root.tag[:60]}> where a scan has <{_ROOT}>")
    scan = file.name.removesuffix(_ENDING)
    rows = PoseRows(file, NAME, CONVENTION, _LAYOUT)
    for number, pose in enumerate(root.iter("pose"), start=1):
        with rows.row(f"pose {number}"):
            name = (pose.findtext("id") or "").strip()
            if not name:
                raise ValueError("no id")
            position = _numbers(pose, "translation", "xyz")
            rows.add(f"{scan}/{name}.jpg", _numbers(pose, "rotation", "wxyz"), position)
    return rows.registration(
        unit=METRE,
        scale_from="the format's unit, metres",
        train=_listed(file, "train", rows),
        test=_listed(file, "test", rows),
        remarks=(
            "the cameras stand on end; if your images are turned upright, "
            f"import with --convention {UPRIGHT.name}",
        ),
    )


def _scans(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path] if path.suffix.lower() == ".xml" else []
    return sorted(path.glob(f"*{_ENDING}")) or sorted(path.glob(f"poses/*{_ENDING}"))


def _numbers(pose: Element, tag: str, letters: str) -> list[float]:
    return [number_in(pose.findtext(f"{tag}/{letter}"), f"{tag}/{letter}") for letter in letters]


def _listed(file: Path, side: str, rows: PoseRows) -> list[str]:
    """The scan's images in the first list of a side, in the file's folder or the one above."""
    lists = [
        one
        for folder in (file.parent, file.parent.parent)
        for one in sorted(folder.glob(f"*_{side}.txt"))
    ]
    names = [line.strip() for one in lists[:1] for line in read_lines(one)]
    return [name for name in dict.fromkeys(names) if name in rows]
