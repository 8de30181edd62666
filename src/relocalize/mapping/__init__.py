"""Posed images to one map: features, pairs, matches, reconstruction, registration."""

from relocalize.features.database import features_of, open_database
from relocalize.mapping.map_place import map_place
from relocalize.mapping.points import model_of_images
from relocalize.mapping.report import MapReport
from relocalize.mapping.scale import MeasuredLength
from relocalize.mapping.settings import MapSettings

__all__ = [
    "MapReport",
    "MapSettings",
    "MeasuredLength",
    "features_of",
    "map_place",
    "model_of_images",
    "open_database",
]
