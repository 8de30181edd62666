"""Metric scale from lengths that somebody measured."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from relocalize.errors import MappingError
from relocalize.formats.names import match_names
from relocalize.geometry.transforms import FloatArray
from relocalize.place import MapModel, PosedImage
from relocalize.place.model import NO_POINT

# How far from a given pixel, as a share of the image's diagonal, its map point may be seen.
_PIXEL_REACH = 0.02
_MAX_DISAGREEMENT = 0.1  # between scales that several lengths give; a wrong length shows here


@dataclass(frozen=True)
class MeasuredLength:
    """A length between two things that the map knows."""

    first: str  # an image name (its camera centre), or ``IMAGE@X,Y`` (the point seen at that pixel)
    second: str  # likewise
    metres: float  # what was measured


def check_lengths(lengths: Sequence[MeasuredLength], names: Collection[str]) -> None:
    """What can be said of lengths before there is a map, given the Place's image names.

    Raises:
        MappingError: a length is not positive, or an end names no image.
    """
    check_positive(lengths)
    for length in lengths:
        for end in (length.first, length.second):
            name, _ = _image_and_pixel(end)
            if name not in match_names([name], names).present_of:
                raise MappingError(
                    f"{name!r} is no image of the Place, so no length can start there; "
                    f"it has such as {min(names, default='none')!r}"
                )


def check_positive(lengths: Sequence[MeasuredLength]) -> None:
    """Raise MappingError where a length is not positive."""
    for length in lengths:
        if not np.isfinite(length.metres) or length.metres <= 0:
            raise MappingError(f"measured length {length.metres}; want metres > 0")


def metres_per_unit(model: MapModel, lengths: Sequence[MeasuredLength]) -> float:
    """The factor from map units to metres: the median over lengths that `check_lengths` passed.

    Raises:
        MappingError: an end is not in the map, or lengths disagree.
    """
    factors = []
    for length in lengths:
        ends = [position_of(model, end) for end in (length.first, length.second)]
        distance = float(np.linalg.norm(ends[0] - ends[1]))
        if distance < 1e-9:
            raise MappingError(
                f"{length.first} and {length.second} are at one place in the map; "
                "measure between two that are apart"
            )
        factors.append(length.metres / distance)
    factor = float(np.median(factors))
    worst = max(range(len(factors)), key=lambda i: abs(np.log(factors[i] / factor)))
    if abs(factors[worst] / factor - 1) > _MAX_DISAGREEMENT:
        raise MappingError(
            f"the measured lengths disagree: {lengths[worst].first} to {lengths[worst].second} "
            f"says {factors[worst]:.4g} metres per map unit, the others {factor:.4g}; check it"
        )
    return factor


def _image_and_pixel(end: str) -> tuple[str, tuple[float, float] | None]:
    name, at, pixel = end.rpartition("@")
    if not at:
        return end, None
    try:
        x, y = (float(value) for value in pixel.split(","))
    except ValueError:
        raise MappingError(f"{end!r}: want IMAGE@X,Y with a pixel's x and y") from None
    return name, (x, y)


def image_of(model: MapModel, name: str) -> PosedImage | None:
    """The map's image that a name means, or None; raises `MappingError` where it means several."""
    match = match_names([name], model.images)
    if name in match.ambiguous:
        raise MappingError(f"{match.ambiguous[name]}; write its folder, too")
    return model.images.get(match.present_of.get(name, name))


def position_of(model: MapModel, end: str) -> FloatArray:
    """Where an image's camera, or what is seen at ``IMAGE@X,Y``, is in the map: [3].

    Raises:
        MappingError: the image has no pose, or no map point is seen there.
    """
    name, pixel = _image_and_pixel(end)
    image = image_of(model, name)
    if image is None:
        raise MappingError(
            f"{name!r} has no pose in the map; it has such as {next(iter(model.images), 'none')!r}"
        )
    if pixel is None:
        return image.world_from_cam.translation
    seen = np.flatnonzero(image.point_rows != NO_POINT)
    distance = np.linalg.norm(image.keypoints[seen] - np.array(pixel), axis=1)
    reach = _PIXEL_REACH * float(np.hypot(image.camera.width, image.camera.height))
    if not len(seen) or distance.min() > reach:
        raise MappingError(
            f"no map point is seen within {reach:.0f} px of {end}; "
            "give the pixel of a corner or mark with texture"
        )
    row = image.point_rows[seen[int(distance.argmin())]]
    position: FloatArray = model.points.positions[row]
    return position
