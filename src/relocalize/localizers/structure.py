"""Structure-based localization: retrieval, 2D-3D matches, PnP in RANSAC, refinement, a verdict.

The classic pipeline (Sattler et al., "Efficient & Effective Prioritized Matching for Large-Scale
Image-Based Localization", PAMI 2017; Sarlin et al., "From Coarse to Fine", CVPR 2019) over the
map's own SIFT features.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from relocalize.errors import LocalizerError
from relocalize.geometry import Camera
from relocalize.localizers.estimate import PoseEstimate
from relocalize.localizers.localizer import Localizer
from relocalize.localizers.map_noise import MapNoise, measured_noise
from relocalize.localizers.matching import match_mutually, unit_descriptors
from relocalize.localizers.photo_pose import Matches, PoseSettings, Refused, Solved, solve_pose
from relocalize.localizers.saving import read_saved, write_saved
from relocalize.localizers.scene import Scene
from relocalize.localizers.stored import StoredDescriptors
from relocalize.localizers.surroundings import largest_plausible_share
from relocalize.mapping import model_of_images
from relocalize.mapping.database import FeatureDatabase, open_database
from relocalize.mapping.features import FeatureExtractor, Features, FeatureSettings
from relocalize.mapping.vlad import VladSettings
from relocalize.place import Place, PosedImage, Split

_VERSION = 2
_OWN_VIEWS = 60  # views localized like photos; a median of 60 is good to 20%


@dataclass(frozen=True)
class StructureSettings:
    """How photos are localized.

    Chosen on 50 frames of the kitchen walk's train blocks against a map of the other train
    blocks, where the median error is 0.37 cm: no neighbour of these values (5 or 20 views,
    ratio 0.7 or 0.9, 4 or 8 pixels) changes it by more than 0.05 cm.

    Attributes:
        features: of photos; `StructureLocalizer.fit` puts the map's own here.
        vlad: image retrieval.
        retrieved: views whose points a photo is matched to.
        ratio: of Lowe's test between nearest and second nearest point.
        pose: how a pose is found, and when it is not believed.
    """

    features: FeatureSettings = field(default_factory=FeatureSettings)
    vlad: VladSettings = field(default_factory=VladSettings)
    retrieved: int = 10
    ratio: float = 0.8
    pose: PoseSettings = field(default_factory=PoseSettings)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> StructureSettings:
        """From `dataclasses.asdict`; raises KeyError or TypeError where it is something else."""
        pose = dict(value["pose"])
        pose["focal_range"] = tuple(pose["focal_range"])
        return cls(
            features=FeatureSettings(**value["features"]),
            vlad=VladSettings(**value["vlad"]),
            retrieved=int(value["retrieved"]),
            ratio=float(value["ratio"]),
            pose=PoseSettings(**pose),
        )


class StructureLocalizer(Localizer):
    """Localizes photos by the map's points.

    Attributes:
        scene: what it knows of the place.
        unit: of positions.
        settings: how photos are localized.
        noise: what the map adds to the uncertainty of every pose.
    """

    name: ClassVar[str] = "structure"

    def __init__(
        self, scene: Scene, unit: str, settings: StructureSettings, noise: MapNoise
    ) -> None:
        self.scene = scene
        self.unit = unit
        self.settings = settings
        self.noise = noise
        self._extractor = FeatureExtractor(settings.features)

    @classmethod
    def fit(
        cls, place: Place, split: Split | None = None, *, settings: StructureSettings | None = None
    ) -> Self:
        """Keep the points that the train images (without a split: all images) observe."""
        settings = settings or StructureSettings()
        model = place.map if split is None else model_of_images(place, split.train)
        views = [image for image in model.images.values() if (image.point_rows >= 0).any()]
        with open_database(place) as database:
            pose = replace(settings.pose, max_missing=1.0)  # until the map's own is measured
            settings = replace(settings, features=database.settings, pose=pose)
            descriptors = StoredDescriptors(database, [view.name for view in views])
            scene = Scene.from_map(model.points, views, descriptors, settings.vlad)
            localizer = cls(scene, place.unit, settings, MapNoise())
            localizer._learn_from_own(views, database)
        return localizer

    def _learn_from_own(self, views: Sequence[PosedImage], database: FeatureDatabase) -> None:
        """Localize some of the scene's views by the others: the map's noise, what photos miss."""
        localized, posed, missing = [], [], []
        count = min(len(views), _OWN_VIEWS)
        for row in np.unique(np.linspace(0, len(views) - 1, count).astype(int)):
            image, index = views[int(row)], int(row)
            camera, features = image.camera, database.features(image.name)
            matches = self.match(features, camera.width, camera.height, without=index)
            found = solve_pose(
                matches, self.scene, self.settings.pose, camera=camera, without=index
            )
            if isinstance(found, Solved):
                localized.append((found.view.world_from_cam, found.covariance))
                posed.append(image.world_from_cam)
                if found.surroundings.missing is not None:
                    missing.append(found.surroundings.missing)
        self.noise = measured_noise(localized, posed)
        pose = replace(self.settings.pose, max_missing=largest_plausible_share(missing))
        self.settings = replace(self.settings, pose=pose)

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
        matches = self.match(self.features(image), image.shape[1], image.shape[0])
        return self.pose_of(matches, camera=camera, prior=prior, started=started)

    def features(self, image: NDArray[np.uint8]) -> Features:
        """The features of an RGB image [H, W, 3], like the map's."""
        return self._extractor.extract(image)

    def match(
        self, features: Features, width: int, height: int, *, without: int | None = None
    ) -> Matches:
        """The map's points that the features of a photo of this size match.

        ``without`` is a view of the scene that is not asked: the photo itself.
        """
        views = self.scene.retrieve(features.descriptors, self.settings.retrieved, without=without)
        near = self.scene.seen_by(int(view) for view in views)
        descriptors = unit_descriptors(features.descriptors)
        points = unit_descriptors(self.scene.descriptors[near])
        rows, columns = match_mutually(descriptors, points, self.settings.ratio)
        keypoints = features.keypoints.astype(np.float64)
        return Matches(width, height, keypoints, features.descriptors, near, rows, near[columns])

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
        found = solve_pose(matches, self.scene, self.settings.pose, camera=camera, prior=prior)
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
            covariance=found.covariance + self.noise.covariance,
            inliers=len(found.view.pixels),
            camera=found.camera,
        )

    def save(self, folder: Path) -> None:
        """Write the scene and the settings into the empty ``folder``."""
        write_saved(
            folder,
            localizer=self.name,
            version=_VERSION,
            unit=self.unit,
            settings=asdict(self.settings),
            arrays={**self.scene.to_arrays(), **self.noise.to_arrays()},
        )

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        description, arrays = read_saved(folder, localizer=cls.name, version=_VERSION)
        try:
            settings = StructureSettings.from_json(description["settings"])
        except (KeyError, TypeError, ValueError) as error:
            raise LocalizerError(f"{folder} has damaged settings: {error!r}") from error
        noise = MapNoise.from_arrays(arrays)
        return cls(Scene.from_arrays(arrays), description["unit"], settings, noise)
