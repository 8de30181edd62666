"""The constant pose: a baseline that never looks at the photo."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
from scipy.spatial.transform import Rotation
from typing_extensions import Self

from relocalize.errors import LocalizerError
from relocalize.geometry import Rigid3
from relocalize.geometry.transforms import FloatArray, mean_rotation
from relocalize.localization.estimate import PoseEstimate
from relocalize.localization.localizer import Localizer
from relocalize.localization.query import Query
from relocalize.localization.saving import read_saved, write_saved
from relocalize.place import Place, Split

_VERSION = 1


class ConstantLocalizer(Localizer):
    """Answers every photo with the middle of the train poses.

    What any other localizer has to beat: median centre per axis, chordal mean rotation.

    Attributes:
        world_from_cam: the answer.
        covariance: [6, 6] of the train poses about it.
        unit: of positions.
    """

    name: ClassVar[str] = "constant"

    def __init__(self, world_from_cam: Rigid3, covariance: FloatArray, unit: str) -> None:
        self.world_from_cam = world_from_cam
        self.covariance = covariance
        self.unit = unit

    @classmethod
    def fit(cls, place: Place, split: Split | None = None) -> Self:
        """The middle of the train images' poses (without a split: of all)."""
        posed = place.map.images
        names = list(posed) if split is None else [name for name in split.train if name in posed]
        if not names:
            raise LocalizerError(f"{place.root} has no poses of train images to take a mean of")
        poses = [posed[name].world_from_cam for name in names]
        centres = np.stack([pose.translation for pose in poses])
        rotations = np.stack([pose.rotation for pose in poses])
        middle = Rigid3(mean_rotation(list(rotations)), np.median(centres, axis=0))
        turns = Rotation.from_matrix(middle.rotation.T @ rotations).as_rotvec()
        spread = np.concatenate([centres - middle.translation, turns], axis=1)
        return cls(middle, spread.T @ spread / len(spread), place.unit)

    def _localize(self, query: Query) -> PoseEstimate:
        """The same pose for every image."""
        return PoseEstimate(
            "localized",
            self.unit,
            0.0,
            world_from_cam=self.world_from_cam,
            covariance=self.covariance,
        )

    def save(self, folder: Path) -> None:
        """Write the pose into the empty ``folder``."""
        write_saved(
            folder,
            localizer=self.name,
            version=_VERSION,
            unit=self.unit,
            settings={},
            arrays={"world_from_cam": self.world_from_cam.matrix, "covariance": self.covariance},
        )

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        description, arrays = read_saved(folder, localizer=cls.name, version=_VERSION)
        try:
            pose = Rigid3.from_matrix(arrays["world_from_cam"])
            return cls(pose, arrays["covariance"].reshape(6, 6), description["unit"])
        except (KeyError, ValueError) as error:
            raise LocalizerError(f"{folder} has damaged arrays: {error!r}") from error
