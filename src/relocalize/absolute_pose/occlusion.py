"""Is something in the way, or is what agrees only a part of the image?

Something in the way leaves one part of the image where hardly any expected point is found, and
all around it they are found as ever. At a look-alike it is the other way round: what is found lies
in one part, and all around it hardly anything is. Both are looked for as the ellipse, at most half
the image large, that best parts the found points from the others.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from relocalize.geometry.transforms import FloatArray

_LARGEST = 0.5  # of the image: of two parts the smaller one is the ellipse
_CENTRES = np.linspace(-1.2, 1.2, 11)  # from the middle, in half images, either way
_ASPECTS = (0.5, 1.0, 2.0)
_MOST_POINTS = 400  # more are thinned out
_NEAR = 0.04  # of the longer side: a point further from every feature says nothing
# A gain in log-likelihood that chance does not give: neighbouring points are found or missed
# together, so that some ten of them are one observation.
_CLEAR_GAIN = 50.0
_CLEAR_GAIN_EACH = 0.125  # of a point: many of them make a slight difference clear, too
_CLEARLY = 1.05  # where two halves differ, either may be what is in the way
_CONTRAST = 0.2  # found outside by found inside: hardly any


def agrees_in_a_part(
    expected: FloatArray, weights: FloatArray, found: NDArray[np.bool_], features: FloatArray
) -> bool:
    """Whether what is found lies in one part of the image, with hardly anything around it.

    Args:
        expected: [P, 2] where the map's points should show, from the image's middle.
        weights: [P] of these.
        found: [P] whether they are there.
        features: [K, 2] all the photo's features.
    """
    extent = np.abs(features).max(axis=0)
    told = _near_a_feature(expected, features, 2 * _NEAR * extent.max())
    rows = np.flatnonzero(told)
    rows = rows[:: -(-len(rows) // _MOST_POINTS) or 1]
    if len(rows) < 2 or not weights[rows].sum():
        return False
    scale = np.square(weights[told].sum()) / np.square(weights[told]).sum() / weights[rows].sum()
    weight, hit = weights[rows] * scale, weights[rows] * scale * found[rows]
    inner, around, gain = _ellipses(expected[rows] / extent, extent, weight, hit)
    part, gap = (gain * (inner > around)).max(), (gain * (inner < around)).max()
    best = np.unravel_index((gain * (inner > around)).argmax(), gain.shape)
    return bool(
        part > max(_CLEARLY * gap, _CLEAR_GAIN, _CLEAR_GAIN_EACH * weight.sum())
        and around[best] < _CONTRAST * inner[best]
    )


def _near_a_feature(points: FloatArray, features: FloatArray, distance: float) -> NDArray[np.bool_]:
    """Points with a feature in their own cell, so wide, of a grid or in one next to it."""
    low = np.minimum(points.min(axis=0, initial=0.0), features.min(axis=0)) - distance
    cells = [np.floor((pixels - low) / distance).astype(int) for pixels in (points, features)]
    shape = np.max([cell.max(axis=0, initial=0) for cell in cells], axis=0) + 2
    there = np.zeros(shape, dtype=np.bool_)
    for dx in (-1, 0, 1):
        for dy in (-1, 0, 1):
            there[cells[1][:, 0] + dx, cells[1][:, 1] + dy] = True
    near: NDArray[np.bool_] = there[cells[0][:, 0], cells[0][:, 1]]
    return near


def _ellipses(
    points: FloatArray, extent: FloatArray, weight: FloatArray, hit: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Share found inside and around, and the gain of two shares over one, of every ellipse.

    All [E, P]: ellipse [i, j] is the one about the i-th centre, of the i-th aspect, that just holds
    its j nearest points.
    """
    x, y, aspect = (grid.ravel() for grid in np.meshgrid(_CENTRES, _CENTRES, _ASPECTS))
    centres = np.stack([x, y], axis=1)[:, None]
    axes = (np.stack([aspect, 1 / aspect], axis=1) ** 0.5 * extent / extent.max())[:, None]
    side = np.linspace(-0.95, 0.95, 20)
    image = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    half = np.quantile(np.linalg.norm((image - centres) * axes, axis=2), _LARGEST, axis=1)
    distance = np.linalg.norm((points - centres) * axes, axis=2)
    order = distance.argsort(axis=1)
    inside, hits = weight[order].cumsum(axis=1), hit[order].cumsum(axis=1)
    total, all_hits = weight.sum(), hit.sum()
    outside = np.maximum(total - inside, 1e-9)
    gain = (
        _log_likelihood(hits, inside)
        + _log_likelihood(all_hits - hits, outside)
        - _log_likelihood(all_hits, total)
    )
    gain[np.take_along_axis(distance, order, axis=1) > half[:, None]] = 0.0
    return hits / inside, (all_hits - hits) / outside, gain


def _log_likelihood(hits: FloatArray, of: FloatArray) -> FloatArray:
    share = np.clip(hits / of, 1e-6, 1 - 1e-6)
    result: FloatArray = of * (share * np.log(share) + (1 - share) * np.log(1 - share))
    return result
