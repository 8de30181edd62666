"""Two Places that overlap, made one."""

from __future__ import annotations

from pathlib import Path

from relocalize.mapping.merge_places import MergeReport, merge_places
from relocalize.place import Place


def merge(
    place: Place | str | Path, other: Place | str | Path, *, refine: bool = False
) -> MergeReport:
    """Bring images, features and map of another Place into this one, where the two overlap.

    Images of the other map are localized in this one; where they agree on one similarity it is
    moved there, whatever its frame and scale, tied by what both see, and adjusted. Poses and points
    of this Place stay to the bit, and nothing of the other Place changes. The same call again
    changes nothing; after a kill it goes on.

    A capture whose name this Place uses otherwise gets a number; one that is in both is one.
    Splits of this Place stay as they are, localizers are fitted again when they are next used.

    Args:
        place: the Place or its folder that the other comes into; it has a map with points.
        other: the other Place or its folder, with a map made from the same kind of features.
        refine: move everything to its joint optimum afterwards, what was there too.

    Raises:
        MappingError: a map has no points, nothing ties the two, or their features are of two kinds.
        PlaceError: a Place is damaged or has no map, or another process writes to the first.
    """
    if not isinstance(other, Place):
        other = Place.open(other, recover=False)
    return merge_places(Place.of(place), other, refine=refine)
