"""relocalize: from a walk-through video of a place to a camera relocalizer."""

from importlib.metadata import version

from relocalize.errors import RelocalizeError
from relocalize.geometry import Camera, Rigid3, Similarity3
from relocalize.place import MapModel, Place, Points, PosedImage, Split

__version__ = version("relocalize")

__all__ = [
    "Camera",
    "MapModel",
    "Place",
    "Points",
    "PosedImage",
    "RelocalizeError",
    "Rigid3",
    "Similarity3",
    "Split",
    "__version__",
]
