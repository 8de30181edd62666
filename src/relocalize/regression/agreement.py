"""One pose from what all cells of a photo's images say, where some see what hides the place.

A cell that sees a person in the way is wrong, and may be sure of it. So the pose starts from the
one that most cells of the photo agree with (RANSAC), and is refined with every cell being right, as
far off as it expects to be, or wrong and anywhere: a mixture with a uniform part (as in Blake and
Isard, Active Contours, 1998, and MLESAC, Torr and Zisserman, CVIU 2000). How many cells agree with
it in the end says whether the photo shows the place at all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from typing_extensions import Self

from relocalize.absolute_pose.ransac import ransac_pose
from relocalize.geometry.transforms import FloatArray, rotations_from_rotvecs
from relocalize.regression.answers import Answers, Cells

_WRONG = 0.3  # share of cells that are, before anything is known of a photo
_WIDER = 2.0  # than cells expect are the errors of right ones; as in `pose_layer`, with heavy tails
_STEPS = 10
_DONE = 1e-6  # of a step: of the typical depth, in radians
_LEAST_DEPTH = 1e-3  # of the typical one


@dataclass(frozen=True)
class Agreement:
    """How far off cells are that see the place, and how many agree where none does."""

    error: float  # of half of the cells of validation images, in normalised image coordinates
    log_depth: float  # likewise, of the logarithm of depths
    supported: float = 1.0  # the share of cells that has to agree, and is enough by itself

    @classmethod
    def learn(cls, cells: Iterable[Cells], rays: FloatArray, world_from_cams: FloatArray) -> Self:
        """From the cells of each of V validation images and the images' true poses [V, 4, 4]."""
        off = [
            _off(one.scene[0], one.depth[0], rays, pose[:3, :3], pose[:3, 3])
            for one, pose in zip(cells, world_from_cams, strict=True)
        ]
        error, log_depth = np.median(np.concatenate(off, axis=1), axis=1)
        return cls(float(error), float(log_depth))


def answer_to_photo(
    found: Answers, turns: FloatArray | None, agreement: Agreement | None, rays: FloatArray
) -> Answers:
    """One answer from those to K images of one photo: by all their cells, or else their mean.

    Args:
        found: to the images.
        turns: [K, 3, 3] from the photo's camera axes to each image's, as for `Answers.averaged`.
        agreement: of cells; None where there are none, or nothing is known of it.
        rays: [C, 2] middles of an image's cells in normalised image coordinates.
    """
    mean, cells = replace(found.averaged(turns), cells=None), found.cells
    if agreement is None or cells is None or turns is None:
        return mean
    first = ransac_pose(rays, cells.scene[0].astype(np.float64), 1.0, max_error=agreement.error)
    if first is None:
        return replace(mean, support=np.zeros(1))
    pose = first.world_from_cam.matrix
    pose[:3, :3] = pose[:3, :3] @ turns[0]
    refined = _refined(pose, cells, turns, rays)
    if refined is None:
        return replace(mean, support=np.zeros(1))
    pose, covariance = refined
    off = [
        _off(scene, depth, rays, pose[:3, :3] @ turn.T, pose[:3, 3])
        for scene, depth, turn in zip(cells.scene, cells.depth, turns, strict=True)
    ]
    error, log_depth = np.concatenate(off, axis=1)
    agree = (error < agreement.error) & (log_depth < agreement.log_depth)
    # The shift is along the camera's axes, and asked for along those of the world.
    shift = ((pose[:3, :3] @ covariance[:3, :3]) * pose[:3, :3]).sum(axis=1)
    return replace(
        mean,
        world_from_cams=pose[None],
        variance=np.concatenate([shift, np.diag(covariance)[3:]])[None],
        support=np.array([agree.mean()]),
    )


def _off(
    scene: FloatArray, depth: FloatArray, rays: FloatArray, rotation: FloatArray, centre: FloatArray
) -> FloatArray:
    """[2, C]: how far from its cell each point projects, and how wrong the cell's depth is."""
    in_camera = (scene - centre) @ rotation
    ahead = in_camera[:, 2] > 0
    z = np.where(ahead, in_camera[:, 2], 1.0)
    error = np.linalg.norm(in_camera[:, :2] / z[:, None] - rays, axis=1)
    return np.where(ahead, np.stack([error, np.abs(np.log(depth / z))]), np.inf)


def _refined(
    pose: FloatArray, cells: Cells, turns: FloatArray, rays: FloatArray
) -> tuple[FloatArray, FloatArray] | None:
    """The likeliest pose [4, 4] near ``pose``, and its covariance [6, 6]; None where there is none.

    The covariance is of (shift, turn) along and about the camera's own axes.
    """
    scene = cells.scene.reshape(-1, 3).astype(np.float64)
    doubt = np.exp(2 * cells.log_doubt.astype(np.float64)).ravel()  # squared
    typical = float(np.median(cells.depth))
    rays, image = np.tile(rays, (len(turns), 1)), np.repeat(np.arange(len(turns)), len(rays))
    # Of a wrong cell that is anywhere in the image, over a right one where it should be.
    odds = _WRONG / (1 - _WRONG) * 2 * np.pi * _WIDER**2 * doubt / np.ptp(rays, axis=0).prod()
    rotation, centre = pose[:3, :3].copy(), pose[:3, 3].copy()
    for _ in range(_STEPS):
        from_image = rotation @ turns.transpose(0, 2, 1)
        in_image = np.einsum("ni,nij->nj", scene - centre, from_image[image])
        z = np.maximum(in_image[:, 2], _LEAST_DEPTH * typical)
        u, v = in_image[:, 0] / z, in_image[:, 1] / z
        off = np.stack([u, v], axis=1) - rays
        relative = (off**2).sum(axis=1) / (_WIDER**2 * doubt)
        wrong = odds * np.exp(np.minimum(relative / 2, 100.0))
        weight = (in_image[:, 2] >= z) / (doubt * (1 + relative) * (1 + wrong))
        none, one = np.zeros_like(z), np.ones_like(z)
        jacobian = np.stack(
            [
                np.stack([-one / z, none, u / z, u * v, -(1 + u * u), v], axis=1),
                np.stack([none, -one / z, v / z, 1 + v * v, -u * v, -u], axis=1),
            ],
            axis=1,
        )
        # From each image's own axes to the photo's.
        turn = turns[image]
        jacobian = np.concatenate([jacobian[:, :, :3] @ turn, jacobian[:, :, 3:] @ turn], axis=2)
        rows = jacobian.reshape(-1, 6)
        weighted = rows * np.repeat(weight, 2)[:, None]
        try:
            covariance = np.linalg.inv(weighted.T @ rows)
        except np.linalg.LinAlgError:
            return None
        step = -covariance @ (weighted.T @ off.ravel())
        if not np.isfinite(step).all():
            return None
        centre = centre + rotation @ step[:3]
        rotation = rotation @ rotations_from_rotvecs(step[None, 3:])[0]
        if np.abs(step / ([typical] * 3 + [1.0] * 3)).max() < _DONE:
            break
    if not (np.diag(covariance) > 0).all():  # the cells leave a direction open
        return None
    refined = np.eye(4)
    refined[:3, :3], refined[:3, 3] = rotation, centre
    return refined, covariance
