"""relocalize: from a walk-through video of a place to a camera relocalizer.

The commands are functions here, with the same words and defaults: `build` makes a `Place` from a
video, `localize` says where in it a photo was taken. Each is imported when it is first used.
Conventions of frames and quaternions: docs/concepts/conventions.md.
"""

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

# pycolmap's Linux wheel exports a zlib of its own. A system libz that is first loaded along with
# it calls into that one, and Pillow's PNG code then corrupts the heap (pycolmap 4.2.1). Loaded
# before pycolmap, as Pillow loads it here, libz calls itself.
if sys.platform == "linux" and "pycolmap" in sys.modules and "zlib" not in sys.modules:
    raise ImportError(
        "pycolmap was imported before relocalize, which makes Pillow corrupt memory; "
        "import relocalize first (or zlib, before pycolmap)"
    )

import PIL.Image  # noqa: F401  # for the libz that it loads, see above

# Threads of torch that wait for each other would do so in a loop; on processors that others use
# too, two are then slower than one (measured: 313 instead of 154 ms a training step).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if TYPE_CHECKING:
    from relocalize.errors import RelocalizeError
    from relocalize.evaluation.scored_files import score
    from relocalize.evaluation.scoring import evaluate
    from relocalize.geometry import Camera, Rigid3, Similarity3
    from relocalize.localization import Localizer, PoseEstimate, fitted
    from relocalize.localization.prior import PosePrior
    from relocalize.localization.query import Query
    from relocalize.place import MapModel, Place, Points, PosedImage, Split
    from relocalize.verbs.align import align
    from relocalize.verbs.build import BuildReport, build
    from relocalize.verbs.check import check
    from relocalize.verbs.export import export
    from relocalize.verbs.frames import frames
    from relocalize.verbs.import_poses import import_poses
    from relocalize.verbs.localize import localize, localize_video
    from relocalize.verbs.map import map
    from relocalize.verbs.merge import merge
    from relocalize.verbs.open import open
    from relocalize.verbs.register import register
    from relocalize.verbs.report import report
    from relocalize.verbs.split import split
    from relocalize.verbs.train import train

    __version__: str

_VERBS = (
    "align build check export frames import_poses localize map merge open register report split "
    "train"
)
_MODULES = {verb: f"relocalize.verbs.{verb}" for verb in _VERBS.split()} | {
    "BuildReport": "relocalize.verbs.build",
    "Camera": "relocalize.geometry",
    "Localizer": "relocalize.localization",
    "MapModel": "relocalize.place",
    "Place": "relocalize.place",
    "Points": "relocalize.place",
    "PoseEstimate": "relocalize.localization",
    "PosePrior": "relocalize.localization.prior",
    "PosedImage": "relocalize.place",
    "Query": "relocalize.localization.query",
    "RelocalizeError": "relocalize.errors",
    "Rigid3": "relocalize.geometry",
    "Similarity3": "relocalize.geometry",
    "Split": "relocalize.place",
    "evaluate": "relocalize.evaluation.scoring",
    "fitted": "relocalize.localization",
    "localize_video": "relocalize.verbs.localize",
    "score": "relocalize.evaluation.scored_files",
}


def _load(name: str) -> Any:
    if name == "__version__":
        value: Any = import_module("importlib.metadata").version("relocalize")
    elif name in _MODULES:
        value = getattr(import_module(_MODULES[name]), name)
    else:
        raise AttributeError(f"module 'relocalize' has no attribute {name!r}")
    globals()[name] = value
    return value


if not TYPE_CHECKING:  # or every name would be known to type checkers
    __getattr__ = _load


def __dir__() -> list[str]:
    return sorted(__all__)


__all__ = [
    "BuildReport",
    "Camera",
    "Localizer",
    "MapModel",
    "Place",
    "Points",
    "PoseEstimate",
    "PosePrior",
    "PosedImage",
    "Query",
    "RelocalizeError",
    "Rigid3",
    "Similarity3",
    "Split",
    "__version__",
    "align",
    "build",
    "check",
    "evaluate",
    "export",
    "fitted",
    "frames",
    "import_poses",
    "localize",
    "localize_video",
    "map",
    "merge",
    "open",
    "register",
    "report",
    "score",
    "split",
    "train",
]
