"""The camera pose that scene coordinates imply, as layers of a network.

A head that says of each cell of the image where in the place it looks (its scene coordinate)
has said the pose too: the one from which those points project to those cells. It is found in two
steps, without a branch, so that it can be trained through and exported: the weighted rigid
alignment of the points with what the cells think of their depth (Horn, Closed-form solution of
absolute orientation, JOSA 1987), then Gauss-Newton on the projections with Cauchy weights.
Everything is in float32, and only of operators that ONNX has.
"""

from __future__ import annotations

import torch
from torch import Tensor

from relocalize.regression.rotations import matrix_from_quaternion

# A cell's weight falls to a half where its residual is so many times what it expects.
_CAUCHY = 2.0
_SOFT_STEPS = 2  # before the last step this tolerance is twice, before that four times as wide
_LEAST_DEPTH = 0.02  # of a typical depth: what is nearer, or behind, does not count
_SQUARINGS = 10  # of the power iteration: eigenvalues 1% apart are told apart
_DAMPING = 1e-5  # share of the diagonal, for images that leave a direction open
_LEAST_NORMAL = 1e-12  # and for those that leave all of them open


def aligned(scene: Tensor, in_camera: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """The rigid motion that takes points in camera axes to points of the scene.

    Args:
        scene: [B, N, 3] points of the place.
        in_camera: [B, N, 3] the same points in camera axes.
        weights: [B, N] of the points, above 0.

    Returns:
        rotation [B, 3, 3] and centre [B, 3], world_from_cam, with the least weighted squares.
    """
    share = (weights / weights.sum(1, keepdim=True))[..., None]
    scene_middle = (share * scene).sum(1, keepdim=True)
    camera_middle = (share * in_camera).sum(1, keepdim=True)
    M = (share * (in_camera - camera_middle)).transpose(1, 2) @ (scene - scene_middle)
    rotation = matrix_from_quaternion(_leading(_horn(M)))
    centre = scene_middle[:, 0] - (rotation @ camera_middle[:, 0, :, None])[..., 0]
    return rotation, centre


def refined_pose(
    rotation: Tensor,
    centre: Tensor,
    scene: Tensor,
    rays: Tensor,
    doubts: Tensor,
    depth: Tensor,
    *,
    steps: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """The pose from which points of the scene project to cells.

    Args:
        rotation: [B, 3, 3] world_from_cam to begin at.
        centre: [B, 3] likewise.
        scene: [B, N, 3] points of the place.
        rays: [N, 2] where the cells are, in normalised image coordinates.
        doubts: [B, N] what each cell expects of its residual, in these.
        depth: [] or [B, 1] that is typical, in the unit of the points.
        steps: of Gauss-Newton.

    Returns:
        rotation [B, 3, 3], centre [B, 3], and covariance [B, 6, 6] of (shift, turn) along and about
        the camera's axes, as the doubts make it, with which the last step was made.
    """
    covariance = torch.eye(6).to(centre).expand(len(centre), 6, 6)
    for step_number in range(steps):
        # At a rough start all cells are off by much; only the last steps tell good from bad.
        softness = _CAUCHY * 2.0 ** min(_SOFT_STEPS, steps - 1 - step_number)
        # Rows of the transposed rotation: world axes to camera axes.
        in_camera = (scene - centre[:, None]) @ rotation
        z = torch.maximum(in_camera[..., 2], _LEAST_DEPTH * depth)
        before = (in_camera[..., 2] >= z).to(z)
        u, v = in_camera[..., 0] / z, in_camera[..., 1] / z
        off = torch.stack((u - rays[:, 0], v - rays[:, 1]), -1)
        relative = off.square().sum(-1) / doubts.square()
        weights = before / (doubts.square() * (1.0 + relative / softness**2))
        jacobian = _jacobian(u, v, z)
        weighted = weights[..., None, None] * jacobian
        # [B, 2 N, 6]: both numbers of all cells below each other.
        rows, weighted_rows = jacobian.flatten(1, 2), weighted.flatten(1, 2)
        normal = weighted_rows.transpose(1, 2) @ rows
        gradient = weighted_rows.transpose(1, 2) @ off.flatten(1)[..., None]
        covariance = _inverse(normal)
        step = -(covariance @ gradient)[..., 0]
        centre = centre + (rotation @ step[:, :3, None])[..., 0]
        rotation = rotation @ _turn(step[:, 3:])
    return rotation, centre, covariance


def _jacobian(u: Tensor, v: Tensor, z: Tensor) -> Tensor:
    """[B, N, 2, 6] of projections (u, v) at depth z by the camera's own (shift, turn)."""
    none = torch.zeros_like(z)
    across = (-1 / z, none, u / z, u * v, -(1 + u * u), v)
    down = (none, -1 / z, v / z, 1 + v * v, -u * v, -u)
    return torch.stack((torch.stack(across, -1), torch.stack(down, -1)), -2)


def _turn(vector: Tensor) -> Tensor:
    """Rotations [B, 3, 3] of rotation vectors [B, 3], exact to their third power."""
    quaternion = torch.cat((torch.ones_like(vector[:, :1]), vector / 2), 1)
    return matrix_from_quaternion(quaternion)


def _horn(M: Tensor) -> Tensor:
    """[B, 4, 4], whose leading eigenvector is the quaternion; M [B, 3, 3] sums from (x) to."""
    xx, xy, xz, yx, yy, yz, zx, zy, zz = M.flatten(1).unbind(1)
    rows = (
        torch.stack((xx + yy + zz, yz - zy, zx - xz, xy - yx), 1),
        torch.stack((yz - zy, xx - yy - zz, xy + yx, zx + xz), 1),
        torch.stack((zx - xz, xy + yx, yy - xx - zz, yz + zy), 1),
        torch.stack((xy - yx, zx + xz, yz + zy, zz - xx - yy), 1),
    )
    return torch.stack(rows, 1)


def _leading(matrix: Tensor) -> Tensor:
    """The eigenvector [B, 4] of the largest eigenvalue of symmetric matrices [B, 4, 4]."""
    size = matrix.square().sum((1, 2), keepdim=True).sqrt() + 1e-12
    # No eigenvalue is below minus the size, so that the largest is the largest in magnitude.
    power = matrix / size + torch.eye(4).to(matrix)
    for _ in range(_SQUARINGS):
        power = power @ power
        power = power / power.square().sum((1, 2), keepdim=True).sqrt()
    # All columns are multiples of it; that of the largest diagonal is no tiny one.
    diagonal = torch.diagonal(power, dim1=1, dim2=2)
    best = diagonal.argmax(1)[:, None, None].expand(-1, 4, 1)
    return power.gather(2, best)[..., 0]


def _inverse(matrix: Tensor) -> Tensor:
    """Inverses of positive matrices [B, n, n], damped, by Gauss and Jordan without pivoting."""
    count = matrix.shape[-1]
    # Scaled to a diagonal of 1: shifts and turns have different units.
    scale = torch.diagonal(matrix, dim1=1, dim2=2).clamp(min=_LEAST_NORMAL).rsqrt()
    one = torch.eye(count).to(matrix)
    scaled = matrix * scale[:, :, None] * scale[:, None, :] + _DAMPING * one
    rows = torch.cat((scaled, one.expand_as(matrix)), 2)
    for pivot in range(count):
        row = rows[:, pivot : pivot + 1] / rows[:, pivot : pivot + 1, pivot : pivot + 1]
        others = rows[:, :, pivot : pivot + 1].clone()
        others[:, pivot] = 0.0
        is_pivot = (torch.arange(count) == pivot)[None, :, None].to(matrix.device)
        rows = torch.where(is_pivot, row, rows - others * row)
    return rows[:, :, count:] * scale[:, :, None] * scale[:, None, :]
