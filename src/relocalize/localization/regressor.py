"""Camera pose regression: one pass of a trained network gives the pose, and how sure it is.

What is trained and how is the room `regression`; here it answers. `training_regressor` trains it,
`stored_regressor` reads and writes it. The classic is PoseNet (Kendall, Grimes, Cipolla, ICCV
2015).
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from relocalize import progress
from relocalize.errors import GeometryError
from relocalize.geometry import Camera, Rigid3
from relocalize.geometry.transforms import FloatArray, rotations_from_rotvecs
from relocalize.localization.estimate import PoseEstimate
from relocalize.localization.localizer import Localizer
from relocalize.localization.query import Query
from relocalize.localization.saving import DESCRIPTION, read_description
from relocalize.localization.stored_regressor import (
    NAME,
    Regressor,
    counted_from,
    read_regressor,
    settings_in,
    write_regressor,
)
from relocalize.place import Place, Split
from relocalize.place.image_file import shrunk
from relocalize.regression.agreement import answer_to_photo
from relocalize.regression.depths import cell_rays
from relocalize.regression.presets import preset
from relocalize.regression.settings import TrainSettings
from relocalize.regression.uncertainty import RETRIEVED, Signs, pose_distances

if TYPE_CHECKING:  # mostly, answering does without
    from relocalize.localization.retrieval import Similar

# Focal lengths, as shares of the longer side, that a photo of an unknown camera is tried with, and
# that it may have: from a phone's wide lens to a short telephoto.
_TRIED = np.array((0.6, 0.675, 0.75, 0.825, 0.9, 0.975, 1.05, 1.125, 1.2, 1.35))
_FOCALS: FloatArray = np.geomspace(_TRIED[0], _TRIED[-1], 82)  # 1% apart
_NEAR = 0.25  # logarithms: lenses by which a photo's centre moves evenly; 3 of those tried
# Of the variance of a focal length that a photo alone tells, so much is common to all photos: where
# one was 5% off, fifty together were 2 to 3%.
_COMMON = 0.25
# How else a phone is held, and from where on a photo is turned upright: that costs as much again.
_QUARTERS = (math.pi / 2, -math.pi / 2, math.pi)
_LEAST_ROLL_DEG = 10.0
# Length of the mean of the train images' unit vectors up, from which on they were held alike; and
# of up in the image, below which a photo looks up or down.
_HELD_ALIKE, _UPRIGHT = 0.8, 0.5
_WAITING_SIDE = 768  # pixels, at most, of photos that wait for others of their camera


@dataclass(frozen=True, eq=False)
class _Answer:
    """To a photo that was turned by ``roll`` before the network saw it."""

    world_from_cam: FloatArray  # [4, 4] of the photo as it is
    covariance: FloatArray  # [6, 6]
    doubt: str | None  # why it is none
    sure: bool  # as `Calibration.is_sure`
    roll: float  # radians, clockwise

    @property
    def sigma(self) -> float:
        """Of the position."""
        return float(np.trace(self.covariance[:3, :3]))


class RegressorLocalizer(Localizer):
    """Regresses poses.

    Attributes:
        parts: all that it answers by; each is an attribute here, too.
        log_folder: where its training's log is, or None.
    """

    name: ClassVar[str] = NAME

    def __init__(self, parts: Regressor) -> None:
        self.parts, self.unit, self.facts = parts, parts.unit, parts.facts
        self.network, self.images, self.views = parts.network, parts.images, parts.views
        self.calibration, self.retrieval = parts.calibration, parts.retrieval
        self.origin = parts.origin
        self._rays = cell_rays(self.images.target, self.facts.settings.head.grid)
        self.log_folder: Path | None = parts.folder
        self._said_guessing = False

    @classmethod
    def fit(
        cls,
        place: Place,
        split: Split | None = None,
        *,
        settings: TrainSettings | None = None,
        folder: Path | None = None,
    ) -> Self:
        """Train, by default as the preset ``default`` says; a killed training goes on.

        Args:
            place: with a map.
            split: whose train images are learnt from; None: every image that has a pose.
            settings: of the training.
            folder: for its checkpoint and log; None: one in the Place, by settings and images.

        Raises:
            LocalizerError: too few images, weights that are not there, or training that diverges.
            KeyboardInterrupt: after a checkpoint was written.
        """
        from relocalize.localization.training_regressor import train_regressor  # noqa: PLC0415

        settings = preset("default") if settings is None else settings
        localizer = cls(train_regressor(place, split, settings, folder))
        localizer.work_folder = localizer.parts.folder
        return localizer

    @classmethod
    def fit_again(cls, place: Place, split: Split | None, folder: Path) -> Self:
        """Train with the settings of the one that is in ``folder``, if there is one."""
        if not (folder / DESCRIPTION).is_file():
            return cls.fit(place, split)
        return cls.fit(place, split, settings=settings_in(read_description(folder)))

    def save(self, folder: Path) -> None:
        """Write network, weights, settings and the training's log into the empty ``folder``."""
        write_regressor(self.parts, folder, self.log_folder)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        return cls(read_regressor(folder))

    # -- localizing ------------------------------------------------------------------------

    def _localize(self, query: Query) -> PoseEstimate:
        """By the camera as far as it is known; an unknown one is tried with several focal lengths.

        So is an approximate one by which the photo is refused: a zoomed or cropped image keeps its
        EXIF.
        """
        started = time.perf_counter()
        if query.camera.known != "unknown":
            estimate = self._by_camera(query.pixels, query.camera, started)
            if estimate.status == "localized" or query.camera.known == "exact":
                return estimate
        tried = self._tried(query.pixels)
        height, width = query.pixels.shape[:2]
        found = self._by_camera(query.pixels, _guess(width, height, tried.best), started)
        if found.status == "failed" and query.camera.known == "approximate":
            return estimate
        return self._doubting_focal(found, tried, tried.best)

    def _localize_many(self, queries: Iterable[Query]) -> list[PoseEstimate]:
        """Images of one size of an unknown camera share it: they choose its focal length together.

        A photo that the shared one leaves without an answer is tried by itself: it may be zoomed.
        """
        estimates: dict[int, PoseEstimate] = {}
        sharing: dict[tuple[int, int], list[_Waiting]] = defaultdict(list)
        for index, query in enumerate(queries):
            if query.camera.known != "unknown":
                estimates[index] = self._localize(query)
                continue
            started, (height, width) = time.perf_counter(), query.pixels.shape[:2]
            pixels = shrunk(query.pixels, _WAITING_SIDE)
            tried = self._tried(query.pixels)
            seconds = time.perf_counter() - started
            sharing[width, height].append(_Waiting(index, pixels, tried, seconds))
        for (width, height), photos in sharing.items():
            # The median, so that photos of another place do not count.
            together = np.median([photo.tried.unlikely for photo in photos], axis=0)
            shared = float(_FOCALS[together.argmin()])
            for photo in photos:
                started = time.perf_counter() - photo.seconds
                for share, by in ((shared, len(photos)), (photo.tried.best, 1)):
                    guess = _guess(width, height, share)
                    found = self._by_guess(photo.pixels, guess, started)
                    if found.status == "localized":
                        found = self._doubting_focal(found, photo.tried, share, by)
                        break
                estimates[photo.index] = found
        return [estimates[index] for index in range(len(estimates))]

    def _by_guess(self, pixels: NDArray[np.uint8], guess: Camera, started: float) -> PoseEstimate:
        """By the camera of the photo that ``pixels`` were made smaller from."""
        found = self._by_camera(pixels, guess.resized(*pixels.shape[1::-1]), started)
        return found if found.camera is None else replace(found, camera=guess)

    def _by_camera(self, pixels: NDArray[np.uint8], camera: Camera, started: float) -> PoseEstimate:
        """Held as it is; if that is no view of the place, held the other three ways.

        Of those only a sure answer counts. One that says that the camera was rolled, by more than a
        training has seen, is given again by the photo turned upright.
        """
        similar = None if self.retrieval is None else self.retrieval.similar(pixels)
        similar = None if isinstance(similar, str) else similar
        try:
            found = self._answer(pixels, camera, 0.0, similar)
            if found.doubt is not None and self.images.turns is not None:
                held = [self._answer(pixels, camera, roll, similar) for roll in _QUARTERS]
                sure = [one for one in held if one.doubt is None and one.sure]
                found = min(sure, key=lambda one: one.sigma, default=found)
            roll = None if found.doubt is not None else self._roll_of(found.world_from_cam)
            known = math.radians(max(_LEAST_ROLL_DEG, self.facts.settings.augment.roll_deg))
            if roll is not None and abs(math.remainder(roll - found.roll, 2 * math.pi)) > known:
                upright = self._answer(pixels, camera, roll, similar)
                if upright.doubt is None and upright.sigma < found.sigma:
                    found = upright
        except GeometryError as error:
            return self._failed(started, f"the camera does not fit the photo: {error}")
        if found.doubt is not None:
            return self._failed(started, found.doubt)
        return PoseEstimate(
            "localized",
            self.unit,
            1e3 * (time.perf_counter() - started),
            world_from_cam=Rigid3.from_matrix(found.world_from_cam).shifted(self.origin),
            covariance=found.covariance,
            camera=camera,
        )

    def _failed(self, started: float, reason: str) -> PoseEstimate:
        milliseconds = 1e3 * (time.perf_counter() - started)
        return PoseEstimate("failed", self.unit, milliseconds, reason=reason)

    def _answer(
        self, pixels: NDArray[np.uint8], camera: Camera, roll: float, similar: Similar | None
    ) -> _Answer:
        """By the photo turned by ``roll`` radians, clockwise; ``similar`` to train images."""
        turn = None if roll == 0 else rotations_from_rotvecs(np.array([[0.0, 0.0, roll]]))[0]
        turns = self.images.turns
        if turn is not None and turns is not None:
            turns = turns @ turn
        answers = answer_to_photo(
            self.network(self.images.of_photo(pixels, camera, rolled=turn)),
            turns,
            self.calibration.agreement,
            self._rays,
        )
        compared = self.views.compare(answers.descriptions, answers.shown)
        nearest, retrieved = compared.nearest.copy(), None
        if similar is not None:
            of = zip(RETRIEVED, (similar.nearest, similar.between), strict=True)
            retrieved = {source: counted_from(self.origin, pose)[None] for source, pose in of}
        if turn is not None:
            # Those are of images held upright.
            for pose in (nearest, *(retrieved or {}).values()):
                pose[:, :3, :3] = pose[:, :3, :3] @ turn
        away = pose_distances(answers.world_from_cams, nearest)
        signs = Signs(compared.novelty, away, answers.variance, answers.support)
        found = self.calibration.answer(answers.world_from_cams, nearest, signs, retrieved)
        covariance = self.calibration.covariances(signs)[0]
        if similar is not None and similar.covariance is not None:
            for part, answer in enumerate(self.calibration.answers):
                if answer in RETRIEVED:
                    axes = slice(3 * part, 3 * part + 3)
                    covariance[axes, axes] = similar.covariance[axes, axes]
        doubt, sure = (
            self.calibration.doubt(signs, 0, self.unit),
            self.calibration.is_sure(signs, 0),
        )
        return _Answer(found[0], covariance, doubt, sure, roll)

    @cached_property
    def _up(self) -> FloatArray | None:
        """[3] up in the world by how the train images were held; None where that was all ways."""
        up = -self.views.world_from_cams[: self.views.count, :3, 1].mean(axis=0)
        length = float(np.linalg.norm(up))
        return up / length if length > _HELD_ALIKE else None

    def _roll_of(self, world_from_cam: FloatArray) -> float | None:
        """Radians that a photo of this pose [4, 4] is turned by, clockwise, to be upright."""
        if self._up is None or self.images.turns is None:
            return None
        x, y, _ = self._up @ world_from_cam[:3, :3]
        # Straight up or down there is no upright.
        return -math.atan2(x, -y) if math.hypot(x, y) > _UPRIGHT else None

    def _say_guessing(self) -> None:
        if not self._said_guessing:
            progress.say(
                "photos of an unknown camera: the focal length is guessed, as the one through "
                "which a photo fits the place best"
            )
        self._said_guessing = True

    def _doubting_focal(
        self, found: PoseEstimate, tried: _Tried, share: float, photos: int = 1
    ) -> PoseEstimate:
        """With the doubt about a focal length that so many photos chose in the position's sigma."""
        if found.covariance is None or self.calibration.answers[0] in RETRIEVED:
            return found
        sigma = self.calibration.wrong_lens.focal_sigma
        shift = sigma * math.sqrt(_COMMON + (1 - _COMMON) / photos) * tried.moved(share)
        covariance = found.covariance.copy()
        covariance[:3, :3] += np.outer(shift, shift)
        return replace(found, covariance=covariance)

    def _tried(self, pixels: NDArray[np.uint8]) -> _Tried:
        """A photo through lenses of several focal lengths, and how unlikely each is.

        Where cells say depths, by how far away things look through each lens that is tried; else
        the less, the more the photo looks like train images, which would rather fill the image than
        show it at the right size.
        """
        self._say_guessing()
        height, width = pixels.shape[:2]
        guesses = [_guess(width, height, share) for share in _TRIED]
        inputs = np.concatenate([self.images.of_photo(pixels, guess, crops=1) for guess in guesses])
        found = self.network(inputs)
        if found.depth_off is None:
            novelty = self.views.compare(found.descriptions, found.shown).novelty
            unlikely: FloatArray = np.interp(_FOCALS, _TRIED, novelty)
        else:
            unlikely = self.calibration.wrong_lens.unlikely(found.depth_off, _TRIED, _FOCALS)
        return _Tried(unlikely, found.world_from_cams[:, :3, 3])


@dataclass(frozen=True, eq=False)
class _Tried:
    """A photo of an unknown camera through lenses of the focal lengths `_TRIED`."""

    unlikely: FloatArray  # [F] each of `_FOCALS` is
    centres: FloatArray  # [G, 3] where the camera seems to be through each of `_TRIED`

    @property
    def best(self) -> float:
        """The focal length through which the photo fits the place best."""
        return float(_FOCALS[self.unlikely.argmin()])

    def moved(self, share: float) -> FloatArray:
        """[3] how far the centre moves as the logarithm of a focal length grows, for 1 of it."""
        off = np.log(_TRIED / share)
        near = np.abs(off) <= _NEAR
        slope: FloatArray = np.polyfit(off[near], self.centres[near], 1)[0]
        return slope


@dataclass(frozen=True, eq=False)
class _Waiting:
    """A photo that waits for others of its camera."""

    index: int  # of the photo
    pixels: NDArray[np.uint8]  # no larger than a network needs
    tried: _Tried
    seconds: float  # that this took


def _guess(width: int, height: int, share: float) -> Camera:
    """A pinhole whose focal length is this share of the longer side."""
    best = Camera.from_focal(width, height, share * max(width, height), model="SIMPLE_PINHOLE")
    return Camera(best.model, width, height, best.params, known="unknown")
