"""Points of a map, with all poses and cameras held: triangulated, or seen by some images only."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import numpy as np
import pycolmap

from relocalize.errors import MappingError
from relocalize.mapping.stored_model import REFINED, given_images, read_record
from relocalize.place import MapModel, Place
from relocalize.place.bundle_adjustment import seen_by
from relocalize.place.dropped import dropped_names
from relocalize.place.model import observation_counts


def triangulate(
    model: pycolmap.Reconstruction, database: Path, images_dir: Path, out: Path, *, seed: int
) -> pycolmap.Reconstruction:
    """Points from verified matches among the model's images, whose poses and cameras stay.

    Args:
        model: posed images with the database's ids and keypoints.
        database: with verified matches.
        images_dir: folder that the image names are below.
        out: an empty folder for COLMAP's own output.
        seed: of everything random.
    """
    options = pycolmap.IncrementalPipelineOptions()
    options.num_threads = 1  # repeatable
    options.random_seed = options.triangulation.random_seed = seed
    options.extract_colors = False
    # Its own bundle adjustment moves the points only: poses and intrinsics are known.
    options.ba_refine_focal_length = False
    options.ba_refine_extra_params = False
    return pycolmap.triangulate_points(
        model,
        str(database),
        str(images_dir),
        str(out),
        clear_points=True,
        options=options,
        refine_intrinsics=False,
    )


def model_of_images(place: Place, names: Collection[str]) -> MapModel:
    """The map as the images ``names`` alone see it.

    Every other image is gone with its observations; points with fewer than 2 observations left
    are gone too, and the others are estimated anew from what is left, with poses held.

    Raises:
        MappingError: none of the images is in the map.
    """
    whole = place.map
    kept = {name: image for name, image in whole.images.items() if name in set(names)}
    if not kept:
        raise MappingError(
            f"none of the {len(names)} images has a pose in {place.root}; run: relocalize map"
        )
    counts = observation_counts(kept.values(), len(whole.points))
    # What was registered into the finished map had no part in where its points are.
    makers = given_images(place).values()
    untouched = not read_record(place).get(REFINED) and not dropped_names(place)
    if untouched and np.array_equal(counts, observation_counts(makers, len(whole.points))):
        # Nobody else observed anything when the points were made.
        return MapModel(kept, replace(whole.points, track_lengths=counts))
    return seen_by(whole, kept)
