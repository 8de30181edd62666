"""Errors taken apart: along the truth's axes, and about gravity.

The rotation from the true to the estimated camera is one rotation vector; its components about
the vertical, about the true camera's horizontal right, and about the horizontal that is ahead are
heading, pitch and roll errors. Their squares add up to the square of the whole, and for a level
camera they are what the words say: it looks too far to one side, too high, or the image is
crooked. (Differences of heading angles would be huge for a camera that looks at the floor.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from relocalize.evaluation.metrics import PoseErrors, finite, median
from relocalize.geometry import Rigid3
from relocalize.geometry.transforms import FloatArray

_NEARLY_VERTICAL = 1e-6  # sine of the angle from the vertical at which a direction has no heading


@dataclass(frozen=True, eq=False)
class ErrorAxes:
    """The signed parts of N errors; infinite of failures.

    Attributes:
        offset: [N, 3] along the truth's x, y and z.
        heading_deg: [N] about the vertical, anticlockwise from above.
        pitch_deg: [N] about the true camera's horizontal right; positive looks too high.
        roll_deg: [N] about the horizontal ahead; positive is a camera turned clockwise.
    """

    offset: FloatArray
    heading_deg: FloatArray
    pitch_deg: FloatArray
    roll_deg: FloatArray

    @classmethod
    def of(cls, errors: PoseErrors, true: Sequence[Rigid3], up: FloatArray) -> ErrorAxes:
        """Take errors apart.

        Args:
            errors: of N images.
            true: their N poses ``world_from_cam``.
            up: [3] against gravity, in the same world.
        """
        up = up / np.linalg.norm(up)
        ahead = np.array([_horizontal_ahead(pose, up) for pose in true]).reshape(-1, 3)
        right = np.cross(ahead, up)
        turn = np.where(errors.failed[:, None], 0, errors.turn_deg)

        def about(axis: FloatArray) -> FloatArray:
            return np.where(errors.failed, np.inf, (turn * axis).sum(axis=1))

        return cls(
            errors.offset, about(np.broadcast_to(up, ahead.shape)), about(right), about(ahead)
        )

    def medians(self) -> dict[str, float | None]:
        """Medians of the sizes, failures as infinite, as strict JSON values."""
        parts = {
            **{f"median_{name}": self.offset[:, axis] for axis, name in enumerate("xyz")},
            "median_heading_deg": self.heading_deg,
            "median_pitch_deg": self.pitch_deg,
            "median_roll_deg": self.roll_deg,
        }
        return {name: finite(median(np.abs(values))) for name, values in parts.items()}

    def to_json(self, row: int) -> dict[str, list[float] | float | None]:
        """The parts of one image's error as strict JSON values, None of a failure."""
        whole = bool(np.isfinite(self.offset[row]).all())
        return {
            "position_error_xyz": self.offset[row].tolist() if whole else None,
            "heading_error_deg": finite(self.heading_deg[row]),
            "pitch_error_deg": finite(self.pitch_deg[row]),
            "roll_error_deg": finite(self.roll_deg[row]),
        }


def _horizontal_ahead(pose: Rigid3, up: FloatArray) -> FloatArray:
    """The horizontal unit vector [3] that a camera looks along.

    Of one that looks straight up or down: where the image's lower or upper edge points.
    """
    looks, down = pose.rotation[:, 2], pose.rotation[:, 1]
    for direction in (looks, -down * np.sign(-(looks @ up))):
        level = direction - (direction @ up) * up
        size = float(np.linalg.norm(level))
        if size > _NEARLY_VERTICAL:
            break
    result: FloatArray = level / size
    return result
