"""relocalize: from a walk-through video of a place to a camera relocalizer.

`build` makes a `Place` from a video; `fitted` gives a localizer of it; `Localizer.localize` says
where a photo was taken. Conventions of frames and quaternions: docs/conventions.md.
"""

from importlib.metadata import version

__version__ = version("relocalize")

from relocalize.errors import RelocalizeError
from relocalize.geometry import Camera, Rigid3, Similarity3
from relocalize.localizers import Localizer, PoseEstimate, fitted
from relocalize.pipeline import BuildReport, BuildSettings, build
from relocalize.place import MapModel, Place, Points, PosedImage, Split

__all__ = [
    "BuildReport",
    "BuildSettings",
    "Camera",
    "Localizer",
    "MapModel",
    "Place",
    "Points",
    "PoseEstimate",
    "PosedImage",
    "RelocalizeError",
    "Rigid3",
    "Similarity3",
    "Split",
    "__version__",
    "build",
    "fitted",
]
