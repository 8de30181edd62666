"""The verbs that every localizer has: fit a Place, localize an image, save, load."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from relocalize.geometry import Camera
from relocalize.localization.estimate import PoseEstimate
from relocalize.place import Place, Split


class Localizer(ABC):
    """Tells from one photo where in a Place it was taken.

    Attributes:
        name: what users call it, and its folder in ``localizers/``.
        unit: of the positions it gives, the Place's when it was fitted.
        work_folder: what `fit` left on disk for a killed one to go on from, which may be deleted
            once the fitted localizer is saved; None where nothing was left.
    """

    name: ClassVar[str]
    unit: str
    work_folder: Path | None = None

    @classmethod
    @abstractmethod
    def fit(cls, place: Place, split: Split | None = None) -> Self:
        """Learn a Place from the split's train images (all posed images without a split).

        Nothing of a test image is used: not its pixels, its pose, or points only it observes.

        Raises:
            LocalizerError: the Place has too little to learn from.
        """

    @classmethod
    def fit_again(cls, place: Place, split: Split | None, folder: Path) -> Self:
        """Learn the Place anew, as the one saved in ``folder`` did before the Place changed."""
        return cls.fit(place, split)

    @abstractmethod
    def localize(self, image: NDArray[np.uint8], camera: Camera | None = None) -> PoseEstimate:
        """The pose of one RGB image [H, W, 3].

        Args:
            image: upright pixels.
            camera: its intrinsics for this image size; None estimates them.

        Returns:
            An estimate, ``failed`` with a reason when the image cannot be localized: never an
            exception for a photo that is merely bad, never a guess.
        """

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write all that `load` needs into the empty ``folder``: ``localizer.json`` and arrays."""

    @classmethod
    @abstractmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            LocalizerError: the folder is not a saved localizer of this kind and version.
        """
