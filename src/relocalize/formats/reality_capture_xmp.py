"""RealityCapture's and RealityScan's XMP sidecars: one ``.xmp`` beside each image.

Source: Epic, "RealityCapture XMP Camera Math": ``xcr:Rotation`` is row by row the rotation R that
maps the world to the camera (x right, y down, z forward), ``xcr:Position`` the camera's centre C,
so that t = -R C. Epic's forum, "Different rotation of cameras in XMP and CSV", gives the same
camera in both forms, and R is there what the table's angles mean. Intrinsics are those of
`reality_capture_lens`; ``xcr:AspectRatio`` scales the vertical focal length. Each value is an
attribute of ``rdf:Description`` or an element in it. ``xcr:Coordinates`` other than absolute are
those of the component that ``xcr:ComponentId`` names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from relocalize.errors import FormatError
from relocalize.formats.lenses import SizelessCamera
from relocalize.formats.pose_rows import PoseRows
from relocalize.formats.reality_capture_lens import FilmLenses
from relocalize.formats.registration import Registration
from relocalize.formats.text import one_line
from relocalize.formats.xml_file import number_in, numbers_in, read_xml
from relocalize.geometry import Convention
from relocalize.place.folder import MAP_UNIT

NAME = "RealityCapture XMP sidecar"
CONVENTION = Convention("matrix", "cam_from_world", "RDF", "centre")
_WANT = "xcr:Rotation of 9 numbers and xcr:Position of 3"
_NAMESPACE = "www.capturingreality.com/ns/xcr/"
_LOOKED_AT = 20  # sidecars of a folder that are opened to tell whether they are RealityCapture's
_MAX_BYTES = 4_000_000  # a sidecar has 1 kB; other tools keep previews in theirs
_MAX_FILES = 200_000
_BROWN = frozenset({"brown3", "brown3t2", "brown4", "brown4t2"})


def detect(path: Path) -> bool:
    """Whether it is a sidecar of RealityCapture or a folder with some."""
    if path.is_dir():
        files = sorted(one for one in path.iterdir() if one.suffix.lower() == ".xmp")
        return any(_is_sidecar(file) for file in files[:_LOOKED_AT])
    return path.suffix.lower() == ".xmp" and _is_sidecar(path)


def read(path: Path) -> Registration:
    """Read one sidecar, or those in a folder and the folders in it.

    Images are named by their sidecar without its ending, as RealityCapture pairs them.
    """
    rows = PoseRows(path, NAME, CONVENTION, _WANT)
    lenses = FilmLenses()
    posed: list[tuple[str, str, dict[str, str]]] = []
    for file, name in _sidecars(path):
        with rows.row(file.name):
            values = _values(read_xml(file, max_bytes=_MAX_BYTES))
            if "Rotation" in values and "Position" in values:
                posed.append((file.name, name, values))
            else:
                rows.said["sidecars have no pose"] += 1
    components = Counter(_component(values) for _, _, values in posed)
    here = max(components, key=components.__getitem__, default="")
    for where, name, values in posed:
        if _component(values) != here:
            continue
        with rows.row(where):
            rotation = np.reshape(numbers_in(values["Rotation"], 9, "xcr:Rotation"), (3, 3))
            position = numbers_in(values["Position"], 3, "xcr:Position")
            rows.add(name, rotation, position, _camera(values, lenses, rows.said))
            coordinates = values.get("Coordinates", "absolute")
            if coordinates != "absolute":
                rows.said[f"sidecars have {coordinates} coordinates"] += 1
    if not rows.count:
        raise FormatError(
            f"{path} has no sidecar with a pose ({rows.said.total()} without); export the metadata "
            "with camera poses"
        )
    others = [f"{count} of {key}" for key, count in components.items() if key != here]
    apart = [
        f"the largest of {len(components)} components is read, {components[here]} cameras of "
        f"{here}; in frames and scales of their own, and left out: {', '.join(others)}"
    ]
    return rows.registration(unit=MAP_UNIT, remarks=[*lenses.remarks(), *(apart if others else [])])


def _component(values: dict[str, str]) -> str:
    """Whose coordinates a sidecar has: absolute ones, or those of its component alone."""
    component = values.get("ComponentId", "")
    relative = values.get("Coordinates", "absolute") != "absolute"
    return component if relative and component else "absolute coordinates"


def _is_sidecar(path: Path) -> bool:
    with path.open("rb") as file:
        return _NAMESPACE.encode() in file.read(8192)


def _sidecars(path: Path) -> Iterator[tuple[Path, str]]:
    """The sidecars, and the names of their images below the folder."""
    if not path.is_dir():
        yield path, path.stem
        return
    files = sorted(one for one in path.rglob("*") if one.suffix.lower() == ".xmp")
    if len(files) > _MAX_FILES:
        raise FormatError(f"{path} has {len(files)} sidecars; the limit is {_MAX_FILES}")
    for file in files:
        yield file, file.relative_to(path).with_suffix("").as_posix()


def _values(root: ElementTree.Element) -> dict[str, str]:
    """RealityCapture's attributes and elements by their name without prefix."""
    values: dict[str, str] = {}
    for element in root.iter():
        for name, value in (*element.attrib.items(), (element.tag, element.text or "")):
            space, _, local = name.rpartition("}")
            if _NAMESPACE in space:
                values.setdefault(local, value.strip())
    return values


def _camera(
    values: dict[str, str], lenses: FilmLenses, said: Counter[str]
) -> SizelessCamera | None:
    if "FocalLength35mm" not in values:
        return None

    def number(name: str, default: float) -> float:
        return number_in(values[name], f"xcr:{name}") if name in values else default

    lens: tuple[float, ...] = ()
    if "DistortionCoeficients" in values:
        lens = numbers_in(values["DistortionCoeficients"], 6, "xcr:DistortionCoeficients")
    model = values.get("DistortionModel", "brown3").lower()
    if model not in _BROWN and any(lens):
        if model != "perspective":
            model = one_line(model)[:60]
            said[f"sidecars have the lens distortion model {model}, which is left open"] += 1
        lens = ()
    if number("Skew", 0.0) != 0:
        said["sidecars have a skew, which is left out"] += 1
    return lenses.camera(
        number("FocalLength35mm", 0.0),
        (number("PrincipalPointU", 0.0), number("PrincipalPointV", 0.0)),
        lens,
        aspect=number("AspectRatio", 1.0),
    )
