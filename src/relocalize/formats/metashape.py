"""Metashape's (PhotoScan's) cameras as XML: *File > Export > Export Cameras*.

Sources: "Agisoft Metashape User Manual", appendix "Camera models" (camera axes x right, y down,
z forward); "Metashape Python Reference", `Camera.transform` (camera to chunk),
`Chunk.transform` (chunk to world) and `Component.transform`; Agisoft's ``metashape-scripts``, which
place a camera by ``chunk.transform.matrix * camera.transform``, with the chunk's matrix being
``[scale * rotation | translation]``. A camera of a rig has its master's transform times its
sensor's offset: `Sensor.rotation` and `Sensor.location`, slave to master.
Intrinsics are read in `metashape_lens`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from relocalize.errors import FormatError, GeometryError
from relocalize.formats.lenses import NEGLIGIBLE_PX
from relocalize.formats.metashape_lens import SensorLens, sensor_lens
from relocalize.formats.pose_rows import PoseRows
from relocalize.formats.registration import Registration
from relocalize.formats.xml_file import numbers_in, read_xml, root_name
from relocalize.geometry import Convention, Rigid3
from relocalize.geometry.transforms import FloatArray, Similarity3
from relocalize.place.folder import MAP_UNIT, METRE

NAME = "Metashape XML"
CONVENTION = Convention("matrix", "world_from_cam", "RDF", "centre")
_WANT = "a camera's transform of 4 x 4 numbers"
_LARGEST = 1e12  # a number beyond this is in no transform, in any unit
# Metres from the earth's middle to its surface (6,357 to 6,378 km) and what is built on it: a map
# that far from its origin has geocentric coordinates, where UTM's are anywhere up to 10,000 km.
_EARTH_RADIUS = (6.34e6, 6.40e6)


def detect(path: Path) -> bool:
    """Whether it is an XML file whose root is a ``document`` with chunks."""
    if path.suffix.lower() != ".xml" or root_name(path) != "document":
        return False
    with path.open("rb") as file:
        return b"<chunk" in file.read(4096)


def read(path: Path) -> Registration:
    """Read the cameras of the one chunk of an XML file, in the world that the chunk is placed in.

    Cameras that are disabled, not aligned or panoramic are left out and counted in the remarks.
    """
    chunk = _Chunk.of(path, _only_chunk(path))
    rows = PoseRows(path, NAME, CONVENTION, _WANT)
    said: Counter[str] = Counter()
    here, apart = chunk.frame_of_most()
    worst_px: dict[str | None, float] = {}  # of sensors that no model here holds
    placed: list[Similarity3] = []
    for camera in _cameras(chunk.element):
        label = (camera.get("label") or "").strip()
        lens = chunk.lenses.get(camera.get("sensor_id", ""), SensorLens(None))
        with rows.row(f"camera {camera.get('id')}"):
            try:
                left_out = _left_out(camera, lens)
                pose, of_rig = (None, False) if left_out else chunk.chunk_from_cam(camera)
                if pose is None:
                    said[left_out or "are not aligned (they have no transform)"] += 1
                    continue
                if of_rig:
                    said["of a rig are placed by their sensor's offset from the master's"] += 1
                if chunk.frame_of(camera) != here:
                    continue  # counted in `apart`
                world = chunk.world_from(here)
            except (FormatError, GeometryError) as error:
                raise FormatError(f"{label}: {error}") from None
            rows.add_matrix(label, world.move_camera(pose).matrix, lens.camera)
            placed.append(world)
            if camera.find("rolling_shutter") is not None:
                said["have a rolling shutter's motion, which is not read"] += 1
            if lens.of_exif:
                said["have a calibration of PhotoScan before 1.3, which is not read"] += 1
            if lens.error_px > NEGLIGIBLE_PX:
                worst_px[camera.get("sensor_id")] = lens.error_px
    remarks = [f"{count} cameras {what}" for what, count in said.items()]
    remarks += apart
    if worst_px:
        remarks.append(
            f"{len(worst_px)} sensors have skew (b2) or other terms that no camera model here "
            f"holds; without them pixels are off by up to {max(worst_px.values()):.2f}"
        )
    if not rows.count:
        raise FormatError(
            f"{path} has no aligned camera: {'; '.join(remarks) or 'it lists none'}; align the "
            "photos in Metashape and export the cameras again"
        )
    scaled = any(world.scale != 1 for world in placed)
    far = [float(np.linalg.norm(world.translation)) for world in placed]
    if scaled and _EARTH_RADIUS[0] < float(np.median(far)) < _EARTH_RADIUS[1]:
        remarks.append("positions are geocentric: z is not up, but the earth's axis")
    return rows.registration(
        unit=METRE if scaled else MAP_UNIT,
        scale_from="the scale of Metashape's chunk" if scaled else None,
        remarks=remarks,
    )


def _only_chunk(path: Path) -> ElementTree.Element:
    root = read_xml(path)
    if root.tag != "document":
        raise FormatError(f"{path} is no {NAME}: its root is <{root.tag}>, want <document>")
    chunks = [chunk for chunk in root.iter("chunk") if chunk.find("cameras") is not None]
    if len(chunks) != 1:
        raise FormatError(
            f"{path} has {len(chunks)} chunks with cameras, want 1; export one chunk at a time"
        )
    return chunks[0]


def _left_out(camera: ElementTree.Element, lens: SensorLens) -> str | None:
    """Why a camera is no posed photo, for the remarks."""
    if camera.get("enabled", "true").lower() in {"false", "0"}:
        return "are disabled"
    if lens.see_all_around:
        return "are panoramic or of a type that is not read"
    return None


@dataclass(frozen=True)
class _Chunk:
    """What a chunk's cameras refer to."""

    element: ElementTree.Element  # the chunk
    lenses: dict[str, SensorLens]  # by sensor id
    offsets: dict[str, Rigid3]  # ``master_from_slave`` by sensor id
    world: Similarity3  # ``world_from_chunk``
    components: dict[str, Similarity3]  # ``world_from_component`` by component id
    by_id: dict[str, ElementTree.Element]  # cameras by their id

    @classmethod
    def of(cls, path: Path, element: ElementTree.Element) -> _Chunk:
        sensors = element.findall("sensors/sensor")
        try:
            world = _similarity(element.find("transform"))
            components = {
                component.get("id", ""): _similarity(component.find("transform"))
                for component in element.findall("components/component")
                if component.find("transform") is not None
            }
            lenses = {sensor.get("id", ""): sensor_lens(sensor) for sensor in sensors}
            offsets = {sensor.get("id", ""): _offset(sensor) for sensor in sensors}
        except (FormatError, GeometryError) as error:
            raise FormatError(f"{path}: {error}") from None
        return cls(
            element=element,
            lenses=lenses,
            offsets={key: offset for key, offset in offsets.items() if offset is not None},
            world=world,
            components=components,
            by_id={camera.get("id", ""): camera for camera in _cameras(element)},
        )

    def frame_of(self, camera: ElementTree.Element) -> str:
        """The component whose frame a camera is in; empty for the chunk's.

        Metashape gives a component a transform once it is placed; what is not placed has a frame
        and a scale of its own, and the chunk's only where it is the chunk's first or only one.
        """
        own = camera.get("component_id")
        if own is None or (master := self.by_id.get(camera.get("master_id", ""))) is None:
            return own or ""
        return master.get("component_id") or own

    def frame_of_most(self) -> tuple[str, list[str]]:
        """The component with the most aligned cameras, placed ones first; remarks on the others."""
        counts = Counter(
            self.frame_of(camera) for camera in _cameras(self.element) if _is_aligned(camera)
        )
        placed = Counter({key: count for key, count in counts.items() if key in self.components})
        if len(counts) < 2:
            return next(iter(counts), ""), []
        here = max(placed or counts, key=lambda key: counts[key])
        others = ", ".join(
            f"{counts[key]} of {self.label_of(key)}" for key in counts if key != here
        )
        return here, [
            f"the largest of {len(counts)} components that is placed is read, {counts[here]} "
            f"cameras of {self.label_of(here)}; in frames and scales of their own, and left out: "
            f"{others}"
        ]

    def label_of(self, component: str) -> str:
        """The component's name, for people."""
        for one in self.element.findall("components/component"):
            if one.get("id", "") == component:
                return one.get("label") or f"component {component}"
        return f"component {component}" if component else "no component"

    def world_from(self, component: str) -> Similarity3:
        """A component that was placed on its own overrides the chunk."""
        return self.components.get(component, self.world)

    def chunk_from_cam(self, camera: ElementTree.Element) -> tuple[Rigid3 | None, bool]:
        """A camera's own transform, or its rig's and True; None where it is not aligned."""
        own = _transform(camera)
        if own is not None:
            return own, False
        master = self.by_id.get(camera.get("master_id", ""))
        offset = self.offsets.get(camera.get("sensor_id", ""))
        chunk_from_master = None if master is None or master is camera else _transform(master)
        if chunk_from_master is None or offset is None:
            return None, False
        return chunk_from_master @ offset, True


def _is_aligned(camera: ElementTree.Element) -> bool:
    enabled = camera.get("enabled", "true").lower() not in {"false", "0"}
    return enabled and bool((camera.findtext("transform") or "").strip())


def _cameras(chunk: ElementTree.Element) -> Iterator[ElementTree.Element]:
    """All cameras, those in groups too."""
    return (camera for cameras in chunk.findall("cameras") for camera in cameras.iter("camera"))


def _transform(camera: ElementTree.Element) -> Rigid3 | None:
    text = camera.findtext("transform")
    if text is None or not text.strip():
        return None
    return Rigid3.from_matrix(_numbers(text, 16, "the transform").reshape(4, 4))


def _similarity(transform: ElementTree.Element | None) -> Similarity3:
    """A chunk's or component's ``<transform>``; the identity where it is absent or in part."""
    if transform is None:
        return Similarity3.identity()
    scale = transform.findtext("scale")
    return Similarity3(
        1.0 if scale is None else float(_numbers(scale, 1, "a transform's scale")[0]),
        _rotation(transform.findtext("rotation")),
        _vector(transform.findtext("translation")),
    )


def _offset(sensor: ElementTree.Element) -> Rigid3 | None:
    """Where a rig's sensor sits: ``master_from_slave``; None where the file does not say."""
    rotation = sensor.findtext("rotation")
    location = sensor.findtext("translation") or sensor.findtext("location")
    if rotation is None and location is None:
        return None
    return Rigid3(_rotation(rotation), _vector(location))


def _rotation(text: str | None) -> FloatArray:
    return np.eye(3) if text is None else _numbers(text, 9, "a rotation").reshape(3, 3)


def _vector(text: str | None) -> FloatArray:
    return np.zeros(3) if text is None else _numbers(text, 3, "a translation")


def _numbers(text: str, count: int, what: str) -> FloatArray:
    values = np.array(numbers_in(text, count, what))
    largest = float(np.abs(values).max())
    if largest > _LARGEST:
        raise FormatError(f"{what} has {largest:.3g} in it, which is nowhere")
    return values
