"""How exact the true pose of each test image is: an error below that says nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from relocalize.evaluation.metrics import PoseErrors, finite
from relocalize.evaluation.truth import Truth
from relocalize.geometry.transforms import FloatArray
from relocalize.localization import Localizer
from relocalize.mapping.pose_covariance import pose_covariances
from relocalize.place import Place

_AXES = np.sqrt(3)  # from the standard deviation per axis to the root mean square in space


@dataclass(frozen=True, eq=False)
class TruthSigma:
    """The expected error of the truth itself, of N test images.

    Sizes are root mean squares in space, to be compared with distances and angles, not standard
    deviations of one axis, which are smaller by the square root of 3.
    """

    position: FloatArray  # [N] in the truth's unit; NaN where it is not known
    rotation_deg: FloatArray  # [N]; NaN likewise
    source: str  # what says so, for people

    def to_json(self) -> dict[str, Any]:
        """Medians over the images of which it is known, as JSON values."""
        known = np.isfinite(self.position)
        return {
            "n": int(known.sum()),
            "median_position": float(np.median(self.position[known])),
            "median_rotation_deg": float(np.median(self.rotation_deg[known])),
            "from": self.source,
        }

    def of_image(self, row: int) -> dict[str, float] | None:
        """That of one image, or None."""
        position = finite(self.position[row])
        if position is None:
            return None
        return {"position": position, "rotation_deg": float(self.rotation_deg[row])}

    def shares_of(self, errors: PoseErrors) -> dict[str, float]:
        """Which share of the errors is below the truth's own, of images of which it is known."""
        known = np.isfinite(self.position)
        return {
            "position": float((errors.position < self.position)[known].mean()),
            "rotation_deg": float((errors.rotation_deg < self.rotation_deg)[known].mean()),
        }


def truth_sigma(
    place: Place, truth: Truth, images: Sequence[str], localizers: Mapping[str, Localizer]
) -> TruthSigma | None:
    """What is known of how exact the true poses are; None where nothing is.

    Of a map made from images alone: the covariance that bundle adjustment leaves each of its
    poses. Of a truth from a file: the noise between it and the map, of which the map has a part.
    Of imported poses: how far the images disagree with them, which the structure localizer
    measures on train images.
    """
    count = len(images)
    if truth.alignment is not None:
        return TruthSigma(
            np.full(count, _AXES * truth.alignment.position_sigma),
            np.full(count, _AXES * truth.alignment.rotation_sigma_deg),
            "the noise between this truth and the map on train images, of which the map has a part",
        )
    if (place.poses_from or "").startswith("imported"):
        structure = localizers.get("structure")
        noise = None if structure is None else structure.map_noise
        if noise is None:
            return None
        return TruthSigma(
            np.full(count, _AXES * noise.position),
            np.full(count, _AXES * np.degrees(noise.rotation_rad)),
            "how far the images of train images disagree with the imported poses, beyond their "
            "own scatter",
        )
    covariances = pose_covariances(place)
    nothing = np.full((6, 6), np.nan)
    by_image = np.stack([covariances.get(name, nothing) for name in images])
    if not np.isfinite(by_image).any():
        return None
    return TruthSigma(
        np.sqrt(np.trace(by_image[:, :3, :3], axis1=1, axis2=2)),
        np.degrees(np.sqrt(np.trace(by_image[:, 3:, 3:], axis1=1, axis2=2))),
        "the covariance that bundle adjustment leaves each pose",
    )
