"""How much a photo looks like the train images, in the features that the regressor sees.

A network has an answer to any image. What it cannot answer, a photo of another place, shows in
its features being far from those of all train images: measured with EfficientNet-Lite0 on frames
of 7-Scenes' redkitchen, 0.2 (0.45 at most) for held-out frames, 0.4 to 0.5 for photos of another
camera at its right focal length and 0.8 at twice that, 0.85 for photos of other places.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from relocalize.geometry.transforms import FloatArray, rotations_from_quats_wxyz
from relocalize.regression.answers import Float32Array

_ALL = 0.95  # of each part, above which a photo shows all of it
# Rows and columns of the parts of an image over which feature maps are averaged: mirrored views
# differ then. They divide the usual grids of cells, so that kept features and those of images are
# described alike.
PARTS = (2, 4)
_MOST_DIRECTIONS = 256  # principal ones that are kept of descriptions
_MOST_VIEWS = 4000  # that are kept: 2 MB; and twice as many copies of them
_MOST_FOR_DIRECTIONS = 1500  # views that the principal directions are found from

_PREFIX = "familiar."  # of their names in a file


@dataclass(frozen=True, eq=False)
class Comparison:
    """Photos compared with the train views."""

    novelty: FloatArray  # [B] 0 for a train image, about 1 for what has nothing in common with any
    nearest: FloatArray  # [B, 4, 4] world_from_cam of the most similar train view, or copy of one


@dataclass(frozen=True, eq=False)
class KnownViews:
    """Descriptions of train views with their poses."""

    mean: Float32Array  # [D] of descriptions
    basis: Float32Array  # [d, D] their principal directions, orthonormal
    # [N + C, d] train views along these, and varied copies of them, of unit length before what is
    # off them is left out
    vectors: Float32Array
    world_from_cams: FloatArray  # [N + C, 4, 4]
    # N; the copies stand behind the views. They are nearer to a photo from between the views, but
    # do not make it less novel: what is shown beyond an image's edge in all copies would make a
    # photo of a wrong focal length, with edges too, look like them.
    count: int

    @classmethod
    def learn(
        cls,
        descriptions: Float32Array,
        world_from_cams: FloatArray,
        copies: tuple[Float32Array, FloatArray] | None = None,
    ) -> KnownViews:
        """From descriptions [N, D] of train views and their poses [N, 4, 4], and of copies."""
        rows = _spread(len(descriptions), _MOST_VIEWS)
        descriptions, poses = descriptions[rows], world_from_cams[rows]
        count, every = len(rows), descriptions
        if copies is not None:
            rows = _spread(len(copies[0]), 2 * _MOST_VIEWS)
            every = np.concatenate([descriptions, copies[0][rows]])
            poses = np.concatenate([poses, copies[1][rows]])
        mean = descriptions.mean(axis=0)
        sample = descriptions[_spread(len(descriptions), _MOST_FOR_DIRECTIONS)] - mean
        _, _, directions = np.linalg.svd(sample, full_matrices=False)
        # What a file of half precision gives back.
        basis = directions[:_MOST_DIRECTIONS].astype(np.float16).astype(np.float32)
        views = cls(mean, basis, np.zeros((0, len(basis)), np.float32), poses, count)
        vectors = views._projected(every).astype(np.float16).astype(np.float32)
        return cls(mean, basis, vectors, poses, count)

    def _projected(
        self, descriptions: Float32Array, weights: Float32Array | None = None
    ) -> Float32Array:
        off = descriptions - self.mean
        if weights is not None:
            off = off * np.sqrt(weights)
        length = np.linalg.norm(off, axis=1, keepdims=True)
        off /= np.maximum(length, 1e-9)
        if weights is not None:
            off *= np.sqrt(weights)
        projected: Float32Array = off @ self.basis.T
        return projected

    def compare(self, descriptions: Float32Array, shown: Float32Array | None = None) -> Comparison:
        """Photos with the train views, by what they show.

        Args:
            descriptions: [B, D] of the photos.
            shown: [B, K] the share of each of K parts that a photo shows, of which the D numbers
                are in turn; None: all.
        """
        if shown is None or shown.min() > _ALL:
            similarity = self._projected(descriptions) @ self.vectors.T
        else:
            weights = np.tile(shown, len(self.mean) // shown.shape[1])
            similarity = self._projected(descriptions, weights) @ self.vectors.T
            similarity /= self._lengths(shown)
        novelty = 1.0 - similarity[:, : self.count].max(axis=1).astype(np.float64)
        nearest = self.world_from_cams[similarity.argmax(axis=1)]
        return Comparison(np.maximum(novelty, 0.0), nearest)

    def _lengths(self, shown: Float32Array) -> Float32Array:
        """[B, N] of the views' vectors where only the parts ``shown`` [B, K] count."""
        lost = np.maximum(1.0 - (self.vectors**2).sum(axis=1), 0.0)
        squares = shown @ self._by_part + shown.mean(axis=1, keepdims=True) * lost
        lengths: Float32Array = np.sqrt(np.maximum(squares, 1e-9))
        return lengths

    @cached_property
    def _by_part(self) -> Float32Array:
        """[K, N] the square of each view's vector in each of the K parts of an image."""
        count = PARTS[0] * PARTS[1]
        basis = self.basis.reshape(len(self.basis), -1, count)
        return np.stack(
            [((self.vectors @ basis[:, :, part]) ** 2).sum(axis=1) for part in range(count)]
        )

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """For a file."""
        from scipy.spatial.transform import Rotation  # noqa: PLC0415 - answering needs no scipy

        poses = self.world_from_cams
        quats = Rotation.from_matrix(poses[:, :3, :3]).as_quat(canonical=True, scalar_first=True)
        arrays: dict[str, NDArray[np.generic]] = {
            "mean": self.mean,
            "basis": self.basis.astype(np.float16),
            "vectors": self.vectors.astype(np.float16),
            "quat_wxyz": quats.astype(np.float32),
            "positions": poses[:, :3, 3].astype(np.float32),
            "count": np.array([self.count], dtype=np.int64),
        }
        return {_PREFIX + name: array for name, array in arrays.items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> KnownViews:
        """What `to_arrays` gave; raises KeyError or ValueError for damaged ones."""
        mean, basis, vectors, quats, positions = (
            np.asarray(arrays[_PREFIX + name], dtype=np.float32)
            for name in ("mean", "basis", "vectors", "quat_wxyz", "positions")
        )
        count, views = len(vectors), int(np.asarray(arrays[f"{_PREFIX}count"]).reshape(()))
        if (
            not 1 <= views <= count
            or basis.shape != (vectors.shape[1], len(mean))
            or quats.shape != (count, 4)
            or positions.shape != (count, 3)
        ):
            raise ValueError("arrays of known views do not fit each other")
        poses = np.tile(np.eye(4), (count, 1, 1))
        poses[:, :3, :3] = rotations_from_quats_wxyz(quats.astype(np.float64))
        poses[:, :3, 3] = positions
        return cls(mean, basis, vectors, poses, views)


def _spread(count: int, most: int) -> NDArray[np.int64]:
    """At most ``most`` of ``count`` rows, evenly."""
    if count <= most:
        return np.arange(count)
    return np.rint(np.linspace(0, count - 1, most)).astype(np.int64)
