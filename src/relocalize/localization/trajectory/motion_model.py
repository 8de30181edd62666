"""A camera whose acceleration is white noise: what that says of neighbouring states.

The state of a frame is (centre in the world [3], rotation, velocity in the world [3], angular
velocity in the camera's axes [3]); its errors are ordered centre, rotation (a rotation vector in
the camera's axes, applied on the right), velocity, angular velocity: 12 numbers.

Source: the white-noise-on-acceleration prior of continuous-time estimation (Barfoot, Tong,
Sarkka, "Batch Continuous-Time Trajectory Estimation as Exactly Sparse Gaussian Process
Regression", RSS 2014), here with centre and rotation apart, as the covariances of localizers are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from relocalize.geometry.transforms import FloatArray, skew

POSITION, ROTATION, VELOCITY, TURNING = slice(0, 3), slice(3, 6), slice(6, 9), slice(9, 12)
STATE = 12


@dataclass(frozen=True)
class MotionNoise:
    """How hard a camera is shaken: power spectral densities of its accelerations."""

    position: float  # unit^2 / s^3
    rotation: float  # rad^2 / s^3


@dataclass(frozen=True, eq=False)
class States:
    """The states of N frames."""

    centres: FloatArray  # [N, 3]
    rotations: Rotation  # N of them, world_from_cam
    velocities: FloatArray  # [N, 3] in the world, unit / s
    turnings: FloatArray  # [N, 3] in the camera's axes, rad / s

    def moved(self, step: FloatArray) -> States:
        """The states changed by errors ``step`` [N, 12]."""
        return States(
            self.centres + step[:, POSITION],
            self.rotations * Rotation.from_rotvec(step[:, ROTATION]),
            self.velocities + step[:, VELOCITY],
            self.turnings + step[:, TURNING],
        )


@dataclass(frozen=True, eq=False)
class Linearized:
    """Residuals of M steps from one frame to the next, linear in both states' errors."""

    residuals: FloatArray  # [M, 12]
    by_first: FloatArray  # [M, 12, 12] their derivative by the first state's error
    by_second: FloatArray  # [M, 12, 12] by the second's


def steps(states: States, seconds: FloatArray) -> Linearized:
    """What the states of neighbouring frames contradict of unaccelerated motion.

    Args:
        states: of N frames.
        seconds: [N - 1] from each to the next.
    """
    count = len(seconds)
    turned = (states.rotations[:-1].inv() * states.rotations[1:]).as_rotvec().reshape(-1, 3)
    residuals = np.empty((count, STATE))
    residuals[:, POSITION] = np.diff(states.centres, axis=0) - (
        seconds[:, None] * states.velocities[:-1]
    )
    residuals[:, ROTATION] = turned - seconds[:, None] * states.turnings[:-1]
    residuals[:, VELOCITY] = np.diff(states.velocities, axis=0)
    residuals[:, TURNING] = np.diff(states.turnings, axis=0)
    eye, time = np.eye(3), seconds[:, None, None] * np.eye(3)
    first, second = np.zeros((count, STATE, STATE)), np.zeros((count, STATE, STATE))
    first[:, POSITION, POSITION], second[:, POSITION, POSITION] = -eye, eye
    first[:, POSITION, VELOCITY] = -time
    right = right_jacobian_inverse(turned)
    # The left Jacobian of a rotation vector is the right one of its negative.
    first[:, ROTATION, ROTATION] = -right_jacobian_inverse(-turned)
    second[:, ROTATION, ROTATION] = right
    first[:, ROTATION, TURNING] = -time
    first[:, VELOCITY, VELOCITY], second[:, VELOCITY, VELOCITY] = -eye, eye
    first[:, TURNING, TURNING], second[:, TURNING, TURNING] = -eye, eye
    return Linearized(residuals, first, second)


def step_information(noise: MotionNoise, seconds: FloatArray) -> tuple[FloatArray, float]:
    """The inverse covariances [M, 12, 12] of `steps`, and the sum of their log determinants."""
    t = seconds
    # The inverse of q [[t^3/3, t^2/2], [t^2/2, t]], whose determinant is q^2 t^4 / 12.
    near, both, far = 12 / t**3, -6 / t**2, 4 / t
    information = np.zeros((len(t), STATE, STATE))
    log_determinant = 0.0
    pairs = ((noise.position, POSITION, VELOCITY), (noise.rotation, ROTATION, TURNING))
    for density, place, rate in pairs:
        eye = np.eye(3)[None] / density
        information[:, place, place] = near[:, None, None] * eye
        information[:, place, rate] = both[:, None, None] * eye
        information[:, rate, place] = both[:, None, None] * eye
        information[:, rate, rate] = far[:, None, None] * eye
        log_determinant += 3 * float(np.log(12 / (density**2 * t**4)).sum())
    return information, log_determinant


def right_jacobian_inverse(rotvec: FloatArray) -> FloatArray:
    """[N, 3, 3] with Log(exp(v) exp(d)) = v + J d, to the second order in v [N, 3].

    Source: Solà, Deray, Atchuthan, "A micro Lie theory for state estimation in robotics", 2018,
    equation 144 as a series.
    """
    cross = skew(rotvec)
    series: FloatArray = np.eye(3) + cross / 2 + cross @ cross / 12
    return series
