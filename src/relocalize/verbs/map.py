"""One map of all images of a Place."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from relocalize.errors import MappingError
from relocalize.mapping.extending import extend_map
from relocalize.mapping.map_place import map_place
from relocalize.mapping.report import MapReport
from relocalize.mapping.scale import MeasuredLength
from relocalize.mapping.settings import (
    FeatureChoice,
    KeyframeSettings,
    MapSettings,
    MatchSettings,
    PairSettings,
    RegisterSettings,
)
from relocalize.place import Place


def map(
    place: Place | str | Path,
    *,
    scale: Sequence[tuple[str, str, float]] = (),
    reference: str | Path | None = None,
    split: str | None = None,
    seed: int = 0,
    features: FeatureChoice = "auto",
    keyframes: KeyframeSettings = KeyframeSettings(),
    pairs: PairSettings = PairSettings(),
    matching: MatchSettings = MatchSettings(),
    registering: RegisterSettings = RegisterSettings(),
    extend: bool = False,
    refine: bool = False,
) -> MapReport:
    """Map a Place: poses for all its images and 3D points, z up, metric where a length is given.

    Poses that were imported stay, and points are triangulated from the split's train images only.
    The same call after a kill resumes.

    Args:
        place: the Place or its folder.
        scale: measured lengths ``(A, B, metres)``; each end is an image name (its camera centre)
            or ``IMAGE@X,Y`` (the point seen at that pixel).
        reference: a registration of some of the same images, in any format that is imported, whose
            frame and unit the map takes on.
        split: with imported poses: the split whose train images make the points.
        seed: of everything random.
        features: the kind of local features: ``"sift"``, ``"xfeat"`` (extra ``xfeat``), or
            ``"auto"``, which begins with SIFT and goes on where the map does not hang together.
        keyframes: which frames of a video carry the reconstruction.
        pairs: which images are matched.
        matching: how.
        registering: when a further image counts as registered.
        extend: keep the map that is there, and add the captures of which it has no image.
        refine: with ``extend``, then move everything to its joint optimum.

    Raises:
        MappingError: no map can be made or extended, or a length or the reference does not fit.
        PlaceError: the Place has no images, or another process writes to it.
    """
    if extend and (scale or reference is not None or split is not None):
        raise MappingError(
            "a map that is extended keeps its frame and unit: leave out scale, reference and split"
        )
    if refine and not extend:
        raise MappingError(
            "refine is for a map that is extended: give extend too (--extend --refine)"
        )
    settings = MapSettings(
        features=features,
        keyframes=keyframes,
        pairs=pairs,
        matching=matching,
        registering=registering,
        lengths=tuple(MeasuredLength(*row) for row in scale),
        reference=None if reference is None else Path(reference),
        split=split,
        seed=seed,
    )
    place = Place.of(place)
    return extend_map(place, settings, refine=refine) if extend else map_place(place, settings)
