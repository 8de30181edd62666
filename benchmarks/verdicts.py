"""What comes of a photo whose pose is known: for benchmarks of who is let in."""

from __future__ import annotations

from typing import Literal

import numpy as np

from relocalize.absolute_pose import Refused
from relocalize.features.extraction import extract_features
from relocalize.geometry import Rigid3, position_error, rotation_error_deg
from relocalize.localization.query import Query
from relocalize.localization.structure import StructureLocalizer

Verdict = Literal["right", "right refused", "wrong", "wrong refused", "no pose"]
_RIGHT = 0.05, 5.0  # share of the distance to what is seen, degrees


def verdict(localizer: StructureLocalizer, query: Query, true: Rigid3 | None) -> Verdict:
    """How a photo is answered: "refused" is a pose that was taken for a look-alike's.

    Args:
        localizer: of the place.
        query: the photo.
        true: its ``world_from_cam``; None where no pose is right.
    """
    solver = localizer.solver
    features = extract_features(query.pixels, solver.settings.features)
    found = solver.solve(solver.match(features, query.camera))
    if isinstance(found, Refused):
        if found.doubted is None:
            return "no pose"
        return "right refused" if _is_right(localizer, found.doubted, true) else "wrong refused"
    return "right" if _is_right(localizer, found.view.world_from_cam, true) else "wrong"


def _is_right(localizer: StructureLocalizer, pose: Rigid3, true: Rigid3 | None) -> bool:
    if true is None:
        return False
    scene = localizer.solver.scene
    true = true.shifted(-scene.origin)
    depth = float(np.median(np.linalg.norm(scene.positions - true.translation, axis=1)))
    near = position_error(pose, true) <= _RIGHT[0] * depth
    return near and rotation_error_deg(pose, true) <= _RIGHT[1]
