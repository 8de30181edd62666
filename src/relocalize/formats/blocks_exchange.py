"""BlocksExchange XML ("CC Orientations") of ContextCapture and iTwin Capture Modeler.

Metashape and RealityCapture write it, too. A photogroup has a camera, its photos a pose: the
rotation from the world to the camera, as a matrix ``M_00`` to ``M_22`` or as omega, phi, kappa (of
which the matrix is the transpose of Rx Ry Rz; the documented sample has both), and the camera's
centre. ``CameraOrientation`` says where the camera's x and y point, ``XRightYDown`` by default.
Pixel (0, 0) is the centre of the first pixel; the distortion is Brown's, whose p1 and p2 have
changed places against OpenCV.
Source: Bentley, "ContextCapture User Guide", BlocksExchange XML format, and "CC Orientations" on
developer.bentley.com.
"""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from scipy.spatial.transform import Rotation

from relocalize.errors import FormatError
from relocalize.formats.lenses import LARGEST_SIDE, LARGEST_TERM, brown_camera
from relocalize.formats.pose_rows import PoseRows
from relocalize.formats.registration import Registration
from relocalize.formats.xml_file import number_in, read_xml, root_name
from relocalize.geometry import Camera, Convention
from relocalize.geometry.conventions import axes_matrix
from relocalize.geometry.transforms import FloatArray
from relocalize.place.folder import MAP_UNIT

NAME = "BlocksExchange XML"
CONVENTION = Convention("matrix", "cam_from_world", "RDF", "centre")
_ROOT = "BlocksExchange"
_WANT = "a pose with a rotation (M_00 to M_22, or Omega, Phi, Kappa) and a centre"
_MATRIX = tuple(f"M_{row}{column}" for row in range(3) for column in range(3))
_ANGLES = ("Omega", "Phi", "Kappa")
_DISTORTION = ("K1", "K2", "P2", "P1", "K3")  # as OpenCV orders them
_HALF_PIXEL = 0.5
_LARGEST = 1e9  # of an angle, a focal length or a coordinate
_MAIN = 1  # the component whose photos have their final pose; of component 0 are all others
_ORIENTATION = re.compile(r"X(Right|Left|Down|Up)Y(Right|Left|Down|Up)")
# Coordinate systems of degrees: codes, PROJ's, and WKT's, where it has none of lengths around it.
_DEGREES = re.compile(
    r"wgs ?84$|epsg:(4326|4979|4258|4269|4267)\b|.*\+proj=(long)?lat"
    r"|(?!.*proj(cs|crs)).*geog(cs|crs)",
    re.DOTALL,
)


def detect(path: Path) -> bool:
    """Whether it is an XML file whose root is ``BlocksExchange``."""
    return path.suffix.lower() == ".xml" and root_name(path) == _ROOT


def read(path: Path) -> Registration:
    """Read the photos of the main component that have a whole pose."""
    root = read_xml(path)
    if root.tag != _ROOT:
        raise FormatError(f"{path} is no {NAME}: its root is <{root.tag}>, want <{_ROOT}>")
    blocks = [block for block in root.iter("Block") if block.find(".//Photo") is not None]
    if len(blocks) != 1:
        raise FormatError(f"{path} has {len(blocks)} blocks with photos, want 1; export one block")
    _refuse_degrees(path, root, blocks[0])
    rows = PoseRows(path, NAME, CONVENTION, _WANT)
    for number, group in enumerate(blocks[0].iter("Photogroup")):
        kind = group.findtext("CameraModelType", "Perspective").strip()
        if kind not in {"Perspective", "Fisheye"}:
            rows.said["photos are panoramic and left out"] += len(group.findall("Photo"))
            continue
        try:
            camera, axes = _camera(group), _axes(group)
        except FormatError as error:
            raise FormatError(f"{path}, photogroup {number}: {error}") from None
        for photo in group.findall("Photo"):
            with rows.row(f"photo {photo.findtext('Id', '').strip()}"):
                why = _left_out(photo)
                if why is None:
                    _take(rows, photo, axes, camera)
                    rows.said["photos have a lens that is not read"] += camera is None
                else:
                    rows.said[why] += 1
    if not rows.count:
        raise FormatError(
            f"{path} has no photo with a whole pose: {'; '.join(rows.remarks) or 'it lists none'}; "
            "export it after the aerotriangulation"
        )
    return rows.registration(unit=MAP_UNIT)


def _refuse_degrees(path: Path, root: ElementTree.Element, block: ElementTree.Element) -> None:
    """Raise where the block's coordinates are degrees, which are no lengths."""
    systems = {
        system.findtext("Id", "").strip(): system.findtext("Definition", "").strip()
        for system in root.iter("SRS")
    }
    elements = [block, *block.iter("Photogroup")]
    for key in {element.findtext("SRSId", "").strip() for element in elements}:
        definition = systems.get(key, "")
        if _DEGREES.match(definition.lower()):
            raise FormatError(
                f"{path} has positions in longitude and latitude ({definition[:60]!r}); export it "
                "in a projected or local coordinate system"
            )


def _left_out(photo: ElementTree.Element) -> str | None:
    """Why a photo has no pose in the block's frame, for the remarks."""
    if photo.find("Pose/Center/x") is None:
        return "photos have no position"
    rotation = photo.find("Pose/Rotation")
    if rotation is None or not len(rotation):
        return "photos have a position and no rotation"
    if number_in(photo.findtext("Component", str(_MAIN)), "<Component>") != _MAIN:
        return (
            "photos are not in the main component and left out: they have a frame of their own, or "
            "none"
        )
    return None


def _take(
    rows: PoseRows, photo: ElementTree.Element, axes: FloatArray, camera: Camera | None
) -> None:
    name = (photo.findtext("ImagePath") or "").strip().replace("\\", "/")
    rotation = photo.find("Pose/Rotation")
    assert rotation is not None
    if rotation.find(_MATRIX[0]) is not None:
        matrix = np.reshape([_number(rotation, tag) for tag in _MATRIX], (3, 3))
    elif rotation.find(_ANGLES[0]) is not None:
        angles = [_number(rotation, tag) for tag in _ANGLES]
        matrix = Rotation.from_euler("XYZ", angles, degrees=True).as_matrix().T
    else:
        raise ValueError(f"{name} has a rotation of {rotation[0].tag}, want {_WANT}")
    centre = [_number(photo, f"Pose/Center/{axis}") for axis in "xyz"]
    rows.add(name, axes.T @ matrix, centre, camera)


def _axes(group: ElementTree.Element) -> FloatArray:
    """[3, 3] that maps OpenCV's camera coordinates to those of the photogroup's axes."""
    text = group.findtext("CameraOrientation", "XRightYDown").strip()
    words = _ORIENTATION.fullmatch(text)
    pair = "" if words is None else f"{words[1][0]}{words[2][0]}"
    for forward in "FB":
        with_z = set(pair) & set("RL") and set(pair) & set("UD")
        if with_z and np.linalg.det(axes_matrix(pair + forward)) > 0:
            return axes_matrix(pair + forward)
    raise FormatError(f"CameraOrientation {text[:40]!r}; want such as XRightYDown")


def _camera(group: ElementTree.Element) -> Camera | None:
    """The photogroup's camera; None where its lens is a fisheye, or has no focal length."""
    if group.findtext("CameraModelType", "").strip() == "Fisheye":
        return None
    width, height = (_number(group, f"ImageDimensions/{side}") for side in ("Width", "Height"))
    if not all(1 <= side <= LARGEST_SIDE and side.is_integer() for side in (width, height)):
        raise FormatError(f"images of {width:g} x {height:g} pixels")
    longer, per_mm = max(width, height), 0.0
    if group.find("SensorSize") is not None:  # of the longer side
        per_mm = longer / max(_number(group, "SensorSize"), 1e-9)
    elif group.find("PixelSize") is not None:
        per_mm = 1 / max(_number(group, "PixelSize"), 1e-9)
    if group.find("FocalLengthPixels") is not None:
        focal = _number(group, "FocalLengthPixels")
    elif group.find("FocalLength") is not None and per_mm:
        focal = _number(group, "FocalLength") * per_mm
    else:
        return None
    ratio = 1.0 if group.find("AspectRatio") is None else _number(group, "AspectRatio")
    if not (1 <= focal <= _LARGEST and 0.1 < ratio < 10):
        raise FormatError(f"a focal length of {focal:g} pixels, an aspect ratio of {ratio:g}")
    cx, cy = width / 2, height / 2
    if group.find("PrincipalPoint/x") is not None:
        cx, cy = (_number(group, f"PrincipalPoint/{axis}") + _HALF_PIXEL for axis in "xy")
    elif group.find("PrincipalPoint/xmm") is not None and per_mm:
        offset = [_number(group, f"PrincipalPoint/{axis}mm") * per_mm for axis in "xy"]
        right, down, _ = _axes(group).T @ [*offset, 0.0]
        cx, cy = cx + float(right), cy + float(down)
    terms = [
        0.0 if group.find(f"Distortion/{key}") is None else _number(group, f"Distortion/{key}")
        for key in _DISTORTION
    ]
    if not max(map(abs, terms)) <= LARGEST_TERM:
        raise FormatError(f"a distortion term of {max(map(abs, terms)):g}")
    known = group.find("Distortion") is not None
    pinhole = (focal, focal * ratio, cx, cy)
    return brown_camera(int(width), int(height), pinhole, tuple(terms) if known else ())


def _number(element: ElementTree.Element, tag: str) -> float:
    value = number_in(element.findtext(tag), f"<{tag}>")
    if abs(value) > _LARGEST:
        raise FormatError(f"<{tag}> is {value:.3g}, which is no number of a camera")
    return value
