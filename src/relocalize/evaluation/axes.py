"""Errors taken apart, along the truth's axes and about gravity; which way is up there.

The rotation from the true to the estimated camera is one rotation vector; its components about
the vertical, about the true camera's horizontal right, and about the horizontal that is ahead are
heading, pitch and roll errors. Their squares add up to the square of the whole, and for a level
camera they are what the words say: it looks too far to one side, too high, or the image is
crooked. (Differences of heading angles would be huge for a camera that looks at the floor.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from relocalize.evaluation.metrics import PoseErrors
from relocalize.geometry import Rigid3
from relocalize.geometry.transforms import FloatArray
from relocalize.place import Frame

_NEARLY_VERTICAL = 1e-6  # sine of the angle from the vertical at which a direction has no heading
_LEAST = 1e-6  # of the mean of unit vectors: below it they point everywhere


@dataclass(frozen=True, eq=False)
class Up:
    """The direction against gravity."""

    direction: FloatArray  # [3] unit vector
    source: str  # what says so, for people

    @classmethod
    def of(cls, frame: Frame | None, world_from_cam: Sequence[Rigid3]) -> Up:
        """Z where the frame is known to have it up, else the mean of the images' up directions.

        People hold cameras upright, by and large.
        """
        z = np.array([0.0, 0.0, 1.0])
        if frame is not None and frame.up == "z":
            return cls(z, frame.up_from or "the map's z axis")
        mean = -np.mean([pose.rotation[:, 1] for pose in world_from_cam], axis=0)
        size = float(np.linalg.norm(mean))
        if size < _LEAST:
            return cls(z, "nothing: taken to be the z axis")
        return cls(mean / size, "the mean of the images' up directions")


@dataclass(frozen=True, eq=False)
class ErrorAxes:
    """The signed parts of N errors; infinite of failures."""

    offset: FloatArray  # [N, 3] along the truth's x, y and z
    heading_deg: FloatArray  # [N] about the vertical, anticlockwise from above
    pitch_deg: FloatArray  # [N] about the true camera's horizontal right; positive looks too high
    roll_deg: FloatArray  # [N] about the horizontal ahead; positive is a camera turned clockwise

    @classmethod
    def of(cls, errors: PoseErrors, true: Sequence[Rigid3], up: FloatArray) -> ErrorAxes:
        """Take apart the errors of N images with ``true`` poses ``world_from_cam``, by up [3]."""
        up = up / np.linalg.norm(up)
        ahead = np.array([_horizontal_ahead(pose, up) for pose in true]).reshape(-1, 3)
        right = np.cross(ahead, up)
        turn = np.where(errors.failed[:, None], 0, errors.turn_deg)

        def about(axis: FloatArray) -> FloatArray:
            return np.where(errors.failed, np.inf, (turn * axis).sum(axis=1))

        return cls(
            errors.offset, about(np.broadcast_to(up, ahead.shape)), about(right), about(ahead)
        )

    def medians(self) -> dict[str, float]:
        """Medians of the sizes, failures as infinite, as result files name them."""
        parts = {
            **{f"median_{name}": self.offset[:, axis] for axis, name in enumerate("xyz")},
            "median_heading_deg": self.heading_deg,
            "median_pitch_deg": self.pitch_deg,
            "median_roll_deg": self.roll_deg,
        }
        return {name: float(np.median(np.abs(values))) for name, values in parts.items()}

    def of_image(self, row: int) -> dict[str, Any]:
        """The parts of one image's error, as result files name them."""
        offset = self.offset[row]
        return {
            "position_error_xyz": offset if np.isfinite(offset).all() else None,
            "heading_error_deg": self.heading_deg[row],
            "pitch_error_deg": self.pitch_deg[row],
            "roll_error_deg": self.roll_deg[row],
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
