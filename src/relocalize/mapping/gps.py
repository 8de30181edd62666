"""The frame from the photos' own GPS: metres to the east, north and up of a stored origin.

A phone's fix is good to some metres, a map to centimetres, so the fixes say where the whole map is
and not where a photo is. Where the map knows what is up, the fixes only turn it about that axis,
since their noise would tilt it; else they turn it freely. Geodesy: WGS84 (NIMA TR8350.2, section
4); latitude, longitude and height as EXIF has them (CIPA DC-008, section 4.6.6).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from relocalize.errors import MappingError
from relocalize.geometry import Similarity3, align_points
from relocalize.geometry.alignment_doubts import why_not
from relocalize.geometry.transforms import FloatArray
from relocalize.mapping.aligning import FoundFrame, remarks_on
from relocalize.place import Frame, Place
from relocalize.place.captures import Fix
from relocalize.place.folder import METRE

_FROM = "GPS"  # how `Frame.up_from` begins where earlier fixes, not gravity, said what is up
_LEAST = 4  # fixes: two make a heading and a scale, and as many must be left to check them by
_HYPOTHESES = 500
# Of the fixes' spread: where their noise is more, heading and scale are the noise's.
_MOST_NOISE = 0.5
_NORMAL_2D = 1.1774  # median length of a normal 2-vector with sigma 1 (Rayleigh distribution)
_INLIER_SIGMAS = 3.0
_SEMI_MAJOR_M, _FLATTENING = 6378137.0, 1 / 298.257223563


def align_to_gps(place: Place, *, seed: int = 0) -> FoundFrame:
    """The transform to metres east, north and up of the middle of the photos' GPS fixes.

    Raises:
        MappingError: fewer than 4 posed photos have a fix with a height, or these do not determine
            the transform; with the reason.
    """
    posed = place.map.images
    fixes = {
        image.name: image.gps
        for _, image in place.images()
        if image.gps is not None and image.gps.height is not None and image.name in posed
    }
    if len(fixes) < _LEAST:
        raise MappingError(
            f"{len(fixes)} of the {len(posed)} posed images of {place.root} have a GPS position "
            f"with a height in their EXIF; {_LEAST} are needed (give measured positions with "
            "--control FILE)"
        )
    names = tuple(fixes)
    origin = _middle(list(fixes.values()))
    measured = east_north_up(list(fixes.values()), origin)
    in_place = np.stack([posed[name].world_from_cam.translation for name in names])
    onto = f"{_FROM} of {len(names)} photos"
    frame = Frame("z", onto, METRE, onto, enu_origin=origin)
    if place.frame.up == "z" and not str(place.frame.up_from).startswith(_FROM):
        frame = replace(frame, up_from=place.frame.up_from)
        found, remark = _about_up(in_place, measured, np.random.default_rng(seed), place)
        return FoundFrame(found, onto, frame, METRE, names, remarks=(_said(origin), remark))
    alignment = align_points(in_place, measured, seed=seed)
    reason = why_not(alignment, what="GPS positions", unit="metres")
    if reason is not None:
        raise MappingError(f"{place.root} cannot be aligned with its photos' GPS: {reason}")
    return FoundFrame(
        alignment.b_from_a,
        onto,
        frame,
        METRE,
        names,
        alignment,
        remarks=(_said(origin), *remarks_on(alignment, "GPS positions")),
    )


def _said(origin: Fix) -> str:
    return (
        f"x is east, y north, z up of latitude {origin.latitude:.7f}, longitude "
        f"{origin.longitude:.7f}, height {origin.height:.2f} m (WGS84), which place.json keeps"
    )


def _about_up(
    in_place: FloatArray, measured: FloatArray, rng: np.random.Generator, place: Place
) -> tuple[Similarity3, str]:
    """The similarity that keeps z up, by least median of squares over pairs, and how good it is."""
    pairs = list(combinations(range(len(in_place)), 2))
    if len(pairs) > _HYPOTHESES:
        pairs = [pairs[row] for row in rng.choice(len(pairs), _HYPOTHESES, replace=False)]
    best, least = None, np.inf
    for pair in pairs:
        rows = np.array(pair)
        found = _level_fit(in_place[rows], measured[rows])
        if found is not None:
            median = float(np.median(_off(found, in_place, measured)))
            best, least = (found, median) if median < least else (best, least)
    if best is None:
        raise MappingError(f"the cameras of {place.root} are all in one place, as seen from above")
    sigma, inside = least / _NORMAL_2D, np.ones(len(in_place), dtype=bool)
    for _ in range(10):
        inside = _off(best, in_place, measured) <= max(_INLIER_SIGMAS * sigma, 1e-3)
        fitted = _level_fit(in_place[inside], measured[inside]) if inside.sum() > 2 else None
        if fitted is None:
            break
        best = fitted
        sigma = float(np.median(_off(best, in_place[inside], measured[inside]))) / _NORMAL_2D
    level = measured[inside, :2] - measured[inside, :2].mean(axis=0)
    extent, count = float(np.sqrt((level**2).sum(axis=1).mean())), int(inside.sum())
    if count <= len(inside) / 2 or count < _LEAST or sigma > _MOST_NOISE * extent:
        raise MappingError(
            f"{place.root} cannot be aligned with its photos' GPS: {count} of {len(inside)} fixes "
            f"agree, to {sigma:.1f} m, over an extent of {extent:.1f} m; photos over a larger "
            "area, or measured positions (--control FILE), would say more"
        )
    turn = sigma / (extent * np.sqrt(count))
    up = best @ in_place[inside] - measured[inside]
    return best, (
        f"{count} of {len(inside)} fixes agree, to {sigma:.2g} m east and north (1 sigma) and "
        f"{np.std(up[:, 2]):.2g} m in height; the frame is good to {sigma / np.sqrt(count):.2g} m, "
        f"{np.degrees(turn):.2g} deg of heading and {100 * turn:.2g}% of scale"
    )


def _level_fit(a: FloatArray, b: FloatArray) -> Similarity3 | None:
    """``b_from_a`` of points [N, 3] that turns about z alone; None where a does not move."""
    mean_a, mean_b = a.mean(axis=0), b.mean(axis=0)
    off_a, off_b = a - mean_a, b - mean_b
    square = float((off_a[:, :2] ** 2).sum())
    cosine = float((off_a[:, :2] * off_b[:, :2]).sum())
    sine = float((off_a[:, 0] * off_b[:, 1] - off_a[:, 1] * off_b[:, 0]).sum())
    length = float(np.hypot(cosine, sine))
    if square <= 1e-18 or length <= 1e-18:
        return None
    c, s = cosine / length, sine / length
    rotation = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
    # The ratio of the extents, as in `geometry.alignment`: the way back is the exact inverse.
    scale = float(np.sqrt((off_b[:, :2] ** 2).sum() / square))
    return Similarity3(scale, rotation, mean_b - scale * rotation @ mean_a)


def _off(b_from_a: Similarity3, a: FloatArray, b: FloatArray) -> FloatArray:
    """[N] level distances."""
    lengths: FloatArray = np.linalg.norm((b_from_a @ a - b)[:, :2], axis=1)
    return lengths


def _middle(fixes: Sequence[Fix]) -> Fix:
    values = np.array([[fix.latitude, fix.longitude, fix.height or 0.0] for fix in fixes])
    # Across the date line, longitudes count on.
    values[:, 1] = values[0, 1] + (values[:, 1] - values[0, 1] + 180) % 360 - 180
    latitude, longitude, height = np.median(values, axis=0)
    return Fix(
        round(float(latitude), 7),
        round(float((longitude + 180) % 360 - 180), 7),
        round(float(height), 2),
    )


def east_north_up(fixes: Sequence[Fix], origin: Fix) -> FloatArray:
    """Metres [N, 3] east, north and up of ``origin`` on its tangent plane."""
    off = _geocentric(fixes) - _geocentric([origin])
    result: FloatArray = off @ _enu_from_geocentric(origin).T
    return result


def fix_at(position: FloatArray, origin: Fix) -> tuple[Fix, FloatArray]:
    """Where a position [3] east, north and up of ``origin`` is on the earth.

    Returns:
        Its latitude, longitude and height, and [3, 3] the rotation to the axes east, north and up
        of there from those of ``origin``.
    """
    from_origin = _enu_from_geocentric(origin)
    x, y, z = _geocentric([origin])[0] + from_origin.T @ position
    squared, level = _FLATTENING * (2 - _FLATTENING), float(np.hypot(x, y))
    latitude, height = float(np.arctan2(z, level * (1 - squared))), 0.0
    for _ in range(6):  # gains three digits each time, near the ground
        radius = _SEMI_MAJOR_M / np.sqrt(1 - squared * np.sin(latitude) ** 2)
        height = level * np.cos(latitude) + z * np.sin(latitude) - _SEMI_MAJOR_M**2 / radius
        latitude = float(np.arctan2(z, level * (1 - squared * radius / (radius + height))))
    longitude = np.degrees(np.arctan2(y, x))
    there = Fix(float(np.degrees(latitude)), float(longitude), float(height))
    return there, _enu_from_geocentric(there) @ from_origin.T


def _enu_from_geocentric(at: Fix) -> FloatArray:
    latitude, longitude = np.radians([at.latitude, at.longitude])
    sin_lat, cos_lat = np.sin(latitude), np.cos(latitude)
    sin_lon, cos_lon = np.sin(longitude), np.cos(longitude)
    return np.array(
        [
            [-sin_lon, cos_lon, 0.0],
            [-sin_lat * cos_lon, -sin_lat * sin_lon, cos_lat],
            [cos_lat * cos_lon, cos_lat * sin_lon, sin_lat],
        ]
    )


def _geocentric(fixes: Sequence[Fix]) -> NDArray[np.float64]:
    latitude, longitude = np.radians([[f.latitude, f.longitude] for f in fixes]).T
    height = np.array([f.height or 0.0 for f in fixes])
    squared = _FLATTENING * (2 - _FLATTENING)
    radius = _SEMI_MAJOR_M / np.sqrt(1 - squared * np.sin(latitude) ** 2)
    return np.stack(
        [
            (radius + height) * np.cos(latitude) * np.cos(longitude),
            (radius + height) * np.cos(latitude) * np.sin(longitude),
            (radius * (1 - squared) + height) * np.sin(latitude),
        ],
        axis=1,
    )
