"""relocalize: from a walk-through video of a place to a camera relocalizer.

`build` makes a `Place` from a video; `fitted` gives a localizer of it; `Localizer.localize` says
where a photo was taken. Conventions of frames and quaternions: docs/conventions.md.
"""

import sys

# pycolmap's Linux wheel exports a zlib of its own. A system libz that is first loaded along with
# it calls into that one, and Pillow's PNG code then corrupts the heap (pycolmap 4.2.1). Loaded
# before pycolmap, as Pillow loads it here, libz calls itself.
if sys.platform == "linux" and "pycolmap" in sys.modules and "zlib" not in sys.modules:
    raise ImportError(
        "pycolmap was imported before relocalize, which makes Pillow corrupt memory; "
        "import relocalize first (or zlib, before pycolmap)"
    )

from importlib.metadata import version

import PIL.Image  # noqa: F401  # for the libz that it loads, see above

__version__ = version("relocalize")

from relocalize.errors import RelocalizeError
from relocalize.geometry import Camera, Rigid3, Similarity3
from relocalize.localization import Localizer, PoseEstimate, fitted
from relocalize.place import MapModel, Place, Points, PosedImage, Split
from relocalize.verbs.build import BuildReport, BuildSettings, build

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
