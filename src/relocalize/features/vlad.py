"""One short vector per image, for finding images of the same part of a place: VLAD.

Jégou et al., "Aggregating local descriptors into a compact image representation", CVPR 2010;
intra-normalisation: Arandjelović and Zisserman, "All about VLAD", CVPR 2013; signed square root
and PCA: Jégou and Chum, "Negative evidences and co-occurences in image retrieval", ECCV 2012.
The vocabulary is learned from the place's own descriptors, so it needs no pretrained weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relocalize.errors import MappingError
from relocalize.features.extraction import Descriptors, unit_descriptors

Float32Array = NDArray[np.float32]


@dataclass(frozen=True)
class VladSettings:
    """How images are summed up.

    The defaults were chosen on 130 training frames of a hand-held walk through a kitchen: of the
    ten best images more than two seconds away, 68% show the same view (64% with 64 words, 70%
    with 64 local components at twice the time). Whitening the image vectors made it worse (60%
    when half-way, 13% when full): few images of one walk have few directions of real variation.

    Attributes:
        words: size of the vocabulary.
        local_size: local descriptors are projected to this many principal components first.
        size: length of the image vector; smaller when there are fewer images.
        local_sample: local descriptors that vocabulary and local projection are learned from.
        image_sample: images that the final projection is learned from.
        iterations: of k-means.
        seed: of both samples and of the first cluster centres.
    """

    words: int = 128
    local_size: int = 32
    size: int = 128
    local_sample: int = 30_000
    image_sample: int = 1_000
    iterations: int = 15
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Vlad:
    """A learned description of images; compare two of its vectors by their dot product."""

    local_mean: Float32Array  # [D] mean of unit local descriptors
    local_axes: Float32Array  # [L, D] their principal axes
    words: Float32Array  # [W, L] cluster centres of the projected local descriptors
    image_mean: Float32Array  # [W * L] mean of the images' raw VLAD vectors
    image_axes: Float32Array  # [D, W * L] their principal axes

    def __post_init__(self) -> None:
        for field in fields(self):
            array = np.array(getattr(self, field.name), dtype=np.float32, order="C")
            array.setflags(write=False)
            object.__setattr__(self, field.name, array)
        local_size, words = len(self.local_axes), len(self.words)
        wanted: dict[str, tuple[int, ...]] = {
            "local_mean": (self.local_axes.shape[1],),
            "words": (words, local_size),
            "image_mean": (words * local_size,),
            "image_axes": (len(self.image_axes), words * local_size),
        }
        for name, shape in wanted.items():
            found = getattr(self, name).shape
            if found != shape or not np.all(np.isfinite(getattr(self, name))):
                raise MappingError(f"no VLAD: {name} has shape {found}, want finite {shape}")

    @property
    def size(self) -> int:
        """Length D of an image's vector."""
        return len(self.image_axes)

    @classmethod
    def fit(cls, descriptors: Sequence[Descriptors], settings: VladSettings | None = None) -> Vlad:
        """Learn vocabulary and projections from the descriptors [K, D] of each of N images.

        The result depends on the arguments alone.

        Raises:
            MappingError: the images have fewer descriptors together than the vocabulary words.
        """
        settings = settings or VladSettings()
        rng = np.random.default_rng(settings.seed)
        sample = _sample(descriptors, settings.local_sample, rng)
        if len(sample) < settings.words:
            raise MappingError(
                f"{len(descriptors)} images have {len(sample)} local features together; a "
                f"vocabulary of {settings.words} words needs at least as many"
            )
        local = unit_descriptors(sample)
        local_mean = local.mean(axis=0)
        local_axes = _principal_axes(local - local_mean, settings.local_size)
        words = _k_means((local - local_mean) @ local_axes.T, settings, rng)

        chosen = np.arange(len(descriptors))
        if len(chosen) > settings.image_sample:
            chosen = np.sort(rng.choice(chosen, settings.image_sample, replace=False))
        raw = np.stack(
            [_raw_vlad(descriptors[int(i)], local_mean, local_axes, words) for i in chosen]
        )
        image_mean = raw.mean(axis=0)
        # N images span N - 1 axes; the vector of a lone image is what its mean leaves: keep one.
        size = max(1, min(settings.size, len(raw) - 1))
        return cls(
            local_mean, local_axes, words, image_mean, _principal_axes(raw - image_mean, size)
        )

    def describe(self, descriptors: Descriptors) -> Float32Array:
        """The unit vector [D] of an image with local descriptors [K, D]; zeros without any."""
        if not len(descriptors):
            return np.zeros(self.size, np.float32)
        raw = _raw_vlad(descriptors, self.local_mean, self.local_axes, self.words)
        vector: Float32Array = self.image_axes @ (raw - self.image_mean)
        return _unit_row(vector)

    def to_arrays(self) -> dict[str, Float32Array]:
        """All that `from_arrays` needs, by attribute name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Vlad:
        """From what `to_arrays` gave (any float type).

        Raises:
            MappingError: an array is missing or of a wrong shape.
        """
        missing = [field.name for field in fields(cls) if field.name not in arrays]
        if missing:
            raise MappingError(f"no VLAD: {missing} missing among {sorted(arrays)}")
        return cls(**{field.name: arrays[field.name] for field in fields(cls)})


def _sample(
    descriptors: Sequence[Descriptors], count: int, rng: np.random.Generator
) -> Descriptors:
    """At most ``count`` descriptors [S, D], evenly from all images."""
    share = -(-count // max(1, len(descriptors)))
    picked = [
        rows if len(rows) <= share else rows[np.sort(rng.choice(len(rows), share, replace=False))]
        for rows in descriptors
    ]
    return np.concatenate(picked)


def _unit_rows(rows: Float32Array) -> Float32Array:
    norms = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    unit: Float32Array = rows / np.maximum(norms, 1e-12)[:, None]
    return unit


def _unit_row(row: Float32Array) -> Float32Array:
    unit: Float32Array = row / max(float(np.linalg.norm(row)), 1e-12)
    return unit


def _principal_axes(centred: Float32Array, size: int) -> Float32Array:
    """The ``size`` leading principal axes [size, D] of centred rows [N, D]."""
    rows = centred.astype(np.float64)
    if len(rows) >= rows.shape[1]:
        vectors = np.linalg.eigh(rows.T @ rows)[1].T[::-1]
    else:
        vectors = np.linalg.svd(rows, full_matrices=False)[2]
    return np.ascontiguousarray(vectors[:size], dtype=np.float32)


def _k_means(
    points: Float32Array, settings: VladSettings, rng: np.random.Generator
) -> Float32Array:
    """Cluster centres [W, L] of points [S, L]: Lloyd's iterations from a random choice."""
    centres = points[np.sort(rng.choice(len(points), settings.words, replace=False))]
    for _ in range(settings.iterations):
        member = _membership(points, centres)
        counts = member.sum(axis=0)
        # A centre that nobody chose stays where it is.
        sums = member.T @ points
        centres = np.where(
            counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], centres
        ).astype(np.float32)
    return np.ascontiguousarray(centres)


def _membership(points: Float32Array, centres: Float32Array) -> Float32Array:
    """[S, W] with a 1 at each point's nearest centre."""
    score = points @ centres.T - 0.5 * np.einsum("ij,ij->i", centres, centres)
    member: Float32Array = np.zeros_like(score)
    member[np.arange(len(points)), score.argmax(axis=1)] = 1
    return member


def _raw_vlad(
    descriptors: Descriptors,
    local_mean: Float32Array,
    local_axes: Float32Array,
    words: Float32Array,
) -> Float32Array:
    """The unit vector [W * L] before the final projection."""
    local = unit_descriptors(descriptors)
    local = local @ local_axes.T - local_axes @ local_mean
    member = _membership(local, words)
    residuals = member.T @ local - member.sum(axis=0)[:, None] * words
    rooted = np.sign(residuals) * np.sqrt(np.abs(residuals))
    return _unit_row(_unit_rows(rooted).ravel())
