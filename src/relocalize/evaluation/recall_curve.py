"""How the share of right poses grows with what counts as right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from relocalize.evaluation.metrics import PoseErrors
from relocalize.geometry.transforms import FloatArray

# From below what any truth is exact to, to where a pose is of little use indoors.
THRESHOLDS_CM_DEG = (
    0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 2.5, 3, 4, 5, 7.5, 10, 15, 20, 25, 30, 40, 50, 75, 100,
)  # fmt: skip
# 5 is where the curves of Brachmann et al. (ICCV 2021) end; 50 tells regressors apart.
AREAS_CM_DEG = (5, 50)


@dataclass(frozen=True)
class RecallCurve:
    """The share of images whose errors are at most t centimetres and t degrees, both.

    Attributes:
        recall: at each of `THRESHOLDS_CM_DEG`.
        area: below the curve from 0 to each of `AREAS_CM_DEG`, as a share of the whole: 1 when
            every pose is exact.
    """

    recall: tuple[float, ...]
    area: tuple[float, ...]

    @classmethod
    def of(cls, errors: PoseErrors) -> RecallCurve:
        """Of N >= 1 images, with errors in metres."""
        larger = larger_error(errors)
        return cls(
            recall=tuple(float((larger <= one).mean()) for one in THRESHOLDS_CM_DEG),
            area=tuple(float(shares_below(larger, end).mean()) for end in AREAS_CM_DEG),
        )

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "thresholds_cm_deg": list(THRESHOLDS_CM_DEG),
            "recall": list(self.recall),
            "area": dict(zip(area_keys(), self.area, strict=True)),
        }


def area_keys() -> list[str]:
    """The areas' names in result files: ``5cm_5deg``."""
    return [f"{end}cm_{end}deg" for end in AREAS_CM_DEG]


def larger_error(errors: PoseErrors) -> FloatArray:
    """[N] the larger of position error in centimetres and rotation error in degrees."""
    return np.maximum(100 * errors.position, errors.rotation_deg)


def shares_below(larger: FloatArray, end: float) -> FloatArray:
    """[N] what each image adds to the area: the share of [0, end] at which it counts as right."""
    return np.clip(1 - larger / end, 0, 1)
