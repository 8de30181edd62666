"""The verbs that every localizer has: fit a Place, localize an image, save, load."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import ClassVar

from typing_extensions import Self

from relocalize.absolute_pose.map_noise import MapNoise
from relocalize.absolute_pose.shared_camera import SharedCamera
from relocalize.errors import CaptureError
from relocalize.geometry import Camera
from relocalize.localization.estimate import PoseEstimate
from relocalize.localization.prior import PosePrior
from relocalize.localization.query import ImageLike, Query
from relocalize.place import Place, Split


class Localizer(ABC):
    """Tells from one photo where in a Place it was taken.

    Attributes:
        name: what users call it, and its folder in ``localizers/``.
        unit: of the positions it gives, the Place's when it was fitted.
        work_folder: what `fit` left on disk for a killed one to go on from, which may be deleted
            once the fitted localizer is saved; None where nothing was left.
        map_noise: how far the map's own poses are off beyond their scatter, where that is known.
    """

    name: ClassVar[str]
    unit: str
    work_folder: Path | None = None
    map_noise: MapNoise | None = None

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

    def localize(
        self, image: ImageLike, camera: Camera | None = None, prior: PosePrior | None = None
    ) -> PoseEstimate:
        """The pose of one image.

        Args:
            image: a query, the path of a photo, or upright RGB pixels [H, W, 3] of uint8.
            camera: as for `Query.of`: intrinsics that are ``exact`` are used as they are; what is
                not exactly known is estimated.
            prior: where the camera is thought to be. The pose is the image's own, so that a filter
                counts the prior once; one that contradicts it is not answered.

        Returns:
            An estimate, ``failed`` with a reason when the image cannot be localized: never an
            exception for a photo that is merely bad, never a guess.

        Raises:
            CaptureError: the file cannot be read.
            QueryError: the pixels are not an image, or the camera is of another size.
        """
        query = Query.of(image, camera, prior)
        return _believed(self._localize(query), query.prior)

    def localize_many(self, images: Iterable[ImageLike]) -> list[PoseEstimate]:
        """The poses of images, in their order; those that share a camera calibrate it together.

        Images of one size of which the same is known, and nothing exactly, are taken to share a
        camera. A file that cannot be read fails with that as its reason.

        Args:
            images: as for `localize`; each is read when its turn comes.

        Raises:
            QueryError: as for `localize`.
        """
        results: list[PoseEstimate | None] = []
        priors: list[PosePrior | None] = []

        def readable() -> Iterator[Query]:
            for query in map(_query_or_error, images):
                if isinstance(query, Query):
                    results.append(None)
                    priors.append(query.prior)
                    yield query
                else:
                    results.append(PoseEstimate("failed", self.unit, 0.0, reason=str(query)))

        found = iter(self._localize_many(readable()))
        found = map(_believed, found, priors)
        return [result or next(found) for result in results]

    def calibrate(self, images: Iterable[ImageLike]) -> SharedCamera | None:
        """The camera that images of one size share, estimated from all of them together.

        None where they do not tell, or the localizer has no way to.
        """
        return None

    @abstractmethod
    def _localize(self, query: Query) -> PoseEstimate:
        """The pose of one query."""

    def _localize_many(self, queries: Iterable[Query]) -> list[PoseEstimate]:
        """The poses of queries in their order."""
        return [self._localize(query) for query in queries]

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


def _believed(estimate: PoseEstimate, prior: PosePrior | None) -> PoseEstimate:
    """The estimate, unless its pose contradicts what was known before."""
    if prior is None or estimate.world_from_cam is None:
        return estimate
    why = prior.contradiction(estimate.world_from_cam, estimate.covariance)
    if why is None:
        return estimate
    return PoseEstimate(
        "failed", estimate.unit, estimate.milliseconds, reason=why, inliers=estimate.inliers
    )


def _query_or_error(image: ImageLike) -> Query | CaptureError:
    try:
        return Query.of(image)
    except CaptureError as error:
        return error
