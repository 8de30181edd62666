"""Structure-based localization: a photo's pose from the map's points, or why there is none."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
from typing_extensions import Self

from relocalize.absolute_pose import Matches, PoseSolver, PoseSolverSettings, Refused
from relocalize.absolute_pose.map_noise import MapNoise
from relocalize.absolute_pose.scene import Scene
from relocalize.absolute_pose.shared_camera import SharedCamera, calibrated, shared_camera
from relocalize.errors import LocalizerError, MappingError
from relocalize.features.database import open_database
from relocalize.features.extraction import extract_features
from relocalize.geometry import Camera
from relocalize.localization.estimate import PoseEstimate
from relocalize.localization.localizer import Localizer
from relocalize.localization.query import ImageLike, Query
from relocalize.localization.saving import read_saved, write_saved
from relocalize.place import Place, Split
from relocalize.plain import from_plain

_VERSION = 6
_VALIDATION_SHARE = 0.25  # of the images, in blocks of time: to learn how wrong answers are
_MIN_SHARING = 3  # fewer photos of a camera are localized each for itself
# With the right camera more points agree in the end, found again near their projections, than
# were matched before (frames of the kitchen, blurred ones too); a photo below that is tried alone
# as well, and the shared camera stays unless alone this many times as many agree.
_CONVINCING_SHARE = 1.0
_CLEARLY_MORE = 1.3


@dataclass(frozen=True, eq=False)
class _Matched:
    """A photo's place among those given, its matches, and the seconds that they took."""

    index: int
    matches: Matches
    seconds: float


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
        self.map_noise = solver.noise

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
            learnt = solver.with_held_out(
                model,
                database,
                held=[names[row] for row in held],
                others=[names[row] for row in others],
            )
            return cls(learnt, place.unit)

    def _localize(self, query: Query) -> PoseEstimate:
        started = time.perf_counter()
        return self._pose_of(self._match(query), started)

    def _localize_many(self, queries: Iterable[Query]) -> list[PoseEstimate]:
        """Images of one size of which the same is known, and nothing exactly, share a camera."""
        estimates: dict[int, PoseEstimate] = {}
        uncalibrated: dict[Camera, list[_Matched]] = defaultdict(list)
        for index, query in enumerate(queries):
            started = time.perf_counter()
            matches = self._match(query)
            if query.camera.known == "exact":
                estimates[index] = self._pose_of(matches, started)
            else:
                seconds = time.perf_counter() - started
                uncalibrated[query.camera].append(_Matched(index, matches, seconds))
        for photos in uncalibrated.values():
            estimates.update(self._posed_together(photos))
        return [estimates[index] for index in range(len(estimates))]

    def calibrate(self, images: Iterable[ImageLike]) -> SharedCamera | None:
        """The camera that consecutive images of one size share; see `Localizer.calibrate`."""
        return calibrated(self.solver, [self._match(Query.of(image)) for image in images])

    def _match(self, query: Query) -> Matches:
        features = extract_features(query.pixels, self.solver.settings.features)
        among, prior = None, query.prior
        if prior is not None:
            centre = prior.world_from_cam.translation - self.solver.scene.origin
            among = self.solver.scene.views_about(centre, prior.reach)
        return self.solver.match(features, query.camera, among=among)

    def _pose_of(self, matches: Matches, started: float) -> PoseEstimate:
        """From matches; ``started`` is `time.perf_counter` when work on the image began."""
        found = self.solver.solve(matches)
        milliseconds = 1e3 * (time.perf_counter() - started)
        if isinstance(found, Refused):
            return PoseEstimate(
                "failed", self.unit, milliseconds, reason=found.reason, inliers=found.inliers
            )
        shared = self.solver.noise.covariance
        return PoseEstimate(
            "localized",
            self.unit,
            milliseconds,
            world_from_cam=found.view.world_from_cam.shifted(self.solver.scene.origin),
            covariance=found.covariance + shared,
            inliers=len(found.view.pixels),
            captures=self.solver.scene.captures_of(found.view.point_rows),
            camera=found.camera,
            inlier_points=found.view.points + self.solver.scene.origin,
            shared_covariance=shared,
        )

    def _posed_together(self, photos: Sequence[_Matched]) -> dict[int, PoseEstimate]:
        """The poses of photos of one camera, by their index."""
        started = time.perf_counter()
        camera = None
        if len(photos) >= _MIN_SHARING:
            camera = shared_camera(self.solver, [photo.matches for photo in photos])
        share = (time.perf_counter() - started) / len(photos)
        estimates = {}
        for photo in photos:
            started = time.perf_counter() - share - photo.seconds
            if camera is None:
                estimates[photo.index] = self._pose_of(photo.matches, started)
            else:
                estimates[photo.index] = self._better_of_both(photo.matches, camera, started)
        return estimates

    def _better_of_both(self, matches: Matches, shared: Camera, started: float) -> PoseEstimate:
        """With the shared camera, unless this photo is evidently another camera's, or zoomed."""
        found = self._pose_of(replace(matches, camera=shared), started)
        convincing = _CONVINCING_SHARE * len(matches.feature_rows)
        if found.status == "localized" and (found.inliers or 0) >= convincing:
            return found
        alone = self._pose_of(matches, started)
        if alone.status == "failed":
            return found
        more = (alone.inliers or 0) > _CLEARLY_MORE * (found.inliers or 0)
        return alone if found.status == "failed" or more else found

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
            settings = from_plain(PoseSolverSettings, description["settings"])
            scene, noise = Scene.from_arrays(arrays), MapNoise.from_arrays(arrays)
        except MappingError as error:
            raise LocalizerError(f"{folder}: {error}") from error
        except ValueError as error:
            raise LocalizerError(f"{folder} has damaged settings: {error}") from error
        return cls(PoseSolver(scene, settings, noise), description["unit"])
