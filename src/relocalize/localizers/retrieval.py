"""Image retrieval: a baseline that answers with the pose of the most similar train image."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from typing_extensions import Self

from relocalize.errors import GeometryError, LocalizerError, MappingError
from relocalize.geometry import Camera, Rigid3
from relocalize.geometry.transforms import FloatArray
from relocalize.localizers.estimate import PoseEstimate
from relocalize.localizers.localizer import Localizer
from relocalize.localizers.saving import read_saved, write_saved
from relocalize.mapping.database import open_database
from relocalize.mapping.features import FeatureExtractor, FeatureSettings
from relocalize.mapping.resection.matching import Float32Array
from relocalize.mapping.resection.stored import StoredDescriptors
from relocalize.mapping.vlad import Vlad
from relocalize.place import Place, Split

_VERSION = 1
_MIN_FEATURES = 30  # as the structure localizer: fewer is a black, blank or blurred picture


class RetrievalLocalizer(Localizer):
    """Answers with the pose of the most similar train image, which is never the photo's own.

    It cannot tell a photo of another place from one of this one: a baseline, not a product. Its
    covariance is that of the train images themselves, each answered by its most similar other.

    Attributes:
        vlad: describes images.
        vectors: [N, D] the train images' descriptions.
        world_from_cams: [N, 4, 4] their poses.
        covariance: [6, 6] as in `PoseEstimate`; None with a single train image.
        unit: of positions.
    """

    name: ClassVar[str] = "retrieval"

    def __init__(
        self,
        vlad: Vlad,
        vectors: Float32Array,
        world_from_cams: FloatArray,
        unit: str,
        features: FeatureSettings,
    ) -> None:
        self.vlad, self.vectors, self.world_from_cams = vlad, vectors, world_from_cams
        self.unit = unit
        self.covariance = _leave_one_out_covariance(vectors, world_from_cams)
        self._extractor = FeatureExtractor(features)

    @classmethod
    def fit(cls, place: Place, split: Split | None = None) -> Self:
        """Describe the train images (without a split: all posed images) that have features."""
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
        return cls(vlad, vectors, poses, place.unit, features)

    def localize(self, image: NDArray[np.uint8], camera: Camera | None = None) -> PoseEstimate:
        """The pose of the most similar train image; fails only where there is nothing to see."""
        started = time.perf_counter()
        features = self._extractor.extract(image)
        if len(features) < _MIN_FEATURES:
            return PoseEstimate(
                "failed",
                self.unit,
                1e3 * (time.perf_counter() - started),
                reason=f"hardly any features ({len(features)}): a black, blank or blurred picture",
            )
        best = int((self.vectors @ self.vlad.describe(features.descriptors)).argmax())
        return PoseEstimate(
            "localized",
            self.unit,
            1e3 * (time.perf_counter() - started),
            world_from_cam=Rigid3.from_matrix(self.world_from_cams[best]),
            covariance=self.covariance,
            camera=camera,
        )

    def save(self, folder: Path) -> None:
        """Write vectors and poses into the empty ``folder``."""
        write_saved(
            folder,
            localizer=self.name,
            version=_VERSION,
            unit=self.unit,
            settings={"features": asdict(self._extractor.settings)},
            arrays={
                "vectors": self.vectors,
                "world_from_cams": self.world_from_cams,
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
            features = FeatureSettings(**description["settings"]["features"])
        except (KeyError, TypeError, ValueError, MappingError, GeometryError) as error:
            raise LocalizerError(f"{folder} is damaged: {error!r}") from error
        return cls(vlad, vectors, poses, description["unit"], features)


def _leave_one_out_covariance(
    vectors: Float32Array, world_from_cams: FloatArray
) -> FloatArray | None:
    """[6, 6], diagonal: how far each image's most similar other image is from it."""
    if len(vectors) < 2:
        return None
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, -np.inf)
    other = similarity.argmax(axis=1)
    shift = world_from_cams[other, :3, 3] - world_from_cams[:, :3, 3]
    rotations = world_from_cams[:, :3, :3]
    turn = Rotation.from_matrix(rotations.transpose(0, 2, 1) @ rotations[other]).as_rotvec()
    position, rotation = (shift**2).mean(), (np.asarray(turn) ** 2).mean()
    return np.diag([position] * 3 + [rotation] * 3)
