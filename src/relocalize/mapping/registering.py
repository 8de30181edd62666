"""More images into a map that does not move: their poses, and the points that they observe.

Points and poses that were there stay as they are, to the bit; points gain observations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pycolmap
from numpy.typing import NDArray

from relocalize import progress
from relocalize.absolute_pose import PoseSolver, PoseSolverSettings, Refused
from relocalize.absolute_pose.map_noise import MapNoise
from relocalize.absolute_pose.scene import Scene, observed_rows
from relocalize.absolute_pose.solve import PoseSettings, observed
from relocalize.features.database import FeatureDatabase
from relocalize.features.extraction import Features
from relocalize.features.matching import Rows
from relocalize.features.vlad import Vlad
from relocalize.geometry import Camera, Rigid3
from relocalize.parallel import map_in_order
from relocalize.place import MapModel
from relocalize.place.model import add_image


@dataclass(frozen=True)
class RegisterSettings:
    """How further images get into a map.

    Attributes:
        neighbours: map images nearest in time that each image is matched with; where these do not
            pose it, the most similar ones follow.
        solver: of their poses.
    """

    neighbours: int = 4
    solver: PoseSolverSettings = PoseSolverSettings(
        pose=PoseSettings(max_error=3.0, min_inliers=15, min_inlier_share=0.15, verified=False)
    )


@dataclass(frozen=True, eq=False)
class Query:
    """An image to register.

    Attributes:
        name: of the image.
        camera: taken as it is.
        neighbours: map images to match with first; none: the most similar ones.
        cam_from_world: None where it is sought.
    """

    name: str
    camera: Camera
    neighbours: Sequence[str]
    cam_from_world: Rigid3 | None = None


@dataclass(frozen=True, eq=False)
class Registration:
    """What came of one image.

    Attributes:
        name: the image.
        camera: its own, as in the query.
        cam_from_world: None when it failed.
        keypoints: [K, 2] all its features.
        rows: [I] features that see a point.
        points: [I] ids of these points.
        reason: why it failed.
    """

    name: str
    camera: Camera
    cam_from_world: Rigid3 | None
    keypoints: NDArray[np.float32]
    rows: Rows
    points: Rows
    reason: str | None = None


class Registrar:
    """Registers images one by one against a fixed model."""

    def __init__(
        self,
        model: pycolmap.Reconstruction,
        database: FeatureDatabase,
        vlad: Vlad,
        settings: RegisterSettings,
    ) -> None:
        whole = MapModel.from_colmap(model)
        views = whole.views
        scene = Scene.from_map(whole, database, vlad)
        self._solver = PoseSolver(scene, settings.solver, MapNoise())
        self._point_ids = whole.points.ids[observed_rows(views)]
        self._view_of = {view.name: row for row, view in enumerate(views)}
        self._database = database

    def register(
        self, queries: Sequence[Query], *, what: str = "registering frames"
    ) -> list[Registration]:
        """Poses of images against the model; the model itself is not changed."""
        items = ((query, self._database.features(query.name)) for query in queries)
        found = map_in_order(lambda item: self._register(*item), items)
        return list(progress.track(found, what, total=len(queries), unit="frames"))

    def _register(self, query: Query, features: Features) -> Registration:
        camera = replace(query.camera, known="exact")
        near = [self._view_of[name] for name in query.neighbours if name in self._view_of]
        reason = ""
        for views in (near, None) if near else (None,):
            matches = self._solver.match(features, camera, views=views)
            if query.cam_from_world is None:
                found = self._solver.solve(matches)
                if isinstance(found, Refused):
                    reason = found.reason
                    continue
                pose, view = found.view.world_from_cam.inverse(), found.view
            else:
                pose, settings = query.cam_from_world, self._solver.settings.pose
                view = observed(matches, self._solver.scene, settings, pose.inverse())
            if len(view.point_rows) >= self._solver.settings.pose.min_inliers:
                seen = view.feature_rows, self._point_ids[view.point_rows]
                return Registration(query.name, query.camera, pose, features.keypoints, *seen)
            reason = f"{len(view.point_rows)} matches with the map agree with its pose"
        none = np.zeros(0, np.int64)
        return Registration(query.name, query.camera, None, features.keypoints, none, none, reason)


def reasons_of(registrations: Sequence[Registration]) -> dict[str, str]:
    """Why each image that failed did."""
    return {r.name: r.reason or "unknown" for r in registrations if r.cam_from_world is None}


def add_to_model(
    model: pycolmap.Reconstruction, registrations: Sequence[Registration], database: FeatureDatabase
) -> None:
    """Add registered images with their observations and cameras; what was there stays as it is."""
    camera_ids, image_ids = database.camera_ids(), database.image_ids
    for one in registrations:
        image_id, camera_id = image_ids[one.name], camera_ids[one.name]
        if one.cam_from_world is None or model.exists_image(image_id):
            continue
        if not model.exists_camera(camera_id):
            model.add_camera_with_trivial_rig(one.camera.to_colmap(camera_id))
        pose, observations = one.cam_from_world.to_colmap(), zip(one.rows, one.points, strict=True)
        add_image(model, one.name, image_id, camera_id, pose, one.keypoints, observations)
