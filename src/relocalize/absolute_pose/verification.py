"""Does a photo show what the map says is to be seen from a pose? At a look-alike it does not.

Where a thing is there twice (a door, a poster, a brick wall) its matches agree on a pose just as
at the right place; what stands around it tells the two apart. Two things count against a pose:

- a map point that has a feature where it should show, but one that looks different. (One without
  any feature says nothing: blur and darkness cause that too.)
- a part of the image where the map expects points and the photo has features, and hardly any
  are the same, while in other parts they are.

Both also happen where something is in the way. So they count by how often the map has a wrong
pose to offer, and by how much of the rest of the photo it knows from elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

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

# What contradicts a pose, set on a rendered corridor: a map of 271 images, photos of another
# camera, and all of these again with the right place taken out of the map, which gave 33 wrong
# poses. Right poses miss at most 2.8 times what the map's own images miss (median) and are unlike
# in at most 0.19 of the image; of the wrong ones 30 miss more than 3.3 times as much, 24 are
# unlike in more than 0.3, and 31 are either.
_TOLERANCE = 3.3
_LEAST_BOUND, _MOST_BOUND = 0.2, 0.5
_TYPICAL = 0.12  # of maps whose own images cannot be checked: between corridor and kitchen
_MAX_UNLIKE = 0.3

# A person in the way contradicts as much as a look-alike does. How often a place is there twice
# tells the two apart, which a map knows of itself (`Usual.elsewhere`), and how the rest of the
# photo looks. Logistic regression on 99 wrong and 248 right poses in the corridor, half of the
# photos with another photo pasted over a part; on a corridor with other posters, a kitchen and an
# office, which it has not seen, it is as good (benchmarks/refusals.py).
_LOG_ODDS = -2.12
_OF_MISSING, _OF_ASTRAY, _OF_UNLIKE = 1.41, 1.23, 1.63
_NEITHER = 0.2  # of an image unlike the map: as likely at right poses as at wrong ones
_SOFTENED = 0.01  # added to shares before their log odds: 0 and 1 are not certain
_MAX_RISK = 0.05  # of a look-alike, where something contradicts
_BEGUN = 1.0  # wrong pose, and photo asked, that a map begins with (Laplace)

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
class Usual:
    """What right poses in a map show, and how often it has wrong ones to offer."""

    # plausible share of what should be seen from a pose that looks different
    max_missing: float = 1.0
    missing: float = _TYPICAL  # that share, of a typical photo
    astray: float = 0.05  # share of a typical photo's other features that match points elsewhere
    # odds that a photo gets a pose though its place is not in the map; 0 until it is measured
    elsewhere: float = 0.0

    def of(self, photos: Sequence[Verification]) -> Usual:
        """The same, with what photos typically show at their right poses."""
        missing = [photo.missing for photo in photos if photo.missing is not None]
        return replace(
            self,
            missing=float(np.median(missing)) if missing else self.missing,
            astray=float(np.median([p.astray for p in photos])) if photos else self.astray,
        )


def usual_of(own: Sequence[Verification], *, wrong: int, asked: int) -> Usual:
    """What is usual in a map.

    Args:
        own: of images of the map, localized by the others.
        wrong: how many of them get a pose when what they show is taken out of the map.
        asked: of so many.
    """
    usual = Usual().of(own)
    return replace(
        usual,
        max_missing=min(max(_TOLERANCE * usual.missing, _LEAST_BOUND), _MOST_BOUND),
        elsewhere=(wrong + _BEGUN) / (asked + _BEGUN),
    )


@dataclass(frozen=True)
class Verification:
    """What of a photo contradicts a pose."""

    # share of the points with a feature where they should show that looks different; None where the
    # map has too few points that were seen alike
    missing: float | None
    # share of the image's parts that are unlike the map, 0 where these are one or two; None where
    # the map expects too little
    unlike: float | None
    # share of the photo's features without a match at this pose that match points elsewhere in the
    # map
    astray: float = 0.0

    def contradiction(self, max_missing: float) -> str | None:
        """What speaks against the pose, for people; None where nothing does."""
        if self.missing is not None and self.missing > max_missing:
            return (
                f"{self.missing:.0%} of what should be seen from there looks different "
                f"(plausible: {max_missing:.0%})"
            )
        if self.unlike is not None and self.unlike > _MAX_UNLIKE:
            return f"{self.unlike:.0%} of the image is unlike what should be seen from there"
        return None

    def risk(self, usual: Usual) -> float:
        """How probable it is that the pose is a look-alike's, 0 to 1."""
        missing = usual.missing if self.missing is None else self.missing
        log_odds = (
            _LOG_ODDS
            + _OF_MISSING * (_logit(missing) - _logit(usual.missing))
            + _OF_ASTRAY * (_logit(self.astray) - _logit(usual.astray))
            + _OF_UNLIKE * (_NEITHER if self.unlike is None else self.unlike)
        )
        odds = usual.elsewhere * float(np.exp(log_odds))
        return odds / (1 + odds)

    def lookalike(self, usual: Usual) -> str | None:
        """Why the pose is taken for a look-alike's, for people; None where it is not."""
        contradiction = self.contradiction(usual.max_missing)
        return contradiction if self.risk(usual) > _MAX_RISK else None


def _logit(share: float) -> float:
    return float(np.log((share + _SOFTENED) / (1 - share + _SOFTENED)))


def verify_pose(
    view: View,
    lens: Lens,
    scene: Scene,
    pixels: FloatArray,
    descriptors: Descriptors,
    *,
    radius: float,
    matched: Rows,
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
        matched: [M] rows of the features that match a point, wherever it should show.
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
        len(np.setdiff1d(matched, view.feature_rows)) / max(len(pixels) - len(view.pixels), 1),
    )


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
    parts = _parts(expected, features)
    if len(parts) < _MIN_PARTS:
        return None
    sizes = np.array([len(rows) for rows, _ in parts])
    rows, starts = np.concatenate([rows for rows, _ in parts]), np.cumsum(sizes) - sizes
    nearby = np.concatenate([nearby for _, nearby in parts])
    part = np.repeat(np.arange(len(parts)), [len(nearby) for _, nearby in parts])
    low = np.minimum.reduceat(expected[rows], starts)[part]
    high = np.maximum.reduceat(expected[rows], starts)[part]
    inside = ((nearby >= low) & (nearby <= high)).all(axis=1)
    shown = np.bincount(part[inside], minlength=len(parts)) >= _MIN_FEATURES * sizes
    if shown.sum() < _MIN_PARTS:
        return None
    shares = np.add.reduceat(found[rows], starts)[shown]
    shares /= np.add.reduceat(weights[rows], starts)[shown]
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

    used = scene.seen_by(nearby)
    pixels, front = project(scene.positions[used], view.world_from_cam, lens)
    inside = front & (np.abs(pixels) <= extent).all(axis=1)
    used, pixels = used[inside], pixels[inside]
    place_of = np.full(len(scene.positions), -1)
    place_of[used] = np.arange(len(used))
    place = place_of[rows]
    shown = place >= 0
    place, centres = place[shown], centres[shown]
    from_view = scene.positions[used][place] - centres
    from_photo = scene.positions[used] - centre
    view_distance = np.linalg.norm(from_view, axis=1)
    photo_distance = np.linalg.norm(from_photo, axis=1)[place]
    from_photo = from_photo[place]
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
