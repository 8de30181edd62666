"""Where a camera is thought to be before its image is seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from relocalize.errors import GeometryError, QueryError
from relocalize.geometry import Rigid3
from relocalize.geometry.transforms import FloatArray, rotvec_from_rotation

# The 99.9% quantiles of chi^2: one right answer of a thousand contradicts a right prior.
_PLAUSIBLE = {3: 16.27, 6: 22.46}


@dataclass(frozen=True, eq=False)
class PosePrior:
    """A pose that is known beforehand, by odometry, a beacon, a filter, and how well.

    Attributes:
        world_from_cam: the pose, in the Place's frame and unit.
        covariance: [6, 6] as in `PoseEstimate`, or [3, 3] of the centre alone where nothing is
            known of the rotation.
    """

    world_from_cam: Rigid3
    covariance: FloatArray

    def __post_init__(self) -> None:
        covariance = np.array(self.covariance, dtype=np.float64)
        if covariance.shape not in ((3, 3), (6, 6)) or not np.isfinite(covariance).all():
            raise QueryError(
                f"the prior's covariance has shape {covariance.shape}; want finite [6, 6], or "
                "[3, 3] of the position alone"
            )
        scale = np.sqrt(np.maximum(np.diag(covariance), 0))
        symmetric = np.abs(covariance - covariance.T).max() <= 1e-6 * scale.max() ** 2
        if not symmetric or np.linalg.eigvalsh(covariance).min() <= 0:
            raise QueryError(
                "the prior's covariance is not symmetric and positive definite; what is exactly "
                "known has a small variance, not 0"
            )
        object.__setattr__(self, "covariance", covariance)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> PosePrior:
        """From ``covariance``, and ``world_from_cam`` [4, 4] or ``position`` [3].

        Raises:
            QueryError: they are not a prior.
        """
        whole, position = value.get("world_from_cam"), value.get("position")
        if (whole is None) == (position is None):
            raise QueryError("the prior wants one of world_from_cam and position")
        try:
            if whole is not None:
                pose = Rigid3.from_matrix(whole)
            else:
                pose = Rigid3(np.eye(3), np.asarray(position, dtype=np.float64))
            prior = cls(pose, np.array(value["covariance"], dtype=np.float64))
        except (GeometryError, KeyError, TypeError, ValueError) as error:
            raise QueryError(f"the prior is no pose with a covariance: {error}") from error
        if whole is None and len(prior.covariance) != 3:
            raise QueryError("the prior has a position alone; want its covariance [3, 3]")
        return prior

    @property
    def reach(self) -> float:
        """Distance from the centre, in the Place's unit, within which the camera is."""
        return float(np.sqrt(_PLAUSIBLE[3] * np.linalg.eigvalsh(self.covariance[:3, :3]).max()))

    def contradiction(self, world_from_cam: Rigid3, covariance: FloatArray | None) -> str | None:
        """Why a pose cannot be right if the prior is, for people; None where it can.

        Args:
            world_from_cam: the pose.
            covariance: [6, 6] of it, where it is known.
        """
        known = len(self.covariance)
        prior = self.world_from_cam
        turn = rotvec_from_rotation(prior.rotation.T @ world_from_cam.rotation)
        shift = world_from_cam.translation - prior.translation
        off = np.concatenate([shift, turn])[:known]
        both = (
            self.covariance if covariance is None else self.covariance + covariance[:known, :known]
        )
        squared = float(off @ np.linalg.solve(both, off))
        if squared <= _PLAUSIBLE[known]:
            return None
        turned = f" and {np.degrees(np.linalg.norm(turn)):.0f} degrees" if known > 3 else ""
        return (
            f"the pose contradicts the prior: it is {np.linalg.norm(shift):.3g}{turned} away, "
            f"{np.sqrt(squared):.0f} sigma"
        )
