"""Image retrieval: a baseline that answers with the pose of the most similar train image."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from relocalize.errors import GeometryError, LocalizerError, MappingError
from relocalize.features.database import StoredDescriptors, open_database
from relocalize.features.extraction import FeatureSettings, UnitDescriptors, extract_features
from relocalize.features.vlad import Vlad
from relocalize.geometry import Rigid3
from relocalize.geometry.transforms import FloatArray, nearest_rotation
from relocalize.localization.estimate import PoseEstimate
from relocalize.localization.localizer import Localizer
from relocalize.localization.query import Query
from relocalize.localization.saving import read_saved, write_saved
from relocalize.place import Place, Split
from relocalize.regression.time_blocks import time_blocks
from relocalize.regression.uncertainty import pose_distances, sigma_weights

_VERSION = 2
_MIN_FEATURES = 30  # as the structure localizer: fewer is a black, blank or blurred image
_VALIDATION_SHARE = 0.25  # of the train images, in blocks of time: to learn how wrong answers are
# Images that a pose is interpolated between, and what keeps their weights small: of 3 to 20, and
# 0.03 to 1, what was best on train images of fox, redkitchen and a rendered corridor.
_NEIGHBOURS, _RIDGE = 8, 0.1


@dataclass(frozen=True, eq=False)
class Similar:
    """What train images that look like a photo say of its pose."""

    nearest: FloatArray  # [4, 4] world_from_cam of the most similar one
    between: FloatArray  # [4, 4] interpolated between several
    covariance: FloatArray | None  # [6, 6] of the nearest; None where it is not known


class RetrievalLocalizer(Localizer):
    """Answers with the pose of the most similar train image, which is never the photo's own.

    It cannot tell a photo of another place from one of this one: a baseline, not a product. How
    wrong it is was measured on train images in blocks of time, answered by images outside of
    them; what is less like its answer is off by more.

    Attributes:
        vlad: describes images.
        vectors: [N, D] the train images' descriptions.
        world_from_cams: [N, 4, 4] their poses.
        sigmas: [2, 2] of positions, in `unit`, and of rotations, in radians: the standard
            deviation per axis, and what a difference of 1 between photo and answer adds; None
            where too few train images tell.
        unit: of positions.
    """

    name: ClassVar[str] = "retrieval"

    def __init__(
        self,
        vlad: Vlad,
        vectors: UnitDescriptors,
        world_from_cams: FloatArray,
        sigmas: FloatArray | None,
        unit: str,
        features: FeatureSettings,
    ) -> None:
        self.vlad, self.vectors, self.world_from_cams = vlad, vectors, world_from_cams
        self.sigmas, self.unit = sigmas, unit
        self._features = features

    @classmethod
    def fit(cls, place: Place, split: Split | None = None, *, sigmas: bool = True) -> Self:
        """Describe the train images (without a split: all posed images) that have features.

        Args:
            place: with a map.
            split: whose train images are described.
            sigmas: whether to learn how wrong answers are, which takes as long again.
        """
        posed = place.map.images
        names = list(posed) if split is None else [name for name in split.train if name in posed]
        described = [name for name in names if len(posed[name].keypoints)]
        if not described:
            raise LocalizerError(
                f"none of {len(names)} train images has features; run: relocalize map {place.root}"
            )
        with open_database(place) as database:
            features = database.settings
            descriptors = StoredDescriptors(database, described)
            try:
                vlad = Vlad.fit(descriptors)
            except MappingError as error:
                raise LocalizerError(f"the train images have too few features: {error}") from error
            vectors = np.stack([vlad.describe(rows) for rows in descriptors])
            poses = np.stack([posed[name].world_from_cam.matrix for name in described])
            learnt = _sigmas_of_blocks(described, descriptors, poses) if sigmas else None
        return cls(vlad, vectors, poses, learnt, place.unit, features)

    def _localize(self, query: Query) -> PoseEstimate:
        """The pose of the most similar train image; fails only where there is nothing to see."""
        started = time.perf_counter()
        found = self.similar(query.pixels)
        milliseconds = 1e3 * (time.perf_counter() - started)
        if isinstance(found, str):
            return PoseEstimate("failed", self.unit, milliseconds, reason=found)
        return PoseEstimate(
            "localized",
            self.unit,
            milliseconds,
            world_from_cam=Rigid3.from_matrix(found.nearest),
            covariance=found.covariance,
        )

    def similar(self, pixels: NDArray[np.uint8]) -> Similar | str:
        """By the train images that look most like a photo [H, W, 3]; why not, where none does."""
        features = extract_features(pixels, self._features)
        if len(features) < _MIN_FEATURES:
            return f"hardly any features ({len(features)}): a black, blank or blurred image"
        vector = self.vlad.describe(features.descriptors)
        similarity = self.vectors @ vector
        best = int(similarity.argmax())
        chosen = np.argsort(-similarity, kind="stable")[:_NEIGHBOURS]
        between = interpolated(vector, self.vectors[chosen], self.world_from_cams[chosen])
        covariance = self._covariance(float(similarity[best]))
        return Similar(self.world_from_cams[best], between, covariance)

    def _covariance(self, similarity: float) -> FloatArray | None:
        if self.sigmas is None:
            return None
        position, rotation = self.sigmas @ signs_of(np.array([similarity]))[0]
        return np.diag([position**2] * 3 + [rotation**2] * 3)

    def save(self, folder: Path) -> None:
        """Write vectors and poses into the empty ``folder``."""
        write_saved(
            folder,
            localizer=self.name,
            version=_VERSION,
            unit=self.unit,
            settings={"features": asdict(self._features)},
            arrays={
                "vectors": self.vectors,
                "world_from_cams": self.world_from_cams,
                "sigmas": np.empty((0, 2)) if self.sigmas is None else self.sigmas,
                **self.vlad.to_arrays(),
            },
        )

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        description, arrays = read_saved(folder, localizer=cls.name, version=_VERSION)
        try:
            vlad = Vlad.from_arrays(arrays)
            poses = arrays["world_from_cams"].reshape(-1, 4, 4)
            vectors = arrays["vectors"].reshape(len(poses), vlad.size)
            for pose in poses:
                Rigid3.from_matrix(pose)
            sigmas = arrays["sigmas"].reshape(-1, 2)
            if len(sigmas) not in (0, 2) or not (np.isfinite(sigmas) & (sigmas >= 0)).all():
                raise ValueError("sigmas are no 2 x 2 numbers >= 0")
            features = FeatureSettings(**description["settings"]["features"])
        except (KeyError, TypeError, ValueError, MappingError, GeometryError) as error:
            raise LocalizerError(f"{folder} is damaged: {error!r}") from error
        unit = description["unit"]
        return cls(vlad, vectors, poses, sigmas if len(sigmas) else None, unit, features)


def interpolated(
    vector: UnitDescriptors, vectors: UnitDescriptors, world_from_cams: FloatArray
) -> FloatArray:
    """The pose [4, 4] between K poses [K, 4, 4] whose descriptions [K, D] make up ``vector`` [D].

    Torii, Sivic and Pajdla, "Visual localization by linear combination of image descriptors", ICCV
    workshops 2011; weights as in locally linear embedding (Roweis and Saul, Science 2000).
    """
    off = (vectors - vector).astype(np.float64)
    products = off @ off.T
    products += (_RIDGE * products.trace() / len(off) + 1e-12) * np.eye(len(off))
    weights = np.linalg.solve(products, np.ones(len(off)))
    mean: FloatArray = np.tensordot(weights / weights.sum(), world_from_cams, 1)
    mean[:3, :3] = nearest_rotation(mean[:3, :3])
    return mean


def _sigmas_of_blocks(
    names: Sequence[str], descriptors: Sequence[NDArray[np.uint8]], world_from_cams: FloatArray
) -> FloatArray | None:
    """`RetrievalLocalizer.sigmas`, from blocks of time that the other images answer.

    These other images alone say how images are described: descriptions learnt from an image
    make more of what is particular to it, and it looks less like others than a photo does.
    """
    try:
        others, held = time_blocks(names, _VALIDATION_SHARE, centres=world_from_cams[:, :3, 3])
        vlad = Vlad.fit([descriptors[row] for row in others])
    except (LocalizerError, MappingError):
        return None
    known, asked = (
        np.stack([vlad.describe(descriptors[row]) for row in rows]) for rows in (others, held)
    )
    return measured_sigmas(asked @ known.T, world_from_cams[held], world_from_cams[others])


def measured_sigmas(
    similarity: UnitDescriptors, world_from_cams: FloatArray, answers: FloatArray
) -> FloatArray:
    """`RetrievalLocalizer.sigmas` of photos whose poses are known.

    Args:
        similarity: [N, M] of the photos to the images that answer.
        world_from_cams: [N, 4, 4] the photos' poses.
        answers: [M, 4, 4] the images' poses.
    """
    errors = pose_distances(world_from_cams, answers[similarity.argmax(axis=1)])
    signs = signs_of(similarity.max(axis=1))
    return np.array([sigma_weights(signs, errors[:, part]) for part in (0, 1)])


def signs_of(similarity: UnitDescriptors | FloatArray) -> FloatArray:
    """[N, 2] what sigmas are made of: 1, and how far descriptions of that similarity are apart."""
    apart = np.sqrt(np.maximum(2 - 2 * similarity.astype(np.float64), 0))
    return np.stack([np.ones(len(similarity)), apart], axis=1)
