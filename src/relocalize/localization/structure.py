"""Structure-based localization: a photo's pose from the map's points, or why there is none."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from relocalize.absolute_pose import Matches, PoseSolver, PoseSolverSettings, Refused
from relocalize.absolute_pose.map_noise import MapNoise
from relocalize.absolute_pose.scene import Scene
from relocalize.errors import LocalizerError, MappingError
from relocalize.features.database import open_database
from relocalize.features.sift import FeatureExtractor, Features
from relocalize.geometry import Camera
from relocalize.localization.estimate import PoseEstimate
from relocalize.localization.localizer import Localizer
from relocalize.localization.saving import read_saved, write_saved
from relocalize.place import Place, Split

_VERSION = 3
_VALIDATION_SHARE = 0.25  # of the images, in blocks of time: to learn how wrong answers are


class StructureLocalizer(Localizer):
    """Localizes photos by the map's points.

    Attributes:
        solver: the map's points and views, and how photos get their poses from them.
        unit: of positions.
    """

    name: ClassVar[str] = "structure"

    def __init__(self, solver: PoseSolver, unit: str) -> None:
        self.solver = solver
        self.unit = unit
        self._extractor = FeatureExtractor(solver.settings.features)

    @classmethod
    def fit(
        cls, place: Place, split: Split | None = None, *, settings: PoseSolverSettings | None = None
    ) -> Self:
        """Keep the points that the train images (without a split: all images) observe."""
        # What makes maps takes a second to import, and localizing needs none of it.
        from relocalize.mapping.points import model_of_images  # noqa: PLC0415
        from relocalize.regression.time_blocks import time_blocks  # noqa: PLC0415

        model = place.map if split is None else model_of_images(place, split.train)
        with open_database(place) as database:
            solver = PoseSolver.learn(model, database, settings)
            names = list(model.images)
            centres = np.stack([model.images[name].world_from_cam.translation for name in names])
            try:
                others, held = time_blocks(names, _VALIDATION_SHARE, centres=centres)
            except LocalizerError:
                return cls(solver, place.unit)
            noisy = solver.with_noise_of(
                model,
                database,
                held=[names[row] for row in held],
                others=[names[row] for row in others],
            )
            return cls(noisy, place.unit)

    def localize(
        self,
        image: NDArray[np.uint8],
        camera: Camera | None = None,
        *,
        prior: Camera | None = None,
    ) -> PoseEstimate:
        """The pose of one RGB image [H, W, 3]; see `Localizer.localize`.

        Args:
            image: upright pixels.
            camera: its intrinsics, taken as they are; None estimates focal length and one
                radial term.
            prior: roughly its camera, where that estimation starts, such as EXIF's.
        """
        started = time.perf_counter()
        matches = self.solver.match(self.features(image), image.shape[1], image.shape[0])
        return self.pose_of(matches, camera=camera, prior=prior, started=started)

    def features(self, image: NDArray[np.uint8]) -> Features:
        """The features of an RGB image [H, W, 3], like the map's."""
        return self._extractor.extract(image)

    def pose_of(
        self,
        matches: Matches,
        *,
        camera: Camera | None = None,
        prior: Camera | None = None,
        started: float | None = None,
    ) -> PoseEstimate:
        """The pose of a photo from its matches.

        Args:
            matches: of the photo.
            camera: as for `localize`.
            prior: as for `localize`.
            started: `time.perf_counter` since when the time counts; None: since this call.
        """
        started = time.perf_counter() if started is None else started
        found = self.solver.solve(matches, camera=camera, prior=prior)
        milliseconds = 1e3 * (time.perf_counter() - started)
        if isinstance(found, Refused):
            return PoseEstimate(
                "failed", self.unit, milliseconds, reason=found.reason, inliers=found.inliers
            )
        return PoseEstimate(
            "localized",
            self.unit,
            milliseconds,
            world_from_cam=found.view.world_from_cam,
            covariance=found.covariance + self.solver.noise.covariance,
            inliers=len(found.view.pixels),
            camera=found.camera,
            inlier_points=found.view.points,
        )

    def save(self, folder: Path) -> None:
        """Write the scene and the settings into the empty ``folder``."""
        write_saved(
            folder,
            localizer=self.name,
            version=_VERSION,
            unit=self.unit,
            settings=asdict(self.solver.settings),
            arrays={**self.solver.scene.to_arrays(), **self.solver.noise.to_arrays()},
        )

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        description, arrays = read_saved(folder, localizer=cls.name, version=_VERSION)
        try:
            settings = PoseSolverSettings.from_json(description["settings"])
            scene, noise = Scene.from_arrays(arrays), MapNoise.from_arrays(arrays)
        except MappingError as error:
            raise LocalizerError(f"{folder}: {error}") from error
        except (KeyError, TypeError, ValueError) as error:
            raise LocalizerError(f"{folder} has damaged settings: {error!r}") from error
        return cls(PoseSolver(scene, settings, noise), description["unit"])
