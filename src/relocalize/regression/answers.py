"""Answers to images: poses with their spread, and one answer from several images of a photo."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from relocalize.geometry.transforms import FloatArray, nearest_rotation, rotvec_from_rotation

Float32Array = NDArray[np.float32]

SHOWN = "shown"  # what an image shows of each cell, among feature maps and a network's outputs

_LEAST_VARIANCE = 1e-18
_LEAST_DEPTH = 1e-38  # a point behind the camera is infinitely nearer than its cell says
_PARTS = (slice(0, 3), slice(3, 6))  # of variances: the centre's and the rotation vector's


@dataclass(frozen=True, eq=False)
class Answers:
    """Answers to N images."""

    world_from_cams: FloatArray  # [N, 4, 4]
    # [N, 6] predicted and sampled variances added, of the centre (world axes, the Place's unit) and
    # the rotation vector (camera axes, radians); None without either
    variance: FloatArray | None
    descriptions: Float32Array  # [N, D] of what the network saw, for `KnownViews`
    # [N] logarithm of how many times as far away things look as they are from there, by cells that
    # are sure: not 0 for a wrong focal length. None where no cells say depths.
    depth_off: FloatArray | None = None
    # [N, K] the share of each of K parts of its input that an image shows; None: all of it
    shown: Float32Array | None = None
    cells: Cells | None = None  # what the cells of each image say; None where there are none
    support: FloatArray | None = None  # [N] the share of cells that agree, as `Agreement` says

    def averaged(self, turns: FloatArray | None = None) -> Answers:
        """One answer from those to K images of one photo, the first of them the photo itself.

        Those that are sure count more, by their predicted variances. The variance is the mean one
        and what they differ by: they err alike, so that it does not fall with their number.

        Args:
            turns: [K, 3, 3] from the photo's camera axes to each image's; None for crops whose
                poses are taken for the photo's (PoseNet, ICCV 2015, section 3.1).
        """
        positions, rotations = self.world_from_cams[:, :3, 3], self.world_from_cams[:, :3, :3]
        if turns is not None:
            rotations = rotations @ turns
        if len(positions) == 1:
            pose = self.world_from_cams.copy()
            pose[:, :3, :3] = rotations
            return replace(self, world_from_cams=pose)
        variance = np.zeros((len(positions), 6)) if self.variance is None else self.variance
        # Equal where nothing is predicted.
        of_position, of_rotation = (
            1 / (variance[:, columns].mean(axis=1) + _LEAST_VARIANCE) for columns in _PARTS
        )
        mean = np.eye(4)
        mean[:3, 3] = np.average(positions, axis=0, weights=of_position)
        # The mean of chordal distances, which is that of quaternions (Markley et al., Averaging
        # quaternions, JGCD 2007).
        middle = nearest_rotation(np.average(rotations, axis=0, weights=of_rotation))
        mean[:3, :3] = middle
        turned = np.stack([rotvec_from_rotation(middle.T @ rotation) for rotation in rotations])
        off = np.hstack([positions - mean[:3, 3], turned])
        spread = variance + off**2
        variances = [
            np.average(spread[:, columns], axis=0, weights=weights)
            for columns, weights in zip(_PARTS, (of_position, of_rotation), strict=True)
        ]
        described = self.descriptions
        described = described.mean(axis=0, keepdims=True) if turns is None else described[:1]
        depth_off = None if self.depth_off is None else self.depth_off[:1]
        shown = None if self.shown is None else self.shown[:1]
        return Answers(mean[None], np.concatenate(variances)[None], described, depth_off, shown)

    @classmethod
    def joined(cls, parts: Iterable[Answers]) -> Answers:
        """Those of several groups of images, one after the other."""
        parts = list(parts)
        variances = [part.variance for part in parts if part.variance is not None]
        depths = [part.depth_off for part in parts if part.depth_off is not None]
        shown = [part.shown for part in parts if part.shown is not None]
        cells = [part.cells for part in parts if part.cells is not None]
        support = [part.support for part in parts if part.support is not None]
        return cls(
            np.concatenate([part.world_from_cams for part in parts]),
            np.concatenate(variances) if variances else None,
            np.concatenate([part.descriptions for part in parts]),
            np.concatenate(depths) if depths else None,
            np.concatenate(shown) if shown else None,
            Cells.joined(cells) if cells else None,
            np.concatenate(support) if support else None,
        )


class Network(Protocol):
    """A trained network, whatever runs it."""

    def __call__(self, pixels: NDArray[np.uint8]) -> Answers:
        """The answers to images [N, h, w, 3] RGB of its input size."""
        ...


@dataclass(frozen=True, eq=False)
class Cells:
    """What the cells of N images say, in the Place's unit."""

    scene: Float32Array  # [N, C, 3] points of the place that they see
    depth: Float32Array  # [N, C] how far before the camera
    log_doubt: Float32Array  # [N, C] logarithms of what they expect their residual to be

    @classmethod
    def joined(cls, parts: Sequence[Cells]) -> Cells:
        """Those of several groups of images, one after the other."""
        return cls(
            np.concatenate([part.scene for part in parts]),
            np.concatenate([part.depth for part in parts]),
            np.concatenate([part.log_doubt for part in parts]),
        )

    def depth_off(self, world_from_cams: FloatArray) -> FloatArray:
        """[N] weighted medians over cells, as `Answers.depth_off`, from poses [N, 4, 4]."""
        off = self.scene - world_from_cams[:, None, :3, 3]
        depth = (off @ world_from_cams[:, :3, :3])[..., 2]
        off = np.log(self.depth.astype(np.float64)) - np.log(np.maximum(depth, _LEAST_DEPTH))
        order = off.argsort(axis=1, kind="stable")
        weight = np.exp(-2 * self.log_doubt.astype(np.float64))
        weight = np.take_along_axis(weight, order, axis=1).cumsum(axis=1)
        middle = (weight < weight[:, -1:] / 2).sum(axis=1, keepdims=True)
        found: FloatArray = np.take_along_axis(
            np.take_along_axis(off, order, axis=1), middle, axis=1
        )[:, 0]
        return found
