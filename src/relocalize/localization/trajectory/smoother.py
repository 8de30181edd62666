"""Estimates of a video's frames made one trajectory: smoothed, wrong ones rejected, gaps bridged.

A sparse least squares over all frames at once: the estimates with their covariances are the
measurements, and a camera whose acceleration is white noise is what ties frames together
(`motion_model`). Wrong estimates are found by graduated non-convexity with truncated least squares
(Yang, Antonante, Tzoumas, Carlone, "Graduated Non-Convexity for Robust Spatial Perception", RA-L
2020): first all count a little, in the end each counts wholly or not at all. How hard the camera is
shaken is not a setting: it is what makes the estimates most likely.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.spatial.transform import Rotation, Slerp

from relocalize.errors import GeometryError
from relocalize.geometry import Rigid3
from relocalize.geometry.transforms import FloatArray
from relocalize.localization.trajectory.block_chain import BlockChain
from relocalize.localization.trajectory.motion_model import (
    POSITION,
    ROTATION,
    STATE,
    TURNING,
    VELOCITY,
    MotionNoise,
    States,
    right_jacobian_inverse,
    step_information,
    steps,
)

Status = Literal["localized", "rejected", "bridged"]

LEAST = 4  # localized frames: fewer say nothing about how the camera moves
# Of squared errors in units of the stated covariance, chi-square with 6 degrees of freedom: all
# but one in ten thousand of right estimates are below.
_CHI2_6_OUTLIER = 27.86
_QUARTILE = 0.3186  # of the absolute values of a standard Gauss, the lower one
_LAG_S = 0.4  # over which the first guess of the accelerations is measured: half a step of a walk
_WINDOW = 4  # localized neighbours on either side, among which the first guess is the middle one
_STANDING_S = 100.0  # speeds are what so many seconds of such accelerations make, or less
_TREMBLING = (1.0, 10.0, 100.0, 1000.0)  # times the first guess of accelerations
_ROUNDS = 8  # of likeliest noise and readmitted estimates in turn, at most
_SPAN = 3.0  # decades on either side of the first guess in which accelerations are looked for
_MOST_FOR_NOISE = 900  # frames that tell the accelerations: half a minute of video


@dataclass(frozen=True, eq=False)
class SmoothedPose:
    """The pose of one frame."""

    # ``localized``, or ``rejected`` where the frame's own estimate contradicts the motion, or
    # ``bridged`` where it has none: then the pose is its neighbours' word
    status: Status
    world_from_cam: Rigid3  # the pose
    # [6, 6] of (centre in the world, rotation in the camera's axes in radians)
    covariance: FloatArray


@dataclass(frozen=True, eq=False)
class Smoothed:
    """A whole trajectory."""

    poses: tuple[SmoothedPose, ...]  # one per frame
    noise: MotionNoise  # how hard the camera was shaken
    # how much of what covariances state beyond shared errors changes from frame to frame, as a
    # share of variances, at most 1. What is missing to 1 neighbours have in common: no smoothing
    # takes it away, and it is in the poses' covariances as it was
    jitter: float


def smooth(
    times: Sequence[float],
    estimates: Sequence[Rigid3 | None],
    covariances: Sequence[FloatArray | None],
    shared: Sequence[FloatArray | None] | None = None,
    *,
    shaken: tuple[MotionNoise, float] | None = None,
) -> Smoothed:
    """The trajectory that estimates of frames and the way cameras move make most likely.

    Args:
        times: [N] seconds, ascending.
        estimates: world_from_cam of each frame, None where it was not localized.
        covariances: [6, 6] of each estimate, as in `SmoothedPose`.
        shared: [6, 6] the part of each that neighbouring frames are known to have in common, such
            as the map's errors; it stays in the poses' covariances whole. None means that none is
            known; it may be more or less than there is.
        shaken: `Smoothed.noise` and `Smoothed.jitter` where they are known from before, which takes
            a tenth of the time; None finds them.

    Raises:
        GeometryError: times do not ascend, an estimate has no covariance or a shared part that is
            larger than it, or fewer than `LEAST` frames were localized.
    """
    known = [None] * len(covariances) if shared is None else list(shared)
    problem = _Problem.of(times, estimates, covariances, known)
    if shaken is None:
        fit = _first_fit(problem)
        for _ in range(_ROUNDS):
            fit = _relaxed(problem, _likeliest(problem, fit))
            more = _readmitted(problem, fit)
            if (more == fit.weights).all():
                break
            fit = _relaxed(problem, replace(fit, weights=more))
    else:
        everybody = np.ones(len(problem.has))
        fit = _graduated(problem, _Fit(problem.first_states(), everybody, *shaken))
        fit = _relaxed(problem, replace(fit, weights=_readmitted(problem, fit)))
    covariance = problem.marginals(fit) + (1.0 - fit.jitter) * problem.stated()
    covariance += problem.nearest(known)
    poses = []
    for k, rotation in enumerate(fit.states.rotations.as_matrix()):
        status: Status = "bridged"
        if problem.has[k]:
            status = "localized" if fit.weights[k] > 0.5 else "rejected"
        poses.append(SmoothedPose(status, Rigid3(rotation, fit.states.centres[k]), covariance[k]))
    return Smoothed(tuple(poses), fit.noise, fit.jitter)


@dataclass(frozen=True, eq=False)
class _Fit:
    """A trajectory, and under what it was found."""

    states: States  # of N frames
    weights: FloatArray  # [N] how much each estimate counts, 0 to 1
    noise: MotionNoise  # how hard the camera is shaken
    jitter: float  # share of the stated variances that changes from frame to frame

    def only(self, rows: slice) -> _Fit:
        """The same of some frames in a row."""
        return replace(self, states=_only(self.states, rows), weights=self.weights[rows])


@dataclass(frozen=True, eq=False)
class _Problem:
    """Estimates as arrays."""

    times: FloatArray  # [N]
    has: NDArray[np.bool_]  # [N] whether a frame has an estimate
    centres: FloatArray  # [N, 3] estimated, 0 where there is none
    rotations: Rotation  # N estimated, the identity where there is none
    # [N, 6, 6] inverses of the covariances without their shared part, 0 where there is none
    information: FloatArray
    # [N, 6, 6] inverses of the whole covariances, likewise: what lies within these is not wrong
    bounds: FloatArray

    @classmethod
    def of(
        cls,
        times: Sequence[float],
        estimates: Sequence[Rigid3 | None],
        covariances: Sequence[FloatArray | None],
        shared: Sequence[FloatArray | None],
    ) -> _Problem:
        count = len(times)
        if not count == len(estimates) == len(covariances):
            raise GeometryError(
                f"{count} times, {len(estimates)} estimates and {len(covariances)} covariances; "
                "want one of each for every frame"
            )
        if len(shared) != count:
            raise GeometryError(f"{len(shared)} shared parts of {count} covariances; want as many")
        seconds = np.asarray(times, dtype=np.float64)
        if not np.isfinite(seconds).all() or (np.diff(seconds) <= 0).any():
            raise GeometryError("times of frames have to be finite and to ascend")
        centres, rotations = np.zeros((count, 3)), np.tile(np.eye(3), (count, 1, 1))
        information, bounds = np.zeros((count, 6, 6)), np.zeros((count, 6, 6))
        has = np.zeros(count, dtype=np.bool_)
        for k, (pose, covariance) in enumerate(zip(estimates, covariances, strict=True)):
            if pose is None:
                continue
            bounds[k] = _inverse(covariance, k)
            part = shared[k]
            own = covariance if covariance is None or part is None else covariance - part
            information[k] = _inverse(own, k)
            centres[k], rotations[k], has[k] = pose.translation, pose.rotation, True
        if has.sum() < LEAST:
            raise GeometryError(
                f"{int(has.sum())} of {count} frames are localized; a trajectory needs {LEAST}"
            )
        return cls(seconds, has, centres, Rotation.from_matrix(rotations), information, bounds)

    @property
    def seconds(self) -> FloatArray:
        """[N - 1] from each frame to the next."""
        return np.diff(self.times)

    def first_states(self) -> States:
        """From the middle ones of neighbouring estimates, straight lines between them."""
        rows = np.flatnonzero(self.has)
        middle = np.array([rows[self._middle(rows, at)] for at in range(len(rows))])
        known = self.times[rows]
        centres = np.stack(
            [np.interp(self.times, known, self.centres[middle, axis]) for axis in range(3)], axis=1
        )
        clipped = np.clip(self.times, known[0], known[-1])
        rotations = Slerp(known, self.rotations[middle])(clipped)
        zero = np.zeros((len(self.times), 3))
        return States(centres, rotations, zero, zero)

    def _middle(self, rows: NDArray[np.int64], at: int) -> int:
        """Of the estimates around one, which is nearest to the others: a wrong one is not."""
        first, last = max(0, at - _WINDOW), min(len(rows), at + _WINDOW + 1)
        near = rows[first:last]
        apart = np.linalg.norm(self.centres[near][:, None] - self.centres[near][None], axis=2)
        angles = np.stack(
            [(self.rotations[near] * self.rotations[int(row)].inv()).magnitude() for row in near]
        )
        # Right ones are no further from the middle than half of all; distances say more then.
        scale = max(float(np.median(apart)), 1e-12), max(float(np.median(angles)), 1e-12)
        cost = np.minimum(apart / scale[0], 5).sum(axis=1) + np.minimum(angles / scale[1], 5).sum(1)
        # A right estimate stays: only what is clearly further than the best is replaced.
        best, own = int(cost.argmin()), at - first
        return at if cost[own] <= 2 * cost[best] else first + best

    def first_noise(self) -> MotionNoise:
        """Accelerations from second differences over `_LAG_S`, robustly."""
        rows = np.flatnonzero(self.has)
        lag = max(1, round(_LAG_S / max(float(np.median(np.diff(self.times[rows]))), 1e-9)))
        lag = min(lag, (len(rows) - 1) // 2)
        before, now, after = rows[: -2 * lag], rows[lag:-lag], rows[2 * lag :]
        second = self.centres[after] - 2 * self.centres[now] + self.centres[before]
        turn_on = (self.rotations[now].inv() * self.rotations[after]).as_rotvec()
        turn_back = (self.rotations[now].inv() * self.rotations[before]).as_rotvec()
        period = float(np.median(self.times[after] - self.times[before])) / 2
        own = np.median(np.diagonal(self.stated()[rows], axis1=1, axis2=2), axis=0)

        def density(differences: FloatArray, variance: float) -> float:
            # The lower quartile: with a third of all estimates wrong, most differences have one.
            spread = (float(np.quantile(np.abs(differences), 0.25)) / _QUARTILE) ** 2
            of_motion = max(spread - 6 * variance, 0.05 * spread, 1e-2 * variance)
            # White acceleration of density q makes second differences of variance 2 q T^3 / 3.
            return max(of_motion / (2 * period**3 / 3), 1e-18)

        turns = np.asarray(turn_on) + turn_back
        return MotionNoise(
            density(second, float(own[:3].mean())), density(turns, float(own[3:].mean()))
        )

    def residuals(self, states: States) -> FloatArray:
        """[N, 6] of states against estimates."""
        turned = (self.rotations.inv() * states.rotations).as_rotvec().reshape(-1, 3)
        return np.concatenate([states.centres - self.centres, turned], axis=1)

    def squares(self, states: States) -> FloatArray:
        """[N] squared errors of the estimates in units of their stated covariances; 0 for none."""
        errors = self.residuals(states)
        squares: FloatArray = np.einsum("ni,nij,nj->n", errors, self.bounds, errors)
        return squares

    def stated(self) -> FloatArray:
        """[N, 6, 6] covariances without shared parts; between, of the nearest one in time."""
        inverses = np.linalg.inv(self.information[self._nearest_rows()])
        return np.asarray(inverses, dtype=np.float64)

    def nearest(self, matrices: Sequence[FloatArray | None]) -> FloatArray:
        """[N, 6, 6] of those of the estimates, zeros for None; between, of the nearest in time."""
        known = [np.zeros((6, 6)) if one is None else one for one in matrices]
        return np.stack([known[int(row)] for row in self._nearest_rows()])

    def _nearest_rows(self) -> NDArray[np.int64]:
        """[N] for each frame, which has an estimate and is nearest in time: itself if it has."""
        rows = np.flatnonzero(self.has)
        after = np.searchsorted(rows, np.arange(len(self.times))).clip(1, len(rows) - 1)
        before_s = self.times - self.times[rows[after - 1]]
        after_s = self.times[rows[after]] - self.times
        nearest = np.where(before_s < after_s, rows[after - 1], rows[after])
        return np.asarray(nearest, dtype=np.int64)

    def unlikeliness_anywhere(self) -> FloatArray:
        """[N] what leaving an estimate out costs, in the terms of `_unlikeliness`."""
        sides = np.ptp(np.quantile(self.centres[self.has], [0.05, 0.95], axis=0), axis=0)
        volume = max(float(sides.max()), 1e-12) ** 3 * 8 * np.pi**2  # that of all rotations
        determinants = np.linalg.slogdet(self.stated())[1]
        cost = 2 * np.log(volume) - determinants - 6 * np.log(2 * np.pi)
        return np.asarray(np.maximum(cost, _CHI2_6_OUTLIER), dtype=np.float64)

    def marginals(self, fit: _Fit) -> FloatArray:
        """[N, 6, 6] covariances of the poses of all frames."""
        chain, _, _ = self.equations(fit)
        return chain.inverse_diagonal()[:, :6, :6]

    def equations(self, fit: _Fit) -> tuple[BlockChain, FloatArray, float]:
        """Normal equations of all errors, their right side, and twice the cost at the states."""
        count, states, noise = len(self.times), fit.states, fit.noise
        diagonal, below = np.zeros((count, STATE, STATE)), np.zeros((count - 1, STATE, STATE))
        right = np.zeros((count, STATE))
        errors = self.residuals(states)
        by_state = np.tile(np.eye(6), (count, 1, 1))
        by_state[:, ROTATION, ROTATION] = right_jacobian_inverse(errors[:, ROTATION])
        information = (fit.weights / fit.jitter)[:, None, None] * self.information
        weighted = by_state.transpose(0, 2, 1) @ information
        diagonal[:, :6, :6] += weighted @ by_state
        right[:, :6] -= np.einsum("nij,nj->ni", weighted, errors)
        cost = float(np.einsum("ni,nij,nj->", errors, information, errors))

        between = steps(states, self.seconds)
        motion, _ = step_information(noise, self.seconds)
        from_first = between.by_first.transpose(0, 2, 1) @ motion
        from_second = between.by_second.transpose(0, 2, 1) @ motion
        diagonal[:-1] += from_first @ between.by_first
        diagonal[1:] += from_second @ between.by_second
        below += from_second @ between.by_first
        right[:-1] -= np.einsum("nij,nj->ni", from_first, between.residuals)
        right[1:] -= np.einsum("nij,nj->ni", from_second, between.residuals)
        cost += float(np.einsum("ni,nij,nj->", between.residuals, motion, between.residuals))

        for rate, density, values in (
            (VELOCITY, noise.position, states.velocities),
            (TURNING, noise.rotation, states.turnings),
        ):
            held = 1 / (density * _STANDING_S)
            diagonal[0, rate, rate] += held * np.eye(3)
            right[0, rate] -= held * values[0]
            cost += held * float(values[0] @ values[0])
        return BlockChain(diagonal, below), right, cost


_Arrays = TypeVar("_Arrays", States, _Problem)


def _only(value: _Arrays, rows: slice) -> _Arrays:
    """The same of some frames in a row."""
    return type(value)(*(getattr(value, one.name)[rows] for one in fields(value)))


def _inverse(covariance: FloatArray | None, frame: int) -> FloatArray:
    if covariance is None:
        raise GeometryError(
            f"the estimate of frame {frame} has no covariance, which smoothing needs"
        )
    if np.shape(covariance) != (6, 6) or not np.isfinite(covariance).all():
        raise GeometryError(f"the covariance of frame {frame} is no finite 6 x 6 matrix")
    # What is stated as exact in a direction is as good as a hundred thousandth of the others.
    floor = 1e-10 * np.diag(np.diag(covariance)) + 1e-24 * np.eye(6)
    try:
        np.linalg.cholesky(covariance + floor)
    except np.linalg.LinAlgError:
        raise GeometryError(f"the covariance of frame {frame} is not positive definite") from None
    return np.asarray(np.linalg.inv(covariance + floor), dtype=np.float64)


def _relaxed(problem: _Problem, fit: _Fit, *, most: int = 8) -> _Fit:
    """The states of least cost for these weights (Gauss-Newton)."""
    states = fit.states
    for _ in range(most):
        chain, right, _ = problem.equations(replace(fit, states=states))
        step = chain.solve(right)[0]
        # A rotation of more than a radian at once is beyond what the linear equations know.
        longest = float(np.abs(step[:, ROTATION]).max())
        states = states.moved(step * min(1.0, 1.0 / max(longest, 1e-12)))
        extent = max(float(np.ptp(states.centres, axis=0).max()), 1e-12)
        if longest < 1e-6 and np.abs(step[:, POSITION]).max() < 1e-6 * extent:
            break
    return replace(fit, states=states)


def _graduated(problem: _Problem, fit: _Fit) -> _Fit:
    """States and weights (0 or 1) of truncated least squares, by graduated non-convexity."""
    # What lies within the stated covariance is not wrong, however quiet the neighbours are.
    bound = _CHI2_6_OUTLIER
    fit = _relaxed(problem, replace(fit, weights=problem.has.astype(np.float64)), most=3)
    squares = problem.squares(fit.states)
    worst = float(squares.max())
    if worst <= bound:
        return _relaxed(problem, fit)
    mu = bound / (2 * worst - bound)
    while mu < 1e3:
        low, high = mu / (mu + 1) * bound, (mu + 1) / mu * bound
        between = np.sqrt(bound * mu * (mu + 1) / np.maximum(squares, 1e-12)) - mu
        soft = np.where(squares <= low, 1.0, np.where(squares >= high, 0.0, between))
        weights = np.where(problem.has, soft, 0.0)
        fit = _relaxed(problem, replace(fit, weights=weights), most=1)
        squares = problem.squares(fit.states)
        mu *= 2.0
    weights = (problem.has & (squares <= bound)).astype(np.float64)
    return _relaxed(problem, replace(fit, weights=weights))


def _readmitted(problem: _Problem, fit: _Fit) -> FloatArray:
    """Weights of 1 for estimates that were left out and agree with what is known without them.

    A hand that jerks the camera is no wrong estimate: without these frames nobody knows well
    where they are, and their own word is within that.
    """
    left_out = problem.has & (fit.weights < 0.5)
    if not left_out.any():
        return fit.weights
    known = problem.marginals(fit)[left_out]
    own = np.linalg.inv(problem.bounds[left_out])
    errors = problem.residuals(fit.states)[left_out]
    squares = np.einsum("ni,ni->n", errors, np.linalg.solve(known + own, errors[..., None])[..., 0])
    agrees = np.flatnonzero(left_out)[squares <= _CHI2_6_OUTLIER]
    weights = np.array(fit.weights)
    weights[agrees] = 1.0
    return weights


def _first_fit(problem: _Problem) -> _Fit:
    """The fit under accelerations that may be far larger than the first guess.

    A walk is smooth over half a second, and a hand trembles from frame to frame: what trembles
    is no outlier. Of several guesses the likeliest is taken, where a wrong estimate is as likely
    anywhere on the way and facing anywhere.
    """
    of_wrong, guess = problem.unlikeliness_anywhere(), problem.first_noise()
    start = problem.first_states()

    def tried(factor: float) -> tuple[float, _Fit]:
        noise = MotionNoise(factor * guess.position, factor * guess.rotation)
        fit = _graduated(problem, _Fit(start, np.ones(len(problem.has)), noise, 1.0))
        left_out = float(of_wrong[problem.has & (fit.weights < 0.5)].sum())
        return _unlikeliness(problem, fit) + left_out, fit

    return min(map(tried, _TREMBLING), key=lambda one: one[0])[1]


def _unlikeliness(problem: _Problem, fit: _Fit) -> float:
    """Minus twice the log likelihood of the estimates that count, near the states, but a constant.

    The poses are integrated out (the determinant), so that it does not pay to let them follow
    every estimate.
    """
    chain, right, cost = problem.equations(fit)
    step, log_determinant = chain.solve(right)
    cost -= float((right * step).sum())  # at the states that are likeliest then
    _, of_motion = step_information(fit.noise, problem.seconds)
    # The hold on the first speeds depends on the densities too.
    held = -3 * (np.log(fit.noise.position) + np.log(fit.noise.rotation))
    of_estimates = -6 * float(fit.weights.sum()) * np.log(fit.jitter)
    return cost + log_determinant - of_motion - float(held) - float(of_estimates)


def _likeliest(problem: _Problem, fit: _Fit) -> _Fit:
    """With the accelerations and the jitter that make the estimates that count most likely."""
    rows = _telling(fit.weights)
    part, part_fit = _only(problem, rows), fit.only(rows)
    values = np.array([fit.jitter, fit.noise.position, fit.noise.rotation])

    def unlikeliness(decades: float, axis: int) -> float:
        jitter, position, rotation = (values * 10 ** (decades * np.eye(3)[axis])).tolist()
        noise = MotionNoise(position, rotation)
        return _unlikeliness(part, replace(part_fit, noise=noise, jitter=jitter))

    # One after the other, twice, since more of one is less of another.
    for span in (_SPAN, _SPAN / 4):
        for axis in range(3):
            values[axis] *= 10 ** _lowest(partial(unlikeliness, axis=axis), span)
            # Not above 1: trembling hands and trembling estimates look alike, and the localizer
            # is believed. Taken for noise, real motion would be smoothed away.
            values[0] = min(1.0, values[0])
    jitter, position, rotation = values.tolist()
    return replace(fit, noise=MotionNoise(position, rotation), jitter=jitter)


def _lowest(function: Callable[[float], float], span: float) -> float:
    found = minimize_scalar(
        function, bounds=(-span, span), method="bounded", options={"xatol": 0.05, "maxiter": 12}
    )
    return float(found.x)


def _telling(weights: FloatArray) -> slice:
    """The frames in a row of which most have an estimate that counts."""
    if len(weights) <= _MOST_FOR_NOISE:
        return slice(None)
    sums = np.concatenate([[0.0], np.cumsum(weights)])
    first = int((sums[_MOST_FOR_NOISE:] - sums[:-_MOST_FOR_NOISE]).argmax())
    return slice(first, first + _MOST_FOR_NOISE)
