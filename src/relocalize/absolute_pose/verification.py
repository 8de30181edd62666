"""Does a photo show what the map says is to be seen from a pose? At a look-alike it does not.

Where a thing is there twice (a door, a poster, a brick wall) its matches agree on a pose just as
at the right place; what stands around it tells the two apart. Two shares are measured:

- *missing*: of the map points that have a feature where they should show, those whose feature
  looks different. (A point without any feature says nothing: blur, darkness and whatever stands
  in the way cause that too.)
- *explained*: of the photo's features in the parts of the image where matches agree with the pose,
  these matches.

A person in the way makes points go missing in one part of the image and leaves the other parts as
they were: as much is explained there as ever. At another door there are things around the matches,
and among them, that the map does not know: more is missing and less is explained. What counts is
therefore missing over explained, beside what photos of that place usually have. And where the
matches lie in one part of the image with nothing found all around it, nothing is in the way: that
part is the look-alike (`occlusion`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from relocalize.absolute_pose.occlusion import agrees_in_a_part
from relocalize.absolute_pose.refinement import Lens, View, project
from relocalize.absolute_pose.scene import Scene
from relocalize.features.extraction import Descriptors, unit_descriptors
from relocalize.features.matching import Rows, pairs_within
from relocalize.geometry.transforms import FloatArray

_MAX_VIEWS = 60  # asked of those nearby; more change no result and cost time
_ANGLE_DEG = 30.0  # SIFT finds few points again from a direction that differs by more
_DISTANCE_RATIO = 1.6  # nor at a scale that differs by more
_MIN_CHECKED = 25  # a share of fewer points is too uncertain to count

# Points that k similar views see weigh k^1.5: those found in every view are distinct things and
# are found in a photo too, those seen by two views are often the repeated texture's.
_WEIGHT_POWER = 1.5

_PARTS = 8  # of the image, along its longer side
_MIN_MATCHES = 2  # in a part, for it to count as one where matches agree

_SIGMAS = 1.64  # a share of few points is uncertain; surely too much (95%) is missing, or not

# Times the median of a map's own images, localized without those taken with them. Between the
# right poses and the wrong ones of a kitchen, an office and a corridor, see benchmarks/refusals.py.
_TOLERANCE = 3.0
_NEVER, _ALWAYS = 0.1, 0.6  # missing shares that say nothing, or enough, whatever is usual
_USUAL, _MOST_USUAL = 0.25, 3.0  # of maps whose own images cannot be checked; beyond it all may be


@dataclass(frozen=True)
class _Expected:
    """Points that similar views see: rows [P], their pixels [P, 2], how many views see each."""

    rows: Rows
    pixels: FloatArray
    views: FloatArray


@dataclass(frozen=True)
class Verification:
    """What of a photo contradicts a pose.

    Attributes:
        missing: share of the points with a feature where they should show that looks different;
            None where the map has too few points that were seen alike.
        sigma: standard deviation of that share, as of so many points drawn by chance.
        explained: share of the features that are matches, in the parts of the image with matches.
        in_a_part: whether what is found lies in one part of the image, with hardly anything around.
    """

    missing: float | None
    sigma: float = 0.0
    explained: float = 1.0
    in_a_part: bool = False

    @property
    def ratio(self) -> float | None:
        """Of missing to explained."""
        return None if self.missing is None else self.missing / max(self.explained, 1e-3)

    def contradiction(self, max_ratio: float | None) -> str | None:
        """What says that the pose is a look-alike's, for people; None where nothing does.

        Args:
            max_ratio: of missing to explained; None finds nothing.
        """
        if max_ratio is None:
            return None
        if self.in_a_part:
            return "around the part of the image where they are, hardly anything looks the same"
        if self.missing is None:
            return None
        plausible = min(max(max_ratio * self.explained, _NEVER), _ALWAYS) + _SIGMAS * self.sigma
        if self.missing <= plausible:
            return None
        return (
            f"{self.missing:.0%} of what should be seen from there looks different "
            f"(plausible: {plausible:.0%})"
        )


def verify_pose(
    view: View,
    lens: Lens,
    scene: Scene,
    pixels: FloatArray,
    descriptors: Descriptors,
    *,
    radius: float,
    similarity: float,
    without: Sequence[int] = (),
) -> Verification:
    """Compare a photo with what the map says is to be seen from its pose.

    Args:
        view: the pose, with the matches that agree with it.
        lens: of the photo.
        scene: the map.
        pixels: [K, 2] all features of the photo, like ``view.pixels``.
        descriptors: [K, D] theirs.
        radius: pixels about a projection within which a feature is looked at.
        similarity: least dot product of unit descriptors of the same thing.
        without: views of the scene that are not asked: the photo itself, those taken with it.
    """
    expected = _expected(view, lens, scene, np.abs(pixels).max(axis=0), without)
    features, points = pairs_within(pixels, expected.pixels, radius)
    alike = np.einsum(
        "ij,ij->i",
        unit_descriptors(descriptors)[features],
        unit_descriptors(scene.descriptors[expected.rows])[points],
    )
    best = np.full(len(expected.rows), -1.0, np.float32)
    np.maximum.at(best, points, alike)
    checked = best > -1
    explained = _explained(view.pixels, pixels)
    if checked.sum() < _MIN_CHECKED:
        return Verification(None, explained=explained)
    in_a_part = agrees_in_a_part(expected.pixels, expected.views, best >= similarity, pixels)
    weights = expected.views[checked] ** _WEIGHT_POWER
    weights /= weights.sum()
    missing = float(weights[best[checked] < similarity].sum())
    sigma = float(np.sqrt(missing * (1 - missing) * np.square(weights).sum()))
    return Verification(missing, sigma, explained, in_a_part)


def largest_plausible_ratio(own: list[float]) -> float:
    """Of missing to explained at right poses, by what the map's ``own`` images have.

    Infinite is one of an image that has no pose without those taken with it.
    """
    return _TOLERANCE * min(float(np.median(own)) if own else _USUAL, _MOST_USUAL)


def _explained(matched: FloatArray, features: FloatArray) -> float:
    """Share of the features that are matches, in the parts of the image that have some."""
    extent = np.abs(features).max(axis=0)
    side = 2 * extent.max() / _PARTS
    parts = [
        (np.floor((pixels + extent) / side) @ [_PARTS + 1, 1]).astype(np.int64)
        for pixels in (matched, features)
    ]
    of_matched, of_all = (np.bincount(part, minlength=(_PARTS + 1) ** 2) for part in parts)
    here = of_matched >= _MIN_MATCHES
    return float(of_matched[here].sum() / max(of_all[here].sum(), 1))


def _expected(
    view: View, lens: Lens, scene: Scene, extent: FloatArray, without: Sequence[int]
) -> _Expected:
    """What lies in the image and is seen by a view from about there."""
    centre = view.world_from_cam.translation
    depth = float(np.percentile(np.linalg.norm(view.points - centre, axis=1), 95))
    # No view further off sees a point of that depth both from a similar direction and distance.
    distances = np.linalg.norm(scene.centres - centre, axis=1)
    nearby = np.flatnonzero(distances < (_DISTANCE_RATIO - 1 + np.radians(_ANGLE_DEG)) * depth)
    nearby = nearby[~np.isin(nearby, without)]
    nearby = nearby[:: -(-len(nearby) // _MAX_VIEWS) or 1]
    starts, ends = scene.view_starts[nearby], scene.view_starts[nearby + 1]
    rows = np.concatenate(
        [np.zeros(0, np.int64)] + [scene.seen_rows[a:b] for a, b in zip(starts, ends, strict=True)]
    )
    centres = np.repeat(scene.centres[nearby], ends - starts, axis=0)

    used, place = np.unique(rows, return_inverse=True)
    pixels, front = project(scene.positions[used], view.world_from_cam, lens)
    inside = front & (np.abs(pixels) <= extent).all(axis=1)
    shown = inside[place]
    place, centres = place[shown], centres[shown]
    points = scene.positions[used[place]]
    from_view, from_photo = points - centres, points - centre
    view_distance = np.linalg.norm(from_view, axis=1)
    photo_distance = np.linalg.norm(from_photo, axis=1)
    cosine = np.einsum("ij,ij->i", from_view, from_photo) / np.maximum(
        view_distance * photo_distance, 1e-12
    )

    similar = (
        (cosine > np.cos(np.radians(_ANGLE_DEG)))
        & (view_distance < _DISTANCE_RATIO * photo_distance)
        & (photo_distance < _DISTANCE_RATIO * view_distance)
    )
    views = np.bincount(place[similar], minlength=len(used))
    seen = np.flatnonzero(views)
    return _Expected(used[seen], pixels[seen], views[seen].astype(np.float64))
