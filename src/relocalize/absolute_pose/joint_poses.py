"""All photos of one camera against a map that stays: their poses and that camera, refined jointly.

The whole lens (focal length, two radial terms, principal point) is estimated from all of the
photos, each term held to what lenses usually are only as far as the photos leave it open.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from relocalize.absolute_pose.pose_solver import PoseSolver
from relocalize.absolute_pose.refinement import (
    Freedom,
    Lens,
    View,
    covariance,
    refine,
    reprojection_errors,
)
from relocalize.absolute_pose.scene import Scene
from relocalize.absolute_pose.shared_camera import shared_camera
from relocalize.absolute_pose.solve import Matches, Refused, camera_of, guided_matches, lens_pixels
from relocalize.absolute_pose.verification import verify_pose
from relocalize.features.matching import Rows
from relocalize.geometry import Camera, Rigid3
from relocalize.geometry.transforms import FloatArray

MIN_PHOTOS = 3  # fewer photos determine focal length and one radial term, not the whole lens
_FIRST_PHOTOS = 12  # that the refinement of all photos starts from
_ROUNDS = 4
_SETTLED = 1e-4  # relative change of the focal length from one round to the next
_BLOCKS = 10  # of the jackknife
_LEAST_MATCHES = 6  # fewer leave a pose to chance, whatever agreed before
_NOT_ALONE = Refused("no other photo of its camera gives a pose that agrees with it")


@dataclass(frozen=True, eq=False)
class PosedPhoto:
    """A photo with its pose."""

    world_from_cam: Rigid3  # the pose
    # [6, 6] of (centre in the world, rotation in the camera's axes in radians)
    covariance: FloatArray
    feature_rows: Rows  # [I] features that see a point
    point_rows: Rows  # [I] these points' rows in the scene


@dataclass(frozen=True, eq=False)
class PosedTogether:
    """The photos of one camera."""

    camera: Camera | None  # theirs; None where no photo got a pose
    # [L] standard deviations of its estimated parameters: focal length, k1, k2, principal point x,
    # y; empty for a given camera
    sigmas: FloatArray
    photos: tuple[PosedPhoto | Refused, ...]  # in the order given


def pose_together(solver: PoseSolver, photos: Sequence[Matches]) -> PosedTogether:
    """Poses of photos that share one camera; an exactly known one stays as it is.

    Args:
        solver: of the place.
        photos: their matches.
    """
    is_exact = photos[0].camera.known == "exact"
    start = photos[0].camera if is_exact else _first_camera(solver, photos)
    if start is None:
        refused = (solver.solve(matches) for matches in photos)
        return PosedTogether(
            None,
            np.zeros(0),
            tuple(one if isinstance(one, Refused) else _NOT_ALONE for one in refused),
        )
    group = _Group(solver, photos, start, is_exact=is_exact)
    refined = group.solved(start)
    while group.freedom and len(refined.views) >= MIN_PHOTOS:
        # With the better camera photos are solved that were not before.
        again = group.solved(group.camera(refined.lens), refined.views)
        settled = abs(np.log(again.lens.focal / refined.lens.focal)) < _SETTLED
        group.rounds += 1
        refined = again
        if settled or group.rounds == _ROUNDS:
            break
    return group.outcome(group.with_those_confirmed(refined))


def _first_camera(solver: PoseSolver, photos: Sequence[Matches]) -> Camera | None:
    """Roughly the camera: from a few of the photos, or from more where these tell nothing."""
    for most in (_FIRST_PHOTOS, len(photos)):
        camera = shared_camera(solver, photos, least=1, most=most)
        if camera is not None:
            return camera
    return None


@dataclass(frozen=True, eq=False)
class _Refined:
    """Where a round ended: what is refused, and the views of the others."""

    lens: Lens
    refused: dict[int, Refused]
    views: dict[int, View]


class _Group:
    """The photos of one camera, in the pixels of a lens (`lens_pixels`)."""

    def __init__(
        self, solver: PoseSolver, photos: Sequence[Matches], start: Camera, *, is_exact: bool
    ) -> None:
        self.solver, self.start = solver, start
        shown = [lens_pixels(matches) for matches in photos]
        self.pixels = [pixels[usable] for pixels, usable in shown]
        self.feature_rows = [np.flatnonzero(usable) for _, usable in shown]
        self.photos = [matches.only(s[1]) for matches, s in zip(photos, shown, strict=True)]
        self.settings = solver.settings.pose
        self.freedom = Freedom.HELD if is_exact else Freedom.WHOLE
        self.rounds = 0

    @property
    def pixel(self) -> float:
        """A pixel of a 640 pixel wide image, in pixels of these."""
        return self.photos[0].pixel

    def camera(self, lens: Lens) -> Camera:
        """The lens as a camera."""
        if not self.freedom:
            return self.start
        return camera_of(lens, self.start.width, self.start.height)

    def lens(self, camera: Camera) -> Lens:
        """The camera as a lens."""
        if not self.freedom:
            return Lens(camera.focal_px)
        focal, x, y, *radial = camera.params
        return Lens(
            focal,
            radial[0],
            radial2=radial[1] if len(radial) > 1 else 0.0,
            centre=(x - camera.width / 2, y - camera.height / 2),
        )

    def solved(self, camera: Camera, before: Mapping[int, View] | None = None) -> _Refined:
        """The poses of photos with ``camera``, then all poses and what is free of the lens.

        ``before`` are those solved already, whose poses are refined alone.
        """
        refused: dict[int, Refused] = {}
        poses = {index: view.world_from_cam for index, view in (before or {}).items()}
        for index, matches in enumerate(self.photos):
            if index in poses:
                continue
            found = self.solver.solve(replace(matches, camera=camera))
            if isinstance(found, Refused):
                refused[index] = found
            else:
                poses[index] = found.view.world_from_cam
        lens = self.lens(camera)
        # A photo or two leave the whole lens to its priors; theirs is what they gave together.
        freedom = self.freedom if len(poses) >= MIN_PHOTOS else Freedom.HELD
        lens, views = self._settled(poses, lens, freedom)
        for index in [i for i, view in views.items() if len(view.pixels) < _LEAST_MATCHES]:
            count = len(views.pop(index).pixels)
            refused[index] = Refused(f"only {count} matches agree on a pose: another place", count)
        return _Refined(lens, refused, views)

    def _settled(
        self, poses: dict[int, Rigid3], lens: Lens, freedom: Freedom
    ) -> tuple[Lens, dict[int, View]]:
        """Poses and lens at least robust cost, with the matches that agree with them."""
        views = self._agreeing(poses, lens)
        for _ in range(2):  # once from the first matches, once from those that then agree
            result = refine(
                tuple(views.values()),
                lens,
                loss_scale=self.settings.loss_scale * self.pixel,
                freedom=freedom,
            )
            lens = result.lens
            moved = zip(views, result.views, strict=True)
            views = self._agreeing({i: view.world_from_cam for i, view in moved}, lens)
        return lens, views

    def _agreeing(self, poses: dict[int, Rigid3], lens: Lens) -> dict[int, View]:
        """Each photo's matches that agree with its pose, looked for where the pose puts them."""
        views: dict[int, View] = {}
        for index, pose in poses.items():
            whole = guided_matches(
                self.photos[index], self.solver.scene, self.settings, self.pixels[index], pose, lens
            )
            agrees = reprojection_errors(whole, lens) <= self.settings.max_error * self.pixel
            views[index] = whole.only(agrees)
        return views

    def with_those_confirmed(self, refined: _Refined) -> _Refined:
        """Let in what was refused as a look-alike and yet shows what its fellow photos show.

        The map's images are of another camera, and blur or exposure can make a photo look unlike
        them; the other photos of its own camera, from about the same place, share those. A true
        look-alike is as unlike them as it is unlike the map.
        """
        doubted = {i: one.doubted for i, one in refined.refused.items() if one.doubted is not None}
        if not doubted or not refined.views:
            return refined
        fellows = self.solver.scene.as_seen_by(
            np.stack([view.world_from_cam.translation for view in refined.views.values()]),
            [view.point_rows for view in refined.views.values()],
            [self.photos[i].descriptors[v.feature_rows] for i, v in refined.views.items()],
        )
        poses = {index: pose for index, pose in doubted.items() if pose is not None}
        views = self._settled(poses, refined.lens, Freedom.HELD)[1]
        confirmed = [
            index
            for index, view in views.items()
            if self._shows_the_same(index, view, refined.lens, fellows)
        ]
        return replace(
            refined,
            refused={i: one for i, one in refined.refused.items() if i not in confirmed},
            views={**refined.views, **{index: views[index] for index in confirmed}},
        )

    def _shows_the_same(self, index: int, view: View, lens: Lens, fellows: Scene) -> bool:
        if len(view.pixels) < self.settings.min_inliers:
            return False
        around = verify_pose(
            view,
            lens,
            fellows,
            self.pixels[index],
            self.photos[index].descriptors,
            radius=self.settings.verification_radius * self.pixel,
            matched=self.photos[index].feature_rows,
        )
        enough = around.missing is not None and around.unlike is not None
        return enough and around.contradiction(self.settings.usual.max_missing) is None

    def _lens_sigmas(self, refined: _Refined) -> FloatArray:
        """Standard deviations of focal length, k1, k2 and principal point, by the jackknife.

        What the scatter of single matches says is too little by several times (3.4 for the
        kitchen's second camera): the map's errors are shared by all that see the same corner.
        Leaving out blocks of consecutive photos shows them (Künsch, "The jackknife and the
        bootstrap for general stationary observations", Annals of Statistics 1989).
        """
        order = sorted(refined.views)
        blocks = [set(b.tolist()) for b in np.array_split(order, min(_BLOCKS, len(order)))]
        found = []
        for block in blocks:
            rest = tuple(refined.views[index] for index in order if index not in block)
            scale = self.settings.loss_scale * self.pixel
            lens = refine(rest, refined.lens, loss_scale=scale, freedom=self.freedom).lens
            found.append([lens.focal, lens.radial, lens.radial2, *lens.centre])
        spread = np.array(found) - np.mean(found, axis=0)
        sigmas: FloatArray = np.sqrt((len(blocks) - 1) / len(blocks) * (spread**2).sum(axis=0))
        return sigmas

    def outcome(self, refined: _Refined) -> PosedTogether:
        """For those who asked."""
        scale = self.settings.loss_scale * self.pixel
        freedom = self.freedom if len(refined.views) >= MIN_PHOTOS else Freedom.HELD
        noise = self.solver.noise.covariance
        posed = {
            index: PosedPhoto(
                view.world_from_cam,
                covariance(view, refined.lens, loss_scale=scale, freedom=Freedom.HELD) + noise,
                self.feature_rows[index][view.feature_rows],
                view.point_rows,
            )
            for index, view in refined.views.items()
        }
        sigmas = self._lens_sigmas(refined) if posed and freedom else np.zeros(0)
        return PosedTogether(
            self.camera(refined.lens) if posed else None,
            sigmas,
            tuple(
                refined.refused[i] if i in refined.refused else posed[i]
                for i in range(len(self.photos))
            ),
        )
