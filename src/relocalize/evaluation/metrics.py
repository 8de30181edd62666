"""From the errors of single images to the numbers of a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from relocalize.geometry import Rigid3, position_error, rotation_error_deg


@dataclass(frozen=True)
class Threshold:
    """A pose counts as right when both its errors are at most these.

    Attributes:
        position_m: metres.
        rotation_deg: degrees.
    """

    position_m: float
    rotation_deg: float

    @property
    def key(self) -> str:
        """As in result files: ``0.05m_5deg``."""
        return f"{self.position_m:g}m_{self.rotation_deg:g}deg"


# (0.25, 2), (0.5, 5), (5, 10): visuallocalization.net's; (0.05, 5): 7-Scenes' (Shotton et al.,
# CVPR 2013); (0.02, 2) and (0.1, 5) tell methods apart where those are passed.
THRESHOLDS = (
    Threshold(0.02, 2),
    Threshold(0.05, 5),
    Threshold(0.1, 5),
    Threshold(0.25, 2),
    Threshold(0.5, 5),
    Threshold(5, 10),
)


@dataclass(frozen=True)
class PoseError:
    """How far one estimate is from the truth; infinite in both where there is no estimate."""

    position: float
    rotation_deg: float

    @classmethod
    def of(cls, estimated_world_from_cam: Rigid3 | None, true_world_from_cam: Rigid3) -> PoseError:
        """The error of an estimate, or of None, a failure."""
        if estimated_world_from_cam is None:
            return cls(np.inf, np.inf)
        return cls(
            position_error(estimated_world_from_cam, true_world_from_cam),
            rotation_error_deg(estimated_world_from_cam, true_world_from_cam),
        )

    @property
    def is_failure(self) -> bool:
        """Whether there was no estimate."""
        return not np.isfinite(self.position)


@dataclass(frozen=True)
class Summary:
    """One localizer over one set of images.

    Attributes:
        n: images scored.
        failed: of them, without an estimate; their errors count as infinite everywhere.
        median_position: in the truth's unit; infinite when at least half failed.
        median_rotation_deg: degrees; infinite likewise.
        recall: share of images within each of `THRESHOLDS`, by key; None where the truth is not
            in metres, so that the thresholds mean nothing.
        ms_median: wall milliseconds per photo, from decoded pixels to the pose.
        ms_p95: 95th percentile of the same.
        cpu_ms_median: CPU milliseconds per photo, over all threads.
        cpu_ms_p95: 95th percentile of the same.
    """

    n: int
    failed: int
    median_position: float
    median_rotation_deg: float
    recall: dict[str, float] | None
    ms_median: float
    ms_p95: float
    cpu_ms_median: float
    cpu_ms_p95: float

    @classmethod
    def of(
        cls,
        errors: Sequence[PoseError],
        *,
        metric: bool,
        milliseconds: ArrayLike,
        cpu_milliseconds: ArrayLike,
    ) -> Summary:
        """Summarise the errors and times [N] of N >= 1 images."""
        wall, cpu = np.asarray(milliseconds), np.asarray(cpu_milliseconds)
        return cls(
            n=len(errors),
            failed=sum(error.is_failure for error in errors),
            median_position=median([error.position for error in errors]),
            median_rotation_deg=median([error.rotation_deg for error in errors]),
            recall={one.key: recall(errors, one) for one in THRESHOLDS} if metric else None,
            ms_median=float(np.median(wall)),
            ms_p95=float(np.percentile(wall, 95)),
            cpu_ms_median=float(np.median(cpu)),
            cpu_ms_p95=float(np.percentile(cpu, 95)),
        )

    def to_json(self) -> dict[str, Any]:
        """As strict JSON values: an infinite median is None."""
        recalls = dict.fromkeys((one.key for one in THRESHOLDS), None) | (self.recall or {})
        return {
            "n": self.n,
            "failed": self.failed,
            "median_position": finite(self.median_position),
            "median_rotation_deg": finite(self.median_rotation_deg),
            "recall": recalls,
            "ms_median": round(self.ms_median, 2),
            "ms_p95": round(self.ms_p95, 2),
            "cpu_ms_median": round(self.cpu_ms_median, 2),
            "cpu_ms_p95": round(self.cpu_ms_p95, 2),
        }


def recall(errors: Sequence[PoseError], threshold: Threshold) -> float:
    """The share of images whose position and rotation error are both within the threshold."""
    within = [
        error.position <= threshold.position_m and error.rotation_deg <= threshold.rotation_deg
        for error in errors
    ]
    return sum(within) / len(within)


def median(values: Sequence[float]) -> float:
    """The median, where infinities are numbers like others (halfway to infinity is infinity)."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def finite(value: float | None) -> float | None:
    """The value, or None where JSON has no number for it."""
    return value if value is not None and np.isfinite(value) else None
