"""Does a photo show what the map says is to be seen from a pose? At a look-alike it does not.

Where a thing is there twice (a door, a poster, a brick wall) its matches agree on a pose just as
at the right place; what stands around it tells the two apart. Two things count against a pose:

- a map point that has a feature where it should show, but one that looks different. (One without
  any feature says nothing: blur and darkness cause that too.)
- a part of the image where the map expects points and the photo has features, and hardly any
  are the same, while in other parts they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from relocalize.absolute_pose.refinement import Lens, View, project
from relocalize.absolute_pose.scene import Scene
from relocalize.features.extraction import Descriptors, kind_of, unit_descriptors
from relocalize.features.matching import Rows, pairs_within
from relocalize.geometry.transforms import FloatArray

_MAX_VIEWS = 60  # asked of those nearby; more change no result and cost time
_ANGLE_DEG = 30.0  # SIFT finds few points again from a direction that differs by more
_DISTANCE_RATIO = 1.6  # nor at a scale that differs by more
# Whole parts of the image go missing behind furniture sooner than that.
_UNOCCLUDED_ANGLE_DEG = 12.0
_UNOCCLUDED_DISTANCE_RATIO = 1.25
_MIN_CHECKED = 25  # a share of fewer points is too uncertain to count

# Points that k similar views see weigh k^1.5: those found in every view are distinct things and
# are found in a photo too, those seen by two views are often the repeated texture's.
_WEIGHT_POWER = 1.5

# Bounds, set on a rendered corridor: a map of 271 images, photos of another camera, and all of
# these again with the right place taken out of the map, which gave 33 wrong poses. Right poses
# miss at most 2.8 times what the map's own images miss (median) and are unlike in at most 0.19
# of the image; of the wrong ones 30 miss more than 3.3 times as much, 24 are unlike in more
# than 0.3, and 31 are either. Photos of a real kitchen by a second camera miss at most 2.3 times
# as much as the map's own; of its 250 test frames one is unlike in 0.27.
_TOLERANCE = 3.3
_LEAST_BOUND, _MOST_BOUND = 0.2, 0.5
_TYPICAL = 0.12  # of maps whose own images cannot be checked: between corridor and kitchen
_MAX_UNLIKE = 0.3

_PART_POINTS = 15  # expected points in a part of the image, to twice as many
_MIN_PARTS = 6  # a share of fewer is too coarse
_MIN_UNLIKE_PARTS = 3  # one or two parts are a person in the way or a door that was opened
_MIN_FEATURES = 0.5  # of a part, by its expected points: where fewer are, the photo shows nothing
_UNLIKE = 0.15  # share found in an unlike part, by that of the best tenth of the parts
_BEST_PERCENTILE = 90


@dataclass(frozen=True)
class _Expected:
    """Points that similar views see: rows [P], their pixels [P, 2], how many views see each.

    ``unoccluded`` [P] says whether one of these views is so near that nothing comes between.
    """

    rows: Rows
    pixels: FloatArray
    views: FloatArray
    unoccluded: NDArray[np.bool_]


@dataclass(frozen=True)
class Verification:
    """What of a photo contradicts a pose.

    Attributes:
        missing: share of the points with a feature where they should show that looks different;
            None where the map has too few points that were seen alike.
        unlike: share of the image's parts that are unlike the map, 0 where these are one or two;
            None where the map expects too little.
    """

    missing: float | None
    unlike: float | None

    def contradiction(self, max_missing: float) -> str | None:
        """What says that the pose is a look-alike's, for people; None where nothing does."""
        if self.missing is not None and self.missing > max_missing:
            return (
                f"{self.missing:.0%} of what should be seen from there looks different "
                f"(plausible: {max_missing:.0%})"
            )
        if self.unlike is not None and self.unlike > _MAX_UNLIKE:
            return f"{self.unlike:.0%} of the image is unlike what should be seen from there"
        return None


def verify_pose(
    view: View,
    lens: Lens,
    scene: Scene,
    pixels: FloatArray,
    descriptors: Descriptors,
    *,
    radius: float,
    without: int | None = None,
) -> Verification:
    """Compare a photo with what the map says is to be seen from its pose.

    Args:
        view: the pose, with the matches that agree with it.
        lens: of the photo.
        scene: the map.
        pixels: [K, 2] all features of the photo, like ``view.pixels``.
        descriptors: [K, D] theirs.
        radius: pixels about a projection within which a feature is looked at.
        without: a view of the scene that is not asked: the photo itself.
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
    weights = expected.views**_WEIGHT_POWER
    here = expected.unoccluded
    same = best >= kind_of(scene.descriptors).alike
    found = weights * same
    return Verification(
        _missing(best > -1, same, weights),
        _unlike(expected.pixels[here], found[here], weights[here], pixels),
    )


def largest_plausible_share(own: list[float]) -> float:
    """What a right pose of any camera may miss, by what the map's ``own`` images miss."""
    typical = float(np.median(own)) if own else _TYPICAL
    return min(max(_TOLERANCE * typical, _LEAST_BOUND), _MOST_BOUND)


def _missing(
    checked: NDArray[np.bool_], same: NDArray[np.bool_], weights: FloatArray
) -> float | None:
    if checked.sum() < _MIN_CHECKED:
        return None
    different = checked & ~same
    return float(weights[different].sum() / weights[checked].sum())


def _unlike(
    expected: FloatArray, found: FloatArray, weights: FloatArray, features: FloatArray
) -> float | None:
    """Of the parts with features: in which share of them hardly any expected point is found."""
    shares = []
    for part, nearby in _parts(expected, features):
        low, high = expected[part].min(axis=0), expected[part].max(axis=0)
        inside = ((nearby >= low) & (nearby <= high)).all(axis=1).sum()
        if inside >= _MIN_FEATURES * len(part):
            shares.append(found[part].sum() / weights[part].sum())
    if len(shares) < _MIN_PARTS:
        return None
    unlike = int((shares < _UNLIKE * np.percentile(shares, _BEST_PERCENTILE)).sum())
    return unlike / len(shares) if unlike >= _MIN_UNLIKE_PARTS else 0.0


def _parts(pixels: FloatArray, features: FloatArray) -> list[tuple[Rows, FloatArray]]:
    """Rows of points that lie together, and the features on their side of every cut.

    The image is cut in halves of as many points, across the longer side, until they are few.
    """
    parts: list[tuple[Rows, FloatArray]] = []
    whole = [(np.arange(len(pixels)), features)]
    while whole:
        rows, nearby = whole.pop()
        if len(rows) < 2 * _PART_POINTS:
            parts.append((rows, nearby))
            continue
        own = pixels[rows]
        axis = int((own.max(axis=0) - own.min(axis=0)).argmax())
        order = own[:, axis].argsort(kind="stable")
        half = len(rows) // 2
        low, high = own[order[half - 1], axis], own[order[half], axis]
        whole.append((rows[order[:half]], nearby[nearby[:, axis] <= low]))
        whole.append((rows[order[half:]], nearby[nearby[:, axis] >= high]))
    return [(rows, nearby) for rows, nearby in parts if len(rows)]


def _expected(
    view: View, lens: Lens, scene: Scene, extent: FloatArray, without: int | None
) -> _Expected:
    """What lies in the image and is seen by a view from about there."""
    centre = view.world_from_cam.translation
    depth = float(np.percentile(np.linalg.norm(view.points - centre, axis=1), 95))
    # No view further off sees a point of that depth both from a similar direction and distance.
    distances = np.linalg.norm(scene.centres - centre, axis=1)
    nearby = np.flatnonzero(distances < (_DISTANCE_RATIO - 1 + np.radians(_ANGLE_DEG)) * depth)
    nearby = nearby[nearby != without]
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

    def seen_within(angle_deg: float, ratio: float) -> NDArray[np.int64]:
        similar = (
            (cosine > np.cos(np.radians(angle_deg)))
            & (view_distance < ratio * photo_distance)
            & (photo_distance < ratio * view_distance)
        )
        return np.bincount(place[similar], minlength=len(used))

    views = seen_within(_ANGLE_DEG, _DISTANCE_RATIO)
    near = seen_within(_UNOCCLUDED_ANGLE_DEG, _UNOCCLUDED_DISTANCE_RATIO)
    seen = np.flatnonzero(views)
    return _Expected(used[seen], pixels[seen], views[seen].astype(np.float64), near[seen] > 0)
