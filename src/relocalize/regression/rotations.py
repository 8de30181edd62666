"""Rotations in torch, in the forms that networks regress, with gradients that stay finite.

Matrices are [..., 3, 3]; quaternions [..., 4] are w first; a logarithm of a quaternion [..., 3] is
half the rotation vector, ``axis * angle / 2`` (MapNet, Brahmbhatt et al., CVPR 2018, section 3.2);
the 6D form [..., 6] is the first two columns of the matrix, one after the other (Zhou et al., On
the continuity of rotation representations, CVPR 2019, equations 15 and 16). A quaternion and its
negative are one rotation; whatever is compared here picks the nearer of the two.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

_TINY = 1e-12  # of squared lengths: far below the square of float32's resolution of 1


def _safe_length(vector: Tensor) -> Tensor:
    """The length [..., 1], whose gradient at 0 is 0 where `norm`'s is not a number."""
    return (vector.square().sum(-1, keepdim=True) + _TINY**2).sqrt()


def matrix_from_quaternion(quat_wxyz: Tensor) -> Tensor:
    """Rotation matrices [..., 3, 3] of quaternions [..., 4] of any length but 0."""
    unit = functional.normalize(quat_wxyz, dim=-1, eps=_TINY)
    w, x, y, z = unit.unbind(-1)
    rows = (
        torch.stack((1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)), -1),
        torch.stack((2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)), -1),
        torch.stack((2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)), -1),
    )
    return torch.stack(rows, -2)


def quaternion_from_matrix(matrix: Tensor) -> Tensor:
    """Unit quaternions [..., 4], w >= 0, of rotation matrices [..., 3, 3].

    Of the four ways to read a quaternion off a matrix, each divides by one of its numbers; the
    largest of them is at least 1/2, so the division is always safe (Shepperd, Quaternion from
    rotation matrix, 1978).
    """
    m = matrix
    xx, yy, zz = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    squares = torch.stack(
        (1 + xx + yy + zz, 1 + xx - yy - zz, 1 - xx + yy - zz, 1 - xx - yy + zz), -1
    )
    wx, wy, wz = (
        m[..., 2, 1] - m[..., 1, 2],
        m[..., 0, 2] - m[..., 2, 0],
        m[..., 1, 0] - m[..., 0, 1],
    )
    xy, xz, yz = (
        m[..., 1, 0] + m[..., 0, 1],
        m[..., 0, 2] + m[..., 2, 0],
        m[..., 2, 1] + m[..., 1, 2],
    )
    # Row i is the quaternion times 4 of its i-th number.
    candidates = torch.stack(
        (
            torch.stack((squares[..., 0], wx, wy, wz), -1),
            torch.stack((wx, squares[..., 1], xy, xz), -1),
            torch.stack((wy, xy, squares[..., 2], yz), -1),
            torch.stack((wz, xz, yz, squares[..., 3]), -1),
        ),
        -2,
    )
    best = squares.argmax(-1)[..., None, None].expand(*squares.shape[:-1], 1, 4)
    quat = functional.normalize(candidates.gather(-2, best).squeeze(-2), dim=-1)
    return upper(quat)


def upper(quat_wxyz: Tensor) -> Tensor:
    """Of each quaternion and its negative [..., 4] the one with w >= 0."""
    return torch.where(quat_wxyz[..., :1] < 0, -quat_wxyz, quat_wxyz)


def nearer(quat_wxyz: Tensor, to: Tensor) -> Tensor:
    """Of each quaternion and its negative [..., 4] the one nearer to ``to`` [..., 4]."""
    return torch.where((quat_wxyz * to).sum(-1, keepdim=True) < 0, -quat_wxyz, quat_wxyz)


def log_from_quaternion(quat_wxyz: Tensor) -> Tensor:
    """Logarithms [..., 3], of length 0 to pi / 2, of quaternions [..., 4] of any length but 0."""
    unit = upper(functional.normalize(quat_wxyz, dim=-1, eps=_TINY))
    vector = unit[..., 1:]
    length = _safe_length(vector)
    return vector * (torch.atan2(length, unit[..., :1]) / length)


def quaternion_from_log(log: Tensor) -> Tensor:
    """Unit quaternions [..., 4] of logarithms [..., 3] of any length."""
    half_angle = _safe_length(log)
    return torch.cat((half_angle.cos(), log * (half_angle.sin() / half_angle)), -1)


def nearer_log(log: Tensor, to: Tensor) -> Tensor:
    """Of the logarithms of one rotation [..., 3] the nearer to ``to`` [..., 3].

    Beside ``log`` of length h that is the one of length pi - h in the opposite direction.
    """
    length = _safe_length(log)
    other = log - log * (torch.pi / length)
    far = (log - to).square().sum(-1, keepdim=True) > (other - to).square().sum(-1, keepdim=True)
    # At no rotation at all every direction is as good, and the other one has none.
    return torch.where(far & (length > 1e-6), other, log)


def matrix_from_log(log: Tensor) -> Tensor:
    """Rotation matrices [..., 3, 3] of logarithms of quaternions [..., 3]."""
    return matrix_from_quaternion(quaternion_from_log(log))


def log_from_matrix(matrix: Tensor) -> Tensor:
    """Logarithms of quaternions [..., 3] of rotation matrices [..., 3, 3]."""
    return log_from_quaternion(quaternion_from_matrix(matrix))


def matrix_from_6d(columns: Tensor) -> Tensor:
    """Rotation matrices [..., 3, 3] of any six numbers [..., 6], by Gram and Schmidt.

    Two columns that are zero or parallel determine no rotation; what comes out is finite then.
    """
    first = functional.normalize(columns[..., :3], dim=-1, eps=_TINY)
    second = columns[..., 3:] - (first * columns[..., 3:]).sum(-1, keepdim=True) * first
    second = functional.normalize(second, dim=-1, eps=_TINY)
    return torch.stack((first, second, torch.linalg.cross(first, second)), -1)


def nearest_rotation(matrices: Tensor) -> Tensor:
    """The rotations [..., 3, 3] nearest to matrices, in float64 on the processor.

    On the processor, because not every device has float64.
    """
    u, _, vt = torch.linalg.svd(matrices.detach().cpu().double())
    signs = torch.ones_like(u[..., 0])
    signs[..., 2] = torch.linalg.det(u @ vt).sign()
    nearest: Tensor = (u * signs[..., None, :]) @ vt
    return nearest


def columns_from_matrix(matrix: Tensor) -> Tensor:
    """The 6D form [..., 6] of rotation matrices [..., 3, 3]."""
    return torch.cat((matrix[..., :, 0], matrix[..., :, 1]), -1)
