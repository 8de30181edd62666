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
    """A pose counts as right when both its errors are at most these."""

    position_m: float  # metres
    rotation_deg: float  # degrees

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
    """How far N estimates are from the truth; where there is no estimate, infinitely far."""

    position: FloatArray  # [N] distance of the camera centres, in the truth's unit
    rotation_deg: FloatArray  # [N] angle between the orientations, in [0, 180]
    # [N, 3] estimated minus true centre, along the truth's axes; infinite of failures
    offset: FloatArray
    # [N, 3] the rotation from the true to the estimated camera as a rotation vector about the
    # truth's axes, in degrees; infinite of failures
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
    """The numbers of a table's row; failures count as infinite errors wherever there are some."""

    n: int  # images scored
    failed: int  # of them, without an estimate
    median_position: float  # in the truth's unit; infinite when at least half failed
    median_rotation_deg: float  # degrees; infinite likewise
    mean_position: float  # in the truth's unit; infinite when one failed
    mean_rotation_deg: float  # degrees; infinite likewise
    # share of images within each of `THRESHOLDS`, by key; NaN where the truth is not in metres, so
    # that the thresholds mean nothing
    recall: dict[str, float]

    @classmethod
    def of(cls, errors: PoseErrors, *, metric: bool) -> Scores:
        """Sum up the errors of N >= 1 images."""
        return cls(
            n=len(errors),
            failed=int(errors.failed.sum()),
            median_position=float(np.median(errors.position)),
            median_rotation_deg=float(np.median(errors.rotation_deg)),
            mean_position=float(errors.position.mean()),
            mean_rotation_deg=float(errors.rotation_deg.mean()),
            recall={
                one.key: float(errors.within(one).mean()) if metric else np.nan
                for one in THRESHOLDS
            },
        )


# From below what any truth is exact to, to where a pose is of little use indoors.
THRESHOLDS_CM_DEG = (
    0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 2.5, 3, 4, 5, 7.5, 10, 15, 20, 25, 30, 40, 50, 75, 100,
)  # fmt: skip
# By name in result files. 5 is where the curves of Brachmann et al. (ICCV 2021) end; 50 tells
# regressors apart.
AREAS_CM_DEG = {"5cm_5deg": 5, "50cm_50deg": 50}


@dataclass(frozen=True)
class RecallCurve:
    """The share of images whose errors are at most t centimetres and t degrees, both."""

    thresholds_cm_deg: tuple[float, ...]  # the values of t
    recall: tuple[float, ...]  # the share at each of them
    # below the curve from 0 to each of `AREAS_CM_DEG`, as a share of the whole: 1 when every pose
    # is exact
    area: dict[str, float]

    @classmethod
    def of(cls, errors: PoseErrors) -> RecallCurve:
        """Of N >= 1 images, with errors in metres."""
        larger = np.maximum(100 * errors.position, errors.rotation_deg)
        return cls(
            thresholds_cm_deg=THRESHOLDS_CM_DEG,
            recall=tuple(float((larger <= one).mean()) for one in THRESHOLDS_CM_DEG),
            area={name: float(area_shares(errors, name).mean()) for name in AREAS_CM_DEG},
        )


def area_shares(errors: PoseErrors, name: str) -> FloatArray:
    """[N] what each image adds to an area: the share of thresholds at which it counts as right."""
    larger = np.maximum(100 * errors.position, errors.rotation_deg)
    return np.clip(1 - larger / AREAS_CM_DEG[name], 0, 1)


@dataclass(frozen=True)
class Times:
    """What localizing a photo cost, from decoded pixels to the pose."""

    ms_median: float  # wall milliseconds
    ms_p95: float  # 95th percentile of the same
    cpu_ms_median: float  # CPU milliseconds, over all threads
    cpu_ms_p95: float  # 95th percentile of the same

    @classmethod
    def of(cls, milliseconds: ArrayLike, cpu_milliseconds: ArrayLike) -> Times:
        """Sum up the wall and CPU times [N] of N >= 1 photos."""
        both = np.percentile([milliseconds, cpu_milliseconds], [50, 95], axis=1)
        (wall, cpu), (wall_95, cpu_95) = np.round(both, 2).tolist()
        return cls(wall, wall_95, cpu, cpu_95)


def finite(value: float | None) -> float | None:
    """The value, or None where JSON has no number for it."""
    return float(value) if value is not None and np.isfinite(value) else None
