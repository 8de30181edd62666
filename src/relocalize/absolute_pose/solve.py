"""From the matches of one photo to its pose, or to the reason why there is none."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from relocalize.absolute_pose.ransac import ransac_pose, ransac_pose_and_focal
from relocalize.absolute_pose.refinement import (
    Freedom,
    Lens,
    View,
    covariance,
    project,
    refine,
    reprojection_errors,
)
from relocalize.absolute_pose.scene import Scene
from relocalize.absolute_pose.verification import Usual, Verification, verify_pose
from relocalize.features.extraction import Descriptors, kind_of, unit_descriptors
from relocalize.features.matching import Rows, match_nearby
from relocalize.geometry import Camera, Rigid3
from relocalize.geometry.transforms import FloatArray

_VGA = 640.0  # the pixel bounds of `PoseSettings` are for images of this width


@dataclass(frozen=True)
class PoseSettings:
    """How a pose is found, and when it is not believed.

    Pixels are those of an image whose longer side has 640; they scale with it.

    Attributes:
        max_error: reprojection error of an inlier.
        loss_scale: of Cauchy's loss in the refinement.
        guided_radius: how far from its projection a point is looked for.
        min_features: fewer features than this is a black, blank or blurred image.
        min_inliers: fewer matches than this that agree with one pose are chance: 29 photos of
            two other places reach at most 7 with the kitchen's map; frames of the kitchen blurred
            until nothing can be read in them (Gauss of 8 pixels) still have 8 to 23.
        min_inlier_share: of the matches; those photos reach 0.24 where matches are few, frames
            of the kitchen 0.7 and more.
        max_position_sigma: of the result, as a share of the distance to the points.
        max_rotation_sigma_deg: of the result.
        max_view_distance: from the nearest view of the map, as a multiple of that view's
            distance to the points: SIFT does not match across larger changes of scale.
        verified: whether a pose is compared with what the map says is to be seen from it; frames
            next to the map's own in time cannot be look-alikes.
        verification_radius: of a point's projection, within which a feature should look like it.
        usual: what photos show at right poses; `PoseSolver.learn` puts the map's own here.
        focal_sigma: of a focal length from EXIF, as a share.
        focal_range: plausible focal lengths as shares of the longer side.
        max_radial: plausible radial term, either sign.
    """

    max_error: float = 5.0
    loss_scale: float = 2.0
    guided_radius: float = 6.0
    min_features: int = 30
    min_inliers: int = 12
    min_inlier_share: float = 0.1
    max_position_sigma: float = 0.05
    max_rotation_sigma_deg: float = 2.0
    max_view_distance: float = 4.0
    verified: bool = True
    verification_radius: float = 4.0
    usual: Usual = field(default_factory=Usual)
    focal_sigma: float = 0.1
    focal_range: tuple[float, float] = (0.3, 3.0)
    max_radial: float = 0.5


@dataclass(frozen=True, eq=False)
class Matches:
    """What of a photo was found in the map, before any pose."""

    camera: Camera  # the photo's, as well as it is known
    keypoints: FloatArray  # [K, 2] all its features, pixels
    descriptors: Descriptors  # [K, D] theirs
    near: Rows  # rows of the points that the similar views see, ascending
    feature_rows: Rows  # [M] matched features
    point_rows: Rows  # [M] the points that they match

    @property
    def pixel(self) -> float:
        """A pixel of a 640 pixel wide image, in pixels of this one."""
        return self.longer_side / _VGA

    @property
    def longer_side(self) -> int:
        """Of the photo, pixels."""
        return max(self.camera.width, self.camera.height)

    def only(self, features: NDArray[np.bool_]) -> Matches:
        """The same with the features ``features`` [K] alone."""
        new_row = np.cumsum(features) - 1
        kept = features[self.feature_rows]
        return replace(
            self,
            keypoints=self.keypoints[features],
            descriptors=self.descriptors[features],
            feature_rows=new_row[self.feature_rows[kept]],
            point_rows=self.point_rows[kept],
        )


@dataclass(frozen=True, eq=False)
class Solved:
    """A pose that is believed."""

    view: View  # the pose, and the matches that agree with it
    covariance: FloatArray  # [6, 6] as in `PoseEstimate`
    camera: Camera  # the given one, or the estimated SIMPLE_RADIAL
    verification: Verification  # what of the photo contradicts the pose, within bounds


@dataclass(frozen=True, eq=False)
class Refused:
    """Why there is no pose."""

    reason: str  # for people
    inliers: int | None = None  # matches that agreed with the best one
    # the pose, where only what stands around speaks against it: a look-alike's
    doubted: Rigid3 | None = None


def solve_pose(
    matches: Matches, scene: Scene, settings: PoseSettings, *, without: int | None = None
) -> Solved | Refused:
    """The pose of one photo.

    An exact camera is used as it is. Otherwise the focal length and one radial term are estimated,
    with the principal point at the centre; an approximate focal length is where that starts.

    Args:
        matches: of the photo.
        scene: what they were matched to.
        settings: bounds.
        without: a view of the scene that is not asked: the photo itself.
    """
    if len(matches.keypoints) < settings.min_features:
        return Refused(
            f"hardly any features ({len(matches.keypoints)}): a black, blank or blurred image"
        )
    usable = lens_pixels(matches)[1]
    matches = matches.only(usable)
    found = len(matches.feature_rows)
    if not len(matches.near):
        return Refused("no image of the map shows what is seen from about the prior", 0)
    if found < settings.min_inliers:
        return Refused(f"too few matches with the map ({found}): another place, or blurred", 0)

    result = _solve(_Photo(matches, scene, settings, without), found)
    if isinstance(result, Refused) and matches.camera.known == "approximate":
        # It can be wrong: a zoomed or cropped image keeps its EXIF.
        unknown = replace(matches, camera=replace(matches.camera, known="unknown"))
        from_nothing = _solve(_Photo(unknown, scene, settings, without), found)
        result = from_nothing if isinstance(from_nothing, Solved) else result
    if isinstance(result, Refused):
        return result
    view = result.view
    return replace(
        result, view=replace(view, feature_rows=np.flatnonzero(usable)[view.feature_rows])
    )


def _solve(photo: _Photo, found: int) -> Solved | Refused:
    first = photo.first_pose()
    agreeing = 0 if first is None else first[2]
    least = max(photo.settings.min_inliers, photo.settings.min_inlier_share * found)
    if first is not None and agreeing >= least:
        view, lens = first[:2]
        if not photo.is_exact:
            view, lens = photo.refined(view, lens)
            # RANSAC took twice the bound. Points found again near a pose prove nothing of it.
            agreeing = len(view.pixels)
        if agreeing >= least:
            return photo.verdict(*photo.with_guided_matches(view, lens))
    return Refused(
        f"only {agreeing} of {found} matches agree on a pose: another place, or blurred", agreeing
    )


class _Photo:
    """One photo's matches with everything that the steps of its solution share."""

    def __init__(
        self, matches: Matches, scene: Scene, settings: PoseSettings, without: int | None
    ) -> None:
        self.matches, self.scene, self.settings = matches, scene, settings
        self.camera, self.without = matches.camera, without
        self.is_exact = self.camera.known == "exact"
        self.freedom = Freedom.HELD if self.is_exact else Freedom.FOCAL_AND_RADIAL
        self.max_error = settings.max_error * matches.pixel
        self.loss_scale = settings.loss_scale * matches.pixel
        self.pixels = lens_pixels(matches)[0]

    def first_pose(self) -> tuple[View, Lens, int] | None:
        """By RANSAC: the matches that agree, their lens, and how many they are."""
        pixels = self.pixels[self.matches.feature_rows]
        points = self.scene.positions[self.matches.point_rows]
        if self.is_exact:
            lens = Lens(self.camera.focal_px)
            first = ransac_pose(pixels, points, lens.focal, max_error=self.max_error)
        else:
            longer = self.matches.longer_side
            start = self.camera.focal_px if self.camera.known == "approximate" else None
            # Twice the bound: the focal lengths tried are off by up to 10%.
            first = ransac_pose_and_focal(
                pixels, points, longer_side=longer, prior=start, max_error=2 * self.max_error
            )
            sigma = None if start is None else self.settings.focal_sigma
            lens = Lens(0.0 if first is None else first.focal, focal_sigma=sigma)
        if first is None:
            return None
        view = self._view(first.world_from_cam)
        return view.only(first.inliers), lens, int(first.inliers.sum())

    def refined(self, view: View, lens: Lens) -> tuple[View, Lens]:
        """The pose (and a free lens) at least robust cost, from all matches that then agree."""
        view, lens = self._refine_once(view, lens)
        return self._refine_once(self._agreeing(self._view(view.world_from_cam), lens), lens)

    def _view(self, world_from_cam: Rigid3) -> View:
        """All matches with a pose."""
        features, points = self.matches.feature_rows, self.matches.point_rows
        positions = self.scene.positions[points]
        return View(self.pixels[features], positions, world_from_cam, features, points)

    def with_guided_matches(self, view: View, lens: Lens) -> tuple[View, Lens]:
        """Match again where the pose puts the points, and refine again.

        It finds what the ratio test threw away: half as many matches again, which halves the
        largest errors where few matches were (measured on the kitchen's train blocks).
        """
        guided = guided_matches(
            self.matches, self.scene, self.settings, self.pixels, view.world_from_cam, lens
        )
        guided = self._agreeing(guided, lens)
        if len(guided.pixels) < len(view.pixels):
            return view, lens
        guided, lens = self._refine_once(guided, lens)
        return self._agreeing(guided, lens), lens

    def verdict(self, view: View, lens: Lens) -> Solved | Refused:
        """The pose with its covariance, unless something says that it cannot be."""
        settings, count = self.settings, len(view.pixels)
        if count < settings.min_inliers:
            return Refused(f"only {count} matches agree on a pose: another place", count)
        longer = self.matches.longer_side
        low, high = settings.focal_range
        if not self.is_exact and not (
            low * longer < lens.focal < high * longer and abs(lens.radial) < settings.max_radial
        ):
            return Refused(
                f"no plausible camera (focal length {lens.focal / longer:.2f} of the longer "
                f"side, radial term {lens.radial:.2f})",
                count,
            )
        centre = view.world_from_cam.translation
        depth = float(np.median(np.linalg.norm(view.points - centre, axis=1)))
        uncertainty = covariance(view, lens, loss_scale=self.loss_scale, freedom=self.freedom)
        sigmas = np.sqrt(np.diag(uncertainty))
        position, rotation = sigmas[:3].max(), float(np.degrees(sigmas[3:].max()))
        if (
            not position <= settings.max_position_sigma * depth
            or not rotation <= settings.max_rotation_sigma_deg
        ):
            return Refused(
                f"the {count} matches do not determine the pose (too few, in a small part of "
                "the image, or at one distance)",
                count,
            )
        distances = np.linalg.norm(self.scene.centres - centre, axis=1)
        nearest = int(distances.argmin())
        seen_from = np.linalg.norm(view.points - self.scene.centres[nearest], axis=1)
        if distances[nearest] > settings.max_view_distance * float(np.median(seen_from)):
            return Refused("the pose is implausible: far from every view of the map", count)
        verification = self._verification(view, lens)
        contradiction = verification.lookalike(settings.usual)
        if contradiction is not None:
            return Refused(
                f"a look-alike: {count} matches agree on a pose, but {contradiction}",
                count,
                view.world_from_cam,
            )
        camera = self.camera
        if not self.is_exact:
            camera = camera_of(lens, camera.width, camera.height)
        return Solved(view, uncertainty, camera, verification)

    def _verification(self, view: View, lens: Lens) -> Verification:
        if not self.settings.verified:
            return Verification(missing=None, unlike=None)
        return verify_pose(
            view,
            lens,
            self.scene,
            self.pixels,
            self.matches.descriptors,
            radius=self.settings.verification_radius * self.matches.pixel,
            matched=self.matches.feature_rows,
            without=self.without,
        )

    def _refine_once(self, view: View, lens: Lens) -> tuple[View, Lens]:
        result = refine((view,), lens, loss_scale=self.loss_scale, freedom=self.freedom)
        return result.views[0], result.lens

    def _agreeing(self, view: View, lens: Lens) -> View:
        return view.only(reprojection_errors(view, lens) <= self.max_error)


def guided_matches(
    matches: Matches,
    scene: Scene,
    settings: PoseSettings,
    pixels: FloatArray,
    world_from_cam: Rigid3,
    lens: Lens,
) -> View:
    """Features and scene points that look alike where a pose puts the points.

    Args:
        matches: of the photo.
        scene: that they were matched to.
        settings: how near and how alike.
        pixels: [K, 2] all the photo's features, in the lens's pixels.
        world_from_cam: the pose.
        lens: of the photo.
    """
    projected, front = project(scene.positions[matches.near], world_from_cam, lens)
    extent = np.abs(pixels).max(axis=0) + settings.guided_radius * matches.pixel
    inside = front & (np.abs(projected) <= extent).all(axis=1)
    near = matches.near[inside]
    rows, columns = match_nearby(
        unit_descriptors(matches.descriptors),
        unit_descriptors(scene.descriptors[near]),
        pixels,
        projected[inside],
        radius=settings.guided_radius * matches.pixel,
        similarity=kind_of(scene.descriptors).nearby,
    )
    points = near[columns]
    return View(pixels[rows], scene.positions[points], world_from_cam, rows, points)


def observed(
    matches: Matches, scene: Scene, settings: PoseSettings, world_from_cam: Rigid3
) -> View:
    """What a photo of an exactly known camera observes of the scene from a known pose.

    Args:
        matches: of the photo.
        scene: that they were matched to.
        settings: how near and how alike.
        world_from_cam: the pose.
    """
    pixels, usable = lens_pixels(matches)
    lens = Lens(matches.camera.focal_px)
    kept = matches.only(usable)
    view = guided_matches(kept, scene, settings, pixels[usable], world_from_cam, lens)
    view = view.only(reprojection_errors(view, lens) <= settings.max_error * matches.pixel)
    return replace(view, feature_rows=np.flatnonzero(usable)[view.feature_rows])


def lens_pixels(matches: Matches) -> tuple[FloatArray, NDArray[np.bool_]]:
    """All features in the pixels of a `Lens`, from the principal point or the image's centre.

    An exactly known camera is undistorted away, whatever its model: what is left is a pinhole lens
    of the same focal length.

    Returns:
        Pixels [K, 2], and which of them [K] are such: a strong distortion cannot be undone beyond
        where it folds the image over.
    """
    camera = matches.camera
    if camera.known != "exact":
        centre = np.array([camera.width / 2, camera.height / 2])
        return matches.keypoints - centre, np.ones(len(matches.keypoints), dtype=np.bool_)
    pixels = camera.cam_from_img(matches.keypoints.reshape(-1, 2)) * camera.focal_px
    pixels = pixels.reshape(-1, 2)
    usable: NDArray[np.bool_] = np.asarray(np.isfinite(pixels).all(axis=1), dtype=np.bool_)
    return pixels, usable


def camera_of(lens: Lens, width: int, height: int) -> Camera:
    """The lens in an image whose pixels it counts from the centre.

    SIMPLE_RADIAL where that says it all, else RADIAL.
    """
    centre = (width / 2 + lens.centre[0], height / 2 + lens.centre[1])
    if lens.radial2 or lens.centre != (0.0, 0.0):
        return Camera("RADIAL", width, height, (lens.focal, *centre, lens.radial, lens.radial2))
    return Camera("SIMPLE_RADIAL", width, height, (lens.focal, *centre, lens.radial))
