"""From the errors of single images to the numbers of a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

from relocalize.geometry import Rigid3
from relocalize.geometry.transforms import FloatArray


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
LEAD_THRESHOLD = THRESHOLDS[1]  # the one that indoor papers report


@dataclass(frozen=True, eq=False)
class PoseErrors:
    """How far N estimates are from the truth; where there is no estimate, infinitely far.

    Attributes:
        position: [N] distance of the camera centres, in the truth's unit.
        rotation_deg: [N] angle between the orientations, in [0, 180].
        offset: [N, 3] estimated minus true centre, along the truth's axes; infinite of failures.
        turn_deg: [N, 3] the rotation from the true to the estimated camera as a rotation vector
            about the truth's axes, in degrees; infinite of failures.
    """

    position: FloatArray
    rotation_deg: FloatArray
    offset: FloatArray
    turn_deg: FloatArray

    @classmethod
    def of(cls, estimated: Sequence[Rigid3 | None], true: Sequence[Rigid3]) -> PoseErrors:
        """The errors of estimated ``world_from_cam``, or of None, failures, against N true ones."""
        pairs = [(e, t) for e, t in zip(estimated, true, strict=True) if e is not None]
        rows = [row for row, pose in enumerate(estimated) if pose is not None]
        offset = np.full((len(true), 3), np.inf)
        turn = np.full((len(true), 3), np.inf)
        if pairs:
            offset[rows] = [e.translation - t.translation for e, t in pairs]
            between = np.stack([e.rotation @ t.rotation.T for e, t in pairs])
            turn[rows] = np.degrees(Rotation.from_matrix(between).as_rotvec())
        return cls(np.linalg.norm(offset, axis=1), np.linalg.norm(turn, axis=1), offset, turn)

    def __len__(self) -> int:
        return len(self.position)

    @property
    def failed(self) -> NDArray[np.bool_]:
        """[N] whether there was no estimate."""
        return ~np.isfinite(self.position)

    def of_images(self, rows: NDArray[Any]) -> PoseErrors:
        """Those of some of the images, by row number or as a mask."""
        return PoseErrors(
            self.position[rows], self.rotation_deg[rows], self.offset[rows], self.turn_deg[rows]
        )

    def within(self, threshold: Threshold) -> NDArray[np.bool_]:
        """[N] whether both errors are within the threshold."""
        near = self.position <= threshold.position_m
        return near & (self.rotation_deg <= threshold.rotation_deg)


@dataclass(frozen=True)
class Scores:
    """The numbers of a table's row; failures count as infinite errors wherever there are some.

    Attributes:
        n: images scored.
        failed: of them, without an estimate.
        median_position: in the truth's unit; infinite when at least half failed.
        median_rotation_deg: degrees; infinite likewise.
        mean_position: in the truth's unit; infinite when one failed.
        mean_rotation_deg: degrees; infinite likewise.
        recall: share of images within each of `THRESHOLDS`, by key; None where the truth is not
            in metres, so that the thresholds mean nothing.
    """

    n: int
    failed: int
    median_position: float
    median_rotation_deg: float
    mean_position: float
    mean_rotation_deg: float
    recall: dict[str, float] | None

    @classmethod
    def of(cls, errors: PoseErrors, *, metric: bool) -> Scores | None:
        """Sum up the errors of N images; None of no image."""
        if not len(errors):
            return None
        return cls(
            n=len(errors),
            failed=int(errors.failed.sum()),
            median_position=median(errors.position),
            median_rotation_deg=median(errors.rotation_deg),
            mean_position=float(errors.position.mean()),
            mean_rotation_deg=float(errors.rotation_deg.mean()),
            recall=(
                {one.key: float(errors.within(one).mean()) for one in THRESHOLDS}
                if metric
                else None
            ),
        )

    def to_json(self) -> dict[str, Any]:
        """As strict JSON values: an infinite number is None."""
        recalls = dict.fromkeys((one.key for one in THRESHOLDS), None) | (self.recall or {})
        return {
            "n": self.n,
            "failed": self.failed,
            "median_position": finite(self.median_position),
            "median_rotation_deg": finite(self.median_rotation_deg),
            "mean_position": finite(self.mean_position),
            "mean_rotation_deg": finite(self.mean_rotation_deg),
            "recall": recalls,
        }


@dataclass(frozen=True)
class Times:
    """What localizing a photo cost, from decoded pixels to the pose.

    Attributes:
        ms_median: wall milliseconds.
        ms_p95: 95th percentile of the same.
        cpu_ms_median: CPU milliseconds, over all threads.
        cpu_ms_p95: 95th percentile of the same.
    """

    ms_median: float
    ms_p95: float
    cpu_ms_median: float
    cpu_ms_p95: float

    @classmethod
    def of(cls, milliseconds: ArrayLike, cpu_milliseconds: ArrayLike) -> Times:
        """Sum up the wall and CPU times [N] of N >= 1 photos."""
        wall, cpu = np.asarray(milliseconds), np.asarray(cpu_milliseconds)
        return cls(
            ms_median=float(np.median(wall)),
            ms_p95=float(np.percentile(wall, 95)),
            cpu_ms_median=float(np.median(cpu)),
            cpu_ms_p95=float(np.percentile(cpu, 95)),
        )

    def to_json(self) -> dict[str, float]:
        """As plain values."""
        return {
            "ms_median": round(self.ms_median, 2),
            "ms_p95": round(self.ms_p95, 2),
            "cpu_ms_median": round(self.cpu_ms_median, 2),
            "cpu_ms_p95": round(self.cpu_ms_p95, 2),
        }


def median(values: FloatArray) -> float:
    """The median, where infinities are numbers like others (halfway to infinity is infinity)."""
    ordered = np.sort(values)
    middle = len(ordered) // 2
    low = ordered[middle] if len(ordered) % 2 else ordered[middle - 1]
    return float((low + ordered[middle]) / 2)


def finite(value: float | None) -> float | None:
    """The value, or None where JSON has no number for it."""
    return float(value) if value is not None and np.isfinite(value) else None
