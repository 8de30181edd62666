"""Retrieval, 2D-3D matches and a verified pose for one photo at a time; the map stays as it is.

The classic pipeline (Sattler et al., "Efficient & Effective Prioritized Matching for Large-Scale
Image-Based Localization", PAMI 2017; Sarlin et al., "From Coarse to Fine", CVPR 2019) over the
map's own SIFT features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from relocalize.absolute_pose.map_noise import MapNoise, measured_noise
from relocalize.absolute_pose.scene import Scene
from relocalize.absolute_pose.solve import Matches, PoseSettings, Refused, Solved, solve_pose
from relocalize.absolute_pose.verification import Usual, usual_of
from relocalize.features.database import FeatureDatabase
from relocalize.features.extraction import KINDS, Features, FeatureSettings, unit_descriptors
from relocalize.features.matching import mutual_matches
from relocalize.features.vlad import VladSettings
from relocalize.geometry import Camera
from relocalize.geometry.transforms import FloatArray
from relocalize.place import MapModel, PosedImage
from relocalize.place.bundle_adjustment import seen_by

_OWN_VIEWS = 60  # views localized like photos; a median of 60 is good to 20%


@dataclass(frozen=True)
class PoseSolverSettings:
    """How photos get their poses.

    Chosen on 50 frames of the kitchen walk's train blocks against a map of the other train
    blocks, where the median error is 0.37 cm: no neighbour of these values (5 or 20 views,
    ratio 0.7 or 0.9, 4 or 8 pixels) changes it by more than 0.05 cm.

    Attributes:
        features: of photos; `PoseSolver.learn` puts the map's own here.
        vlad: image retrieval.
        retrieved: views whose points a photo is matched to.
        pose: how a pose is found, and when it is not believed.
    """

    features: FeatureSettings = field(default_factory=FeatureSettings)
    vlad: VladSettings = field(default_factory=VladSettings)
    retrieved: int = 10
    pose: PoseSettings = field(default_factory=PoseSettings)


@dataclass(frozen=True, eq=False)
class PoseSolver:
    """What is known of a place, and how photos are posed in it."""

    scene: Scene  # points, views, image vectors
    settings: PoseSolverSettings  # how photos get their poses
    noise: MapNoise  # what the map adds to the uncertainty of every pose

    @classmethod
    def learn(
        cls,
        model: MapModel,
        database: FeatureDatabase,
        settings: PoseSolverSettings | None = None,
        *,
        origin: FloatArray | None = None,
    ) -> Self:
        """From a map and the features of its images.

        Args:
            model: the map.
            database: with its images' features.
            settings: how photos get their poses.
            origin: [3] that the scene and all poses in it count from; None: one near the cameras.

        Raises:
            MappingError: the map has no points, or too few features for retrieval.
        """
        origin = model.local_origin if origin is None else origin
        model = model.about(origin)
        given = settings or PoseSolverSettings()
        pose = replace(given.pose, usual=Usual())  # until the map's own is measured
        first = replace(given, features=database.settings, pose=pose)
        scene = Scene.from_map(model, database, first.vlad, origin)
        return cls(scene, first, MapNoise())._knowing_itself(model.views, database)

    def _knowing_itself(self, views: Sequence[PosedImage], database: FeatureDatabase) -> Self:
        """Localize some of the scene's views by the others: the map's noise, what photos show.

        And again by the others without the place that each shows: whatever pose comes is wrong.
        """
        localized, posed, own, wrong = [], [], [], []
        unverified = replace(self.settings.pose, verified=False)
        for index in _spread(len(views)):
            image = views[index]
            features = database.features(image.name)
            matches = self.match(features, image.camera, without=index)
            found = solve_pose(matches, self.scene, self.settings.pose, without=index)
            if isinstance(found, Solved):
                localized.append((found.view.world_from_cam, found.covariance))
                posed.append(image.world_from_cam)
                own.append(found.verification)
            if not self.settings.pose.verified:
                continue
            rest = self.scene.without(self.scene.shown_in(image.camera, image.world_from_cam))
            if rest is not None:
                matches = replace(self, scene=rest).match(features, image.camera)
                wrong.append(isinstance(solve_pose(matches, rest, unverified), Solved))
        usual = usual_of(own, wrong=sum(wrong), asked=len(wrong))
        pose = replace(self.settings.pose, usual=usual)
        return replace(
            self, settings=replace(self.settings, pose=pose), noise=measured_noise(localized, posed)
        )

    def with_held_out(
        self,
        model: MapModel,
        database: FeatureDatabase,
        *,
        held: Sequence[str],
        others: Sequence[str],
    ) -> Self:
        """The same, knowing how images come out that the map does not know, as it knows no photo.

        Args:
            model: the map that this was learnt from.
            database: with its images' features.
            held: names of images to localize; some of many are taken.
            others: of those that make the map which these are localized in.
        """
        model = model.about(self.scene.origin)
        reduced = seen_by(model, others)
        asked = [model.images[name] for name in held if len(model.images[name].keypoints)]
        if not reduced.views or not asked:
            return self
        scene = Scene.from_map(reduced, database, self.settings.vlad)
        there = replace(self, scene=scene)
        unrefused = replace(self.settings.pose, usual=Usual())  # which finds no look-alike
        solved = []
        for row in _spread(len(asked)):
            image = asked[row]
            matches = there.match(database.features(image.name), image.camera)
            found = solve_pose(matches, scene, unrefused)
            if isinstance(found, Solved):
                solved.append((found, image.world_from_cam))
        usual = self.settings.pose.usual.of([found.verification for found, _ in solved])
        right = [(f, true) for f, true in solved if f.verification.lookalike(usual) is None]
        return replace(
            self,
            settings=replace(self.settings, pose=replace(self.settings.pose, usual=usual)),
            noise=measured_noise(
                [(found.view.world_from_cam, found.covariance) for found, _ in right],
                [true for _, true in right],
            ),
        )

    def match(
        self,
        features: Features,
        camera: Camera,
        *,
        views: Sequence[int] | None = None,
        without: int | None = None,
        among: NDArray[np.bool_] | None = None,
    ) -> Matches:
        """The map's points that the features of a photo match.

        Args:
            features: of the photo.
            camera: of the photo, as well as it is known.
            views: of the scene, whose points are asked; None asks the most similar ones.
            without: a view of the scene that is not asked: the photo itself.
            among: [N] the only views that are asked.
        """
        if views is None:
            views = self.scene.retrieve(
                features.descriptors, self.settings.retrieved, without=without, among=among
            ).tolist()
        near = self.scene.seen_by(views)
        kind = KINDS[self.settings.features.kind]
        descriptors = unit_descriptors(features.descriptors)
        points = unit_descriptors(self.scene.descriptors[near])
        rows, columns = mutual_matches(descriptors, points, kind.max_ratio).T
        keypoints = features.keypoints.astype(np.float64)
        return Matches(camera, keypoints, features.descriptors, near, rows, near[columns])

    def solve(self, matches: Matches) -> Solved | Refused:
        """The pose of a photo from its matches, or why there is none; see `solve_pose`."""
        return solve_pose(matches, self.scene, self.settings.pose)


def _spread(count: int) -> list[int]:
    """Rows of up to `_OWN_VIEWS` of so many images, evenly spread."""
    rows = np.unique(np.linspace(0, count - 1, min(count, _OWN_VIEWS)).astype(int))
    return [int(row) for row in rows]
