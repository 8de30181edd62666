"""The frame from measured things: positions of cameras or points, lengths, what is up.

A control file has rows of two kinds, separated by commas (or blanks; or semicolons or tabs, and
then numbers may have a decimal comma):

    image, x, y, z             where a camera was, in metres
    point, x, y, z             where a point is, in metres
    point, image, u, v         where an image shows that point, in pixels

Lines that start with # are remarks, and the first line may be a heading. A point seen in two or
more images is triangulated from the map's poses; one seen in a single image is the map's own point
at that pixel. Pixels count from the corner of the top-left one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from relocalize.errors import MappingError
from relocalize.formats.table import split_cells
from relocalize.formats.text import read_lines
from relocalize.geometry import Similarity3, align_points
from relocalize.geometry.alignment_doubts import why_not
from relocalize.geometry.transforms import FloatArray
from relocalize.mapping.aligning import FoundFrame, Stations, remarks_on, up_after
from relocalize.mapping.scale import (
    MeasuredLength,
    check_lengths,
    image_of,
    metres_per_unit,
    position_of,
)
from relocalize.place import MapModel, Place, PosedImage
from relocalize.place.folder import METRE

# A point whose rays all meet under less has no sure distance.
_MIN_RAY_ANGLE_DEG = 1.0
# Of the image's diagonal: what a hand clicks is good to a few pixels, not to 1% (16 px in 1080p).
_MAX_PIXEL_ERROR = 0.01
_FARTHEST = 1e9  # metres or pixels; coordinates of maps of whole countries have 1e7
_AXES = {"x": (1.0, 0.0, 0.0), "y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0)}


@dataclass(frozen=True, eq=False)
class GroundControl:
    """What a control file says."""

    source: str  # its name
    positions: dict[str, FloatArray]  # [3] metres by name of an image or point
    # by point, the pixels that show it: (image name, u, v)
    observations: dict[str, list[tuple[str, float, float]]] = field(default_factory=dict)


def read_control(path: Path) -> GroundControl:
    """Read a control file.

    Raises:
        FormatError: it is no text file.
        MappingError: a row is of neither kind, or a name has two positions; with file and line.
    """
    positions: dict[str, FloatArray] = {}
    observations: dict[str, list[tuple[str, float, float]]] = {}
    for index, (number, cells) in enumerate(_rows(path)):
        numbers = [_number(cell) for cell in cells[1:]]
        texts = sum(number is None for number in numbers)
        values = np.array([0.0 if number is None else number for number in numbers])
        where = f"{path}, line {number}"
        if index == 0 and texts == len(numbers) >= 3:
            continue  # the heading
        if len(cells) != 4 or texts > 1 or (texts == 1 and numbers[0] is not None):
            raise MappingError(
                f"{where}: want `image, x, y, z`, `point, x, y, z` or `point, image, u, v`, got "
                f"{', '.join(cells)[:80]!r}"
            )
        if not (np.abs(values) <= _FARTHEST).all():
            raise MappingError(f"{where}: {cells[0]!r} has {values.tolist()}, which is nowhere")
        if texts:
            observations.setdefault(cells[0], []).append((cells[1], values[1], values[2]))
            continue
        if cells[0] in positions:
            raise MappingError(f"{where}: a second position of {cells[0]!r}")
        positions[cells[0]] = values
    unplaced = [name for name in observations if name not in positions]
    if unplaced:
        raise MappingError(
            f"{path}: point {unplaced[0]!r} is seen in images but has no row `point, x, y, z`"
        )
    return GroundControl(path.name, positions, observations)


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The number and the cells of each row; numbers have decimal points."""
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        separator = next((one for one in (";", "\t", ",") if one in line), None)
        try:
            cells = split_cells(line, separator)
        except ValueError as error:
            raise MappingError(f"{path}, line {number}: {error}") from None
        if separator in {";", "\t"}:
            points = [cell.replace(",", ".") for cell in cells]
            cells = [
                cell if _number(point) is None else point
                for cell, point in zip(cells, points, strict=True)
            ]
        yield number, cells


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def align_to_control(
    place: Place, control: GroundControl, *, rigid: bool = False, seed: int = 0
) -> FoundFrame:
    """The transform to the frame of measured positions, in metres.

    Raises:
        MappingError: fewer than three positions can be found in the map, or they do not determine
            the answer; with the reason.
    """
    model, names = place.map, list(control.positions)
    found = [_found(model, name, control) for name in names]
    if len(names) < 3:
        raise MappingError(
            f"{control.source} has {len(names)} positions; ground control needs three or more, "
            "not on one line (for a length alone: --distance A B METRES)"
        )
    in_place, measured = np.stack(found), np.stack([control.positions[name] for name in names])
    alignment = align_points(in_place, measured, fix_scale=rigid, seed=seed)
    reason = why_not(alignment, what="control positions", unit="metres")
    if reason is not None:
        raise MappingError(
            f"{place.root} cannot be aligned with {control.source}: {reason}; check the rows, or "
            "measure more points that are apart from each other"
        )
    onto = f"ground control {control.source}"
    frame = up_after(place.frame, alignment.b_from_a)
    return FoundFrame(
        reference_from_place=alignment.b_from_a,
        onto=onto,
        frame=replace(frame, unit=METRE, scale_from=onto),
        unit=METRE,
        names=tuple(names),
        alignment=alignment,
        in_place=Stations(in_place, None),
        in_reference=Stations(measured, None),
        remarks=remarks_on(alignment, "control positions"),
    )


def _found(model: MapModel, name: str, control: GroundControl) -> FloatArray:
    """The position in the map of an image's camera, or of a point that images show: [3]."""
    observed = control.observations.get(name)
    if not observed:
        image = image_of(model, name)
        if image is None:
            raise MappingError(
                f"{control.source}: {name!r} is no posed image of the map, and no row `{name}, "
                "image, u, v` says where one shows it; images are such as "
                f"{next(iter(model.images), 'none')}"
            )
        return image.world_from_cam.translation
    images = [image_of(model, one) for one, _, _ in observed]
    posed = [image for image in images if image is not None]
    if len(posed) < len(images):
        missing = observed[images.index(None)][0]
        raise MappingError(f"point {name!r}: image {missing!r} has no pose in the map")
    if len(observed) == 1:
        one, u, v = observed[0]
        return position_of(model, f"{one}@{u},{v}")
    return triangulated(name, posed, np.array([(u, v) for _, u, v in observed]))


def triangulated(point: str, images: Sequence[PosedImage], pixels: FloatArray) -> FloatArray:
    """The position [3] that images see at ``pixels`` [N, 2], by least squares of pixel errors.

    Args:
        point: its name, for errors.
        images: N posed images, two or more.
        pixels: where each of them shows it.

    Raises:
        MappingError: the rays are nearly parallel, or do not meet.
    """
    centres = np.stack([image.world_from_cam.translation for image in images])
    rays = []
    for image, pixel in zip(images, pixels, strict=True):
        ray = np.append(image.camera.cam_from_img(pixel[None])[0], 1.0)
        rays.append(image.world_from_cam.rotation @ (ray / np.linalg.norm(ray)))
    directions = np.stack(rays)
    cosines = np.clip(directions @ directions.T, -1, 1)
    angle = float(np.degrees(np.arccos(cosines.min())))
    if not np.isfinite(angle) or angle < _MIN_RAY_ANGLE_DEG:
        raise MappingError(
            f"point {point!r}: the images look at it under {angle:.2g} degrees at most, which "
            "gives it no sure distance; add an image from another side"
        )
    # The point nearest to all rays, then the one with the least pixel errors.
    across = np.eye(3) - directions[:, :, None] * directions[:, None, :]
    start = np.linalg.solve(across.sum(axis=0), np.einsum("nij,nj->i", across, centres))

    def errors(position: FloatArray) -> FloatArray:
        rows = [
            image.camera.img_from_cam(image.cam_from_world @ position[None])[0] - pixel
            for image, pixel in zip(images, pixels, strict=True)
        ]
        return np.asarray(np.nan_to_num(np.concatenate(rows), nan=1e6))

    position: FloatArray = least_squares(errors, start, x_scale="jac").x
    off = np.linalg.norm(errors(position).reshape(-1, 2), axis=1)
    worst = int(off.argmax())
    camera = images[worst].camera
    if off[worst] > _MAX_PIXEL_ERROR * np.hypot(camera.width, camera.height):
        raise MappingError(
            f"point {point!r}: its rays do not meet, in {images[worst].name} the best position is "
            f"{off[worst]:.0f} px off; check the pixels"
        )
    return position


def frame_of_measurements(
    place: Place, lengths: Sequence[MeasuredLength] = (), up: Sequence[str] = ()
) -> FoundFrame:
    """The transform that makes lengths metres, and turns the stated up to z; the origin stays.

    Args:
        place: with a map.
        lengths: that were measured; none keep the unit.
        up: one direction in the Place's frame (``y``, ``-z``, ``0,0.1,1``), or two images or
            IMAGE@X,Y of which the second is above the first; none keeps the axes.

    Raises:
        MappingError: an end is not in the map, lengths disagree, or up is no direction.
    """
    model, frame = place.map, place.frame
    scale, rotation, onto = 1.0, np.eye(3), []
    if lengths:
        check_lengths(lengths, model.images)
        scale = metres_per_unit(model, lengths)
        onto += [f"{one.first} to {one.second} {one.metres:g} m" for one in lengths]
        frame = replace(frame, unit=METRE, scale_from=f"measured lengths: {'; '.join(onto)}")
    if up:
        rotation = _to_z(_up_direction(model, up))
        onto.append(f"up is {' to '.join(up)}")
        frame = replace(frame, up="z", up_from="stated")
    ends = [end for one in lengths for end in (one.first, one.second)]
    return FoundFrame(
        reference_from_place=Similarity3(scale, rotation, np.zeros(3)),
        onto="; ".join(onto),
        frame=frame,
        unit=frame.unit,
        names=tuple(dict.fromkeys(ends + (list(up) if len(up) == 2 else []))),
    )


def _up_direction(model: MapModel, up: Sequence[str]) -> FloatArray:
    """[3] unit vector in the map."""
    if len(up) == 2:
        ends = [position_of(model, end) for end in up]
        direction = ends[1] - ends[0]
    elif len(up) == 1:
        direction = _direction(up[0])
    else:
        raise MappingError(f"up: got {len(up)} values, want a direction, or two images or points")
    length = float(np.linalg.norm(direction))
    if length < 1e-9:
        raise MappingError(f"up {' to '.join(up)}: no direction (its length is {length:.2g})")
    return direction / length


def _direction(text: str) -> FloatArray:
    sign, name = (-1.0, text[1:]) if text.startswith("-") else (1.0, text)
    if name in _AXES:
        return sign * np.array(_AXES[name])
    values = [_number(cell) for cell in text.split(",")]
    direction = np.array([np.nan if value is None else value for value in values])
    if len(values) != 3 or not (np.abs(direction) <= _FARTHEST).all():
        raise MappingError(
            f"up {text!r}: want an axis such as y or -z, three numbers such as 0,0.1,1, or two "
            "images or IMAGE@X,Y"
        )
    return direction


def _to_z(direction: FloatArray) -> FloatArray:
    """The smallest rotation [3, 3] that turns a unit vector to z; about x where any would do."""
    axis = np.cross(direction, _AXES["z"])
    sine, cosine = float(np.linalg.norm(axis)), float(direction[2])
    if sine < 1e-12:
        return np.eye(3) if cosine > 0 else np.diag([1.0, -1.0, -1.0])
    return Rotation.from_rotvec(axis / sine * np.arctan2(sine, cosine)).as_matrix()
