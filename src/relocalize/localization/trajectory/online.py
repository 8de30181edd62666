"""The poses of a device while it moves: every new estimate smoothed with those before it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from relocalize.errors import GeometryError
from relocalize.geometry import Rigid3
from relocalize.geometry.transforms import FloatArray, skew
from relocalize.localization.trajectory.motion_model import MotionNoise
from relocalize.localization.trajectory.smoother import Smoothed, SmoothedPose, smooth

_FRAMES = 20  # that are smoothed together: what is older adds little, and each costs 2 ms
_SECONDS = 8.0  # likewise
# How hard the device is shaken is learnt again after so many frames, from so many, of which so many
# were localized: a few say nothing where some of them are wrong. Of what was learnt the middle
# counts, because now and then it is far off.
_LEARN_EVERY, _LEARN_FROM, _LEAST = 10, 60, 12
_LEARNT = 9
_BRIDGED_S = 2.0  # without an estimate, a device may have gone anywhere
# Of a phone's visual-inertial odometry: what it drifts by, as a share of the way and of the turn
# (ARKit and ARCore stay near 1% indoors).
_DRIFT = 0.01


@dataclass(frozen=True, eq=False)
class _Frame:
    time_s: float
    world_from_cam: Rigid3 | None
    covariance: FloatArray | None
    shared: FloatArray | None
    device_from_cam: Rigid3 | None


class OnlineSmoother:
    """Smooths the estimates of one device as they come: the last pose of `smooth` over a window.

    Where the device says how it moved, older estimates are carried along to where it is now, and
    what is smoothed is that one pose.
    """

    def __init__(self) -> None:
        self._frames: deque[_Frame] = deque(maxlen=_LEARN_FROM)
        self._learnt: deque[tuple[float, float, float]] = deque(maxlen=_LEARNT)
        self._since_learnt = _LEARN_EVERY

    def add(
        self,
        time_s: float,
        world_from_cam: Rigid3 | None,
        covariance: FloatArray | None,
        *,
        shared: FloatArray | None = None,
        device_from_cam: Rigid3 | None = None,
    ) -> SmoothedPose | None:
        """The pose of the newest frame.

        Args:
            time_s: seconds, later than of all frames before.
            world_from_cam: the frame's own estimate, None where it was not localized.
            covariance: [6, 6] of it, as in `SmoothedPose`; None where it has none, and nothing is
                smoothed.
            shared: [6, 6] the part of it that estimates have in common, as for `smooth`.
            device_from_cam: the camera's pose in the device's own odometry, in the map's unit, or
                None.

        Returns:
            The smoothed pose, or None where the device is lost.

        Raises:
            GeometryError: the time is not later than of the frame before.
        """
        if self._frames and time_s <= self._frames[-1].time_s:
            raise GeometryError(
                f"a frame of {time_s} s after one of {self._frames[-1].time_s} s; times ascend"
            )
        known = covariance is not None
        frame = _Frame(
            time_s, world_from_cam if known else None, covariance, shared, device_from_cam
        )
        self._frames.append(frame)
        own = None
        if world_from_cam is not None:
            own = SmoothedPose(
                "localized", world_from_cam, np.zeros((6, 6)) if covariance is None else covariance
            )
        estimated = [one.time_s for one in self._frames if one.world_from_cam is not None]
        if not known and own is not None:
            return own
        if not estimated or time_s - estimated[-1] > _BRIDGED_S:
            return None
        try:
            self._learn(frame)
            if self._learnt:
                position, rotation, jitter = np.quantile(
                    self._learnt, 0.5, axis=0, method="lower"
                ).tolist()
                near = [one for one in self._frames if one.time_s >= time_s - _SECONDS]
                shaken = MotionNoise(position, rotation), jitter
                return _smoothed(near[-_FRAMES:], frame, shaken).poses[-1]
        except GeometryError:
            pass  # too few estimates to say more than the frame itself
        return own

    def _learn(self, now: _Frame) -> None:
        self._since_learnt += 1
        localized = sum(one.world_from_cam is not None for one in self._frames)
        if self._since_learnt < _LEARN_EVERY or localized < _LEAST:
            return
        found = _smoothed(list(self._frames), now, None)
        self._learnt.append((found.noise.position, found.noise.rotation, found.jitter))
        self._since_learnt = 0


def _smoothed(
    frames: Sequence[_Frame], now: _Frame, shaken: tuple[MotionNoise, float] | None
) -> Smoothed:
    carried = [_carried(one, now) for one in frames]
    return smooth(
        [one.time_s for one in carried],
        [one.world_from_cam for one in carried],
        [one.covariance for one in carried],
        [one.shared for one in carried],
        shaken=shaken,
    )


def _carried(old: _Frame, now: _Frame) -> _Frame:
    """An old estimate as one of the pose now, by the device's own motion in between."""
    device_from_old, device_from_now = old.device_from_cam, now.device_from_cam
    pose, covariance = old.world_from_cam, old.covariance
    if (
        device_from_old is None
        or device_from_now is None
        or pose is None
        or covariance is None
        or old is now
    ):
        return old
    old_from_now = device_from_old.inverse() @ device_from_now
    moved = pose @ old_from_now
    # The centre moves by R d, and turning the old camera by a small v turns that by -R [d]x v.
    by = np.eye(6)
    by[:3, 3:] = -pose.rotation @ skew(old_from_now.translation)
    by[3:, 3:] = old_from_now.rotation.T
    turned = np.arccos(np.clip((np.trace(old_from_now.rotation) - 1) / 2, -1, 1))
    way = float(np.linalg.norm(old_from_now.translation))
    drift = np.diag([(_DRIFT * way) ** 2] * 3 + [float(_DRIFT * turned) ** 2] * 3)
    shared = None if old.shared is None else by @ old.shared @ by.T
    return _Frame(old.time_s, moved, by @ covariance @ by.T + drift, shared, device_from_now)
