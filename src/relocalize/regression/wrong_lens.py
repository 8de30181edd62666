"""What a photo tells of its focal length, where it is unknown: things look too near or too far.

Through a lens that is taken for longer than it is, what an image shows seems larger: cells say
that it is nearer than it is from the pose that follows. By how much is learnt on validation
images, through lenses that are taken for others than they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from relocalize.geometry.transforms import FloatArray

# Logarithms of focal lengths that are assumed over right ones, for which it is learnt: to 0.7 and
# 1.43 times.
RATIOS: FloatArray = np.linspace(-0.36, 0.36, 9)
_LEAST_SIGMA = 0.01  # of few images that are alike by chance
_LEAST_SLOPE = 0.1  # where depths tell next to nothing of the lens
_DEVIATION = 1.4826  # from a median absolute deviation to a Gaussian's sigma


@dataclass(frozen=True)
class WrongLens:
    """`Answers.depth_off` of photos whose focal length is taken for another, at `RATIOS`.

    By default what two trainings learnt, for regressors that have not.
    """

    depth_off: tuple[float, ...] = (0.11, 0.08, 0.055, 0.025, -0.015, -0.04, -0.08, -0.13, -0.19)
    sigma: tuple[float, ...] = (0.03,) * len(RATIOS)

    @classmethod
    def learn(cls, depth_off: FloatArray) -> WrongLens:
        """From that of V photos at all ratios [V, R]."""
        middle = np.median(depth_off, axis=0)
        sigma = _DEVIATION * np.median(np.abs(depth_off - middle), axis=0)
        return cls(tuple(middle.tolist()), tuple(np.maximum(sigma, _LEAST_SIGMA).tolist()))

    @property
    def focal_sigma(self) -> float:
        """Of the logarithm of a focal length that one photo tells."""
        middle = len(RATIOS) // 2
        rise = self.depth_off[middle + 1] - self.depth_off[middle - 1]
        slope = rise / (RATIOS[middle + 1] - RATIOS[middle - 1])
        return float(self.sigma[middle] / max(abs(slope), _LEAST_SLOPE))

    def unlikely(
        self, depth_off: FloatArray, assumed: FloatArray, focals: FloatArray
    ) -> FloatArray:
        """How unlikely each of F focal lengths is of a photo, up to a constant.

        Args:
            depth_off: [G] through G assumed focal lengths.
            assumed: [G] those, in any unit.
            focals: [F] in the same unit.

        Returns:
            [F] the mean negative log likelihood of what the assumed ones in reach of each tell.
        """
        ratios = np.log(assumed / focals[:, None])
        sigma = np.interp(ratios, RATIOS, self.sigma)
        off = (depth_off - np.interp(ratios, RATIOS, self.depth_off)) / sigma
        reached = np.abs(ratios) <= RATIOS[-1]
        mean: FloatArray = np.average(off**2 / 2 + np.log(sigma), axis=1, weights=reached)
        return mean
