"""Taking images out of the map, so that they can come back exactly as they were.

Images keep their files; their poses and observations go from ``map/`` to ``dropped/``. The points
that stay keep their positions; one that fewer than two images still observe goes as well.
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pycolmap
from numpy.typing import NDArray

from relocalize.errors import MappingError, PlaceError
from relocalize.formats.names import match_names
from relocalize.geometry import Camera, Similarity3
from relocalize.geometry.transforms import rotation_from_quat_wxyz
from relocalize.mapping.stored_model import read_model, read_record, replace_model
from relocalize.place import Place, atomic
from relocalize.place.dropped import (
    RECORD,
    DroppedImage,
    DroppedRecord,
    dropped_folder,
    read_dropped,
)
from relocalize.place.folder import read_json
from relocalize.place.model import add_image, write_model

CHECK = "check.json"  # what `relocalize check PLACE` leaves in the Place
_Observation = tuple[str, int]  # image name, feature row


@dataclass(frozen=True)
class DropReport:
    """What came of dropping or restoring.

    Attributes:
        changed: images that went out, or came back.
        as_before: asked for, and out (or back) already.
        dropped: images that are out now.
        posed: images with a pose now.
        points: of the map now.
        remarks: what else there is to know, for people.
    """

    changed: tuple[str, ...]
    as_before: tuple[str, ...]
    dropped: tuple[str, ...]
    posed: int
    points: int
    remarks: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def flagged_images(place: Place) -> tuple[str, ...]:
    """The outliers that the last `relocalize check` of the Place found, those in no map too.

    Raises:
        PlaceError: there was no check, or its record is damaged.
    """
    path = place.root / CHECK
    if not path.is_file():
        raise PlaceError(
            f"{place.root} was not checked yet, so nothing is flagged; run: "
            f"relocalize check {place.root}"
        )
    outliers = read_json(path).get("outliers")
    if not isinstance(outliers, list) or not all(isinstance(name, str) for name in outliers):
        raise PlaceError(
            f"{path} is damaged: no list of outliers; run: relocalize check {place.root}"
        )
    return tuple(dict.fromkeys(outliers))


def drop_images(place: Place, names: Sequence[str]) -> DropReport:
    """Take images out of the map.

    Args:
        place: with a map.
        names: of images, as far as they are unambiguous.

    Raises:
        MappingError: a name is no image of the map, or no image would be left.
        PlaceError: the Place is locked or damaged, or has no map.
    """
    with place.lock():
        model, store = read_model(place), _Store.of(place)
        inside = _by_name(model)
        wanted = _named(names, [*inside, *(n for n in store.names if n not in inside)], place)
        going = [name for name in wanted if name in inside]
        if going and len(going) == len(inside):
            raise MappingError(
                f"all {len(inside)} images of the map would be dropped; "
                f"without a map, start anew: relocalize map {place.root}"
            )
        if going:
            _refuse_rigs(model, [inside[name] for name in going])
            store.forget(inside)
            store.take(model, [inside[name] for name in going])
            # First what brings them back, then their removal: a kill between loses nothing.
            store.write()
            for name in going:
                model.deregister_frame(inside[name].frame_id)
            replace_model(place, model, read_record(place))
        return _report(place, going, [name for name in wanted if name not in inside])


def restore_images(place: Place, names: Sequence[str] | None = None) -> DropReport:
    """Bring dropped images back; None brings all.

    Raises:
        MappingError: a name is no dropped image, or the map has been made anew without it.
        PlaceError: the Place is locked or damaged, or has no map.
    """
    with place.lock():
        model, store = read_model(place), _Store.of(place)
        inside = _by_name(model)
        out = [name for name in store.names if name not in inside]
        wanted = out if names is None else _named(names, [*out, *inside], place)
        coming = [name for name in wanted if name not in inside]
        remarks: tuple[str, ...] = ()
        if coming:
            remarks = store.give_back(model, coming)
            replace_model(place, model, read_record(place))
        # Where nothing is out, what a kill left of the folder goes.
        store.forget(_by_name(model))
        store.write()
        return _report(place, coming, [n for n in wanted if n in inside], remarks)


def _report(
    place: Place, changed: Sequence[str], as_before: Sequence[str], remarks: tuple[str, ...] = ()
) -> DropReport:
    images = place.map.images
    record = read_dropped(place)
    out = () if record is None else tuple(i.name for i in record.images if i.name not in images)
    return DropReport(
        tuple(changed), tuple(as_before), out, len(images), len(place.points), remarks
    )


def _by_name(model: pycolmap.Reconstruction) -> dict[str, pycolmap.Image]:
    return {model.images[i].name: model.images[i] for i in model.reg_image_ids()}


def _named(names: Sequence[str], known: Sequence[str], place: Place) -> list[str]:
    match = match_names(names, known)
    if match.ambiguous:
        raise MappingError(f"{next(iter(match.ambiguous.values()))}. Nothing was changed")
    unknown = match.absent
    if unknown:
        more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
        example = f"; the map has such as {known[0]!r}" if known else ""
        raise MappingError(
            f"{', '.join(map(repr, unknown[:3]))}{more}: no image of that name has a pose in "
            f"{place.root}, nor was dropped{example}. Nothing was changed"
        )
    return list(dict.fromkeys(match.present_of.values()))


def _refuse_rigs(model: pycolmap.Reconstruction, images: Iterable[pycolmap.Image]) -> None:
    for image in images:
        if len(list(model.frames[image.frame_id].data_ids)) > 1:
            raise MappingError(
                f"{image.name} was taken by a rig of several cameras, whose images cannot be "
                "dropped one by one"
            )


# -- what is out -----------------------------------------------------------------------------


class _Store:
    """The folder ``dropped/`` in memory, in the Place's present frame."""

    def __init__(self, place: Place, model: pycolmap.Reconstruction, record: DroppedRecord) -> None:
        self._place, self._model = place, model
        self._images = {image.name: image for image in record.images}
        self._map_inputs = record.map_inputs
        self._tracks: dict[int, dict[_Observation, None]] = defaultdict(dict)
        for point, observer, row in record.tracks.tolist():
            self._tracks[point][record.observers[observer], row] = None

    @classmethod
    def of(cls, place: Place) -> _Store:
        """What is out of the Place's map."""
        record = read_dropped(place)
        inputs = read_record(place).get("inputs")
        if record is None:
            none = np.zeros((0, 3), np.int64)
            empty = DroppedRecord((), (), none, len(place.moves), inputs)
            return cls(place, pycolmap.Reconstruction(), empty)
        try:
            model = pycolmap.Reconstruction(str(dropped_folder(place)))
        except (RuntimeError, ValueError, IndexError) as error:
            raise PlaceError(f"{dropped_folder(place)} is damaged: {error}") from error
        for move in place.moves[record.moves :]:
            rotation = rotation_from_quat_wxyz(move.quat_wxyz)
            moved = Similarity3(move.scale, rotation, np.array(move.translation))
            model.transform(moved.to_colmap())
        return cls(place, model, record)

    @property
    def names(self) -> list[str]:
        """Of the images that are out."""
        return list(self._images)

    def forget(self, inside: Iterable[str]) -> None:
        """Let go of images that are in the map, and of points that nobody else observed."""
        for name in set(inside) & set(self._images):
            del self._images[name]
        self._tracks = {
            point: track
            for point, track in self._tracks.items()
            if any(name in self._images for name, _ in track)
        }
        # Copied, not taken out: COLMAP lets go of a point that one image alone is left to observe.
        before, self._model = self._model, pycolmap.Reconstruction()
        for image_id, image in before.images.items():
            if image.name in self._images:
                _copy_image(self._model, image, image_id)
        for point_id, point in before.points3D.items():
            elements = [e for e in point.track.elements if self._model.exists_image(e.image_id)]
            if elements:
                _add_point(self._model, point_id, point, elements)

    def take(self, model: pycolmap.Reconstruction, images: Sequence[pycolmap.Image]) -> None:
        """Note images of the map with all that is needed to bring them back."""
        self._refuse_two_maps()
        names = {key: image.name for key, image in model.images.items()}
        for image in images:
            self._images[image.name] = DroppedImage(
                image.name, int(image.image_id), int(image.camera_id)
            )
            copy_id = _copy_image(self._model, image, max(self._model.images, default=0) + 1)
            for row, keypoint in enumerate(image.points2D):
                if not keypoint.has_point3D():
                    continue
                point = int(keypoint.point3D_id)
                original = model.points3D[point]
                for element in original.track.elements:
                    self._tracks.setdefault(point, {})[
                        names[element.image_id], int(element.point2D_idx)
                    ] = None
                observation = pycolmap.TrackElement(copy_id, row)
                if self._model.exists_point3D(point):
                    self._model.add_observation(point, observation)
                else:
                    _add_point(self._model, point, original, [observation])

    def _refuse_two_maps(self) -> None:
        if self._images and self._map_inputs != read_record(self._place).get("inputs"):
            raise MappingError(
                f"{len(self._images)} images were dropped from an earlier map of "
                f"{self._place.root}; bring them back first: "
                f"relocalize drop {self._place.root} --restore"
            )
        if not self._images:
            self._map_inputs = read_record(self._place).get("inputs")

    def give_back(self, model: pycolmap.Reconstruction, names: Sequence[str]) -> tuple[str, ...]:
        """Put images back into the map; what there is to say about it."""
        same_map = self._map_inputs == read_record(self._place).get("inputs")
        if not same_map and not (self._place.poses_from or "").startswith("imported"):
            raise MappingError(
                f"the map of {self._place.root} was made anew since, in a frame of its own, and "
                "without these images; forget them by deleting "
                f"{dropped_folder(self._place)}"
            )
        stored = _by_name(self._model)
        for name in names:
            number = self._images[name].image_id
            if model.exists_image(number) and model.images[number].has_pose:
                number = max(model.images) + 1
            _copy_image(
                model,
                stored[name],
                number,
                camera_id=self._images[name].camera_id,
                with_keypoints=same_map,
            )
        if not same_map:
            return (
                "the map was made anew since: poses are back, and observations come with: "
                f"relocalize map {self._place.root}",
            )
        inside = _by_name(model)
        for point, track in self._tracks.items():
            elements = [
                pycolmap.TrackElement(inside[name].image_id, row)
                for name, row in track
                if name in inside and not inside[name].points2D[row].has_point3D()
            ]
            if model.exists_point3D(point):
                for element in elements:
                    model.add_observation(point, element)
            elif len(elements) >= 2:
                _add_point(model, point, self._model.points3D[point], elements)
        return ()

    def write(self) -> None:
        """Write ``dropped/`` in one step; without images it is gone."""
        folder = dropped_folder(self._place)
        if not self._images:
            (folder / RECORD).unlink(missing_ok=True)  # without it the rest means nothing
            shutil.rmtree(folder, ignore_errors=True)
            return
        with atomic.new_folder(folder) as aside:
            observers = sorted({name for track in self._tracks.values() for name, _ in track})
            row_of = {name: row for row, name in enumerate(observers)}
            rows = [
                (point, row_of[name], row)
                for point, track in self._tracks.items()
                for name, row in track
            ]
            tracks: NDArray[np.int64] = np.array(rows, dtype=np.int64).reshape(-1, 3)
            record = DroppedRecord(
                tuple(self._images.values()),
                tuple(observers),
                tracks,
                len(self._place.moves),
                self._map_inputs,
            )
            write_model(self._model, aside)
            atomic.write_json(aside / RECORD, record.write(aside))


def _copy_image(
    model: pycolmap.Reconstruction,
    image: pycolmap.Image,
    image_id: int,
    *,
    camera_id: int | None = None,
    with_keypoints: bool = True,
) -> int:
    """Add an image of another model with its pose, camera and keypoints; its number."""
    camera_id = image.camera_id if camera_id is None else camera_id
    if not model.exists_camera(camera_id) and image.camera is not None:
        camera = Camera.from_colmap(image.camera)
        model.add_camera_with_trivial_rig(camera.to_colmap(camera_id))
    keypoints = np.array([point.xy for point in image.points2D]).reshape(-1, 2)
    kept = keypoints if with_keypoints else np.zeros((0, 2))
    add_image(model, image.name, image_id, camera_id, image.cam_from_world(), kept)
    return image_id


def _add_point(
    model: pycolmap.Reconstruction,
    point_id: int,
    original: pycolmap.Point3D,
    elements: Sequence[pycolmap.TrackElement],
) -> None:
    point = pycolmap.Point3D()
    point.xyz, point.color, point.error = original.xyz, original.color, original.error
    track = pycolmap.Track()
    for element in elements:
        track.add_element(element.image_id, element.point2D_idx)
    point.track = track
    model.add_point3D_with_id(point_id, point)
