"""Where the cameras are: a hand-held walk through the corridor, and a visitor's photos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from relocalize.geometry import Rigid3
from relocalize.geometry.transforms import FloatArray
from relocalize_synthetic.scene import Cell
from relocalize_synthetic.settings import CorridorSettings

_STEP_M = 0.72  # length of a step at a stroll
_CORNER_RADIUS = 1.0
_TURN_RADIUS = 0.42
_SPACING = 0.005  # metres between samples of the path
_CLEARANCE = 0.45  # metres that a photographer keeps from walls


@dataclass(frozen=True, eq=False)
class Walk:
    """A walk as a function of time; poses are exact at any instant, so blur can be too.

    Attributes:
        times: [K] seconds since the start.
        positions: [K, 3] of the camera on the ideal path.
        headings: [K] radians, of the ideal path, continuous.
        speeds: [K] metres per second.
        distances: [K] metres walked.
        calm: [K] share of the looking around that is left; less around turns.
        rest: (from, to) seconds of standing still.
        shake: see `WalkSettings`.
        phases: [M, 3] random phases of sway and tremor.
    """

    times: FloatArray
    positions: FloatArray
    headings: FloatArray
    speeds: FloatArray
    distances: FloatArray
    calm: FloatArray
    rest: tuple[float, float]
    shake: float
    phases: FloatArray

    @property
    def duration(self) -> float:
        """Seconds."""
        return float(self.times[-1])

    def cam_from_world(self, time: float) -> Rigid3:
        """The camera's pose at ``time`` seconds."""

        def at(values: FloatArray) -> float:
            return float(np.interp(time, self.times, values))

        walked, speed = at(self.distances), at(self.speeds)
        heading = at(self.headings)
        moving = min(1.0, speed / 0.9)
        steps = 2 * np.pi * walked / _STEP_M
        wave, shake = self._wave, self.shake
        # Looking around and sway follow the distance walked, so they stop when the walker does;
        # the hand's tremor follows time and never quite stops.
        alive = shake * (0.06 + 0.94 * moving)
        yaw = (
            shake * at(self.calm) * np.radians(17 * wave(0, walked, 5.5) + 7 * wave(1, walked, 2.3))
        )
        yaw += alive * np.radians(0.25 * wave(2, time, 0.31) + 0.12 * wave(3, time, 0.13))
        pitch = shake * np.radians(-2.5 + 3.0 * wave(4, walked, 4.1))
        pitch += alive * np.radians(0.5 * np.sin(steps + 1.0) + 0.22 * wave(5, time, 0.27))
        roll = shake * np.radians(1.3 * wave(6, walked, 3.3))
        roll += alive * np.radians(0.6 * np.sin(steps / 2) + 0.15 * wave(7, time, 0.33))
        aside = alive * 0.022 * np.sin(steps / 2 + 0.4) + shake * 0.05 * wave(8, walked, 6.0)
        up = alive * 0.016 * np.sin(steps) + shake * 0.02 * wave(9, walked, 7.0)
        forward = np.array([np.cos(heading), np.sin(heading), 0.0])
        left = np.array([-forward[1], forward[0], 0.0])
        position = np.array([at(self.positions[:, k]) for k in range(3)])
        position = position + aside * left + [0.0, 0.0, up]
        return looking(position, heading + yaw, pitch, roll)

    def _wave(self, row: int, at: float, period: float) -> float:
        """Smooth noise in about [-1, 1]: three sines with periods that never meet."""
        phase = self.phases[row]
        angle = 2 * np.pi * at / period
        return float(
            0.55 * np.sin(angle + phase[0])
            + 0.3 * np.sin(1.618 * angle + phase[1])
            + 0.15 * np.sin(2.93 * angle + phase[2])
        )


def looking(position: ArrayLike, yaw: float, pitch: float = 0.0, roll: float = 0.0) -> Rigid3:
    """``cam_from_world`` of a camera at ``position`` [3], angles in radians.

    Yaw counts from +x towards +y, pitch is up, roll turns the camera clockwise as its holder
    sees it.
    """
    forward = np.array([np.cos(yaw) * np.cos(pitch), np.sin(yaw) * np.cos(pitch), np.sin(pitch)])
    right = np.array([np.sin(yaw), -np.cos(yaw), 0.0])
    down = np.cross(forward, right)
    rolled_right = np.cos(roll) * right + np.sin(roll) * down
    rotation = np.stack([rolled_right, np.cross(forward, rolled_right), forward])
    return Rigid3(rotation, -rotation @ np.asarray(position, dtype=np.float64))


def plan_walk(settings: CorridorSettings) -> Walk:
    """The walk through the whole corridor at the settings' pace."""
    rng = np.random.default_rng([settings.seed, 2])
    path = _resampled(_floor_path(settings))
    steps = np.hypot(*np.diff(path, axis=0).T)
    distances = np.concatenate([[0.0], steps.cumsum()])
    directions = np.diff(path, axis=0)
    headings = np.unwrap(np.arctan2(directions[:, 1], directions[:, 0]))
    headings = np.append(headings, headings[-1])
    # People turn their heads and phones more smoothly than their feet.
    kernel = np.hanning(round(0.7 / _SPACING))
    headings = _smoothed(headings, kernel / kernel.sum())
    turning = np.abs(np.gradient(headings, distances))
    speeds = settings.walk.speed / (1 + 1.2 * turning)
    # Who turns a corner looks where the way goes.
    kernel = np.hanning(round(2.4 / _SPACING))
    calm = 1 / (1 + 4 * np.abs(_smoothed(turning, kernel / kernel.sum())))
    rest_at = 0.35 * min(distances[-1], settings.first_arm)
    speeds = speeds * (1 - 0.9 * np.exp(-(((distances - rest_at) / 0.22) ** 2)))
    times = np.concatenate([[0.0], (steps / ((speeds[:-1] + speeds[1:]) / 2)).cumsum()])
    stop = int(np.searchsorted(distances, rest_at))
    rest = (float(times[stop]), float(times[stop]) + settings.walk.rest_s)
    times = np.concatenate([times[: stop + 1], times[stop:] + settings.walk.rest_s + 1e-6])
    order = np.concatenate([np.arange(stop + 1), np.arange(stop, len(path))])
    speeds = speeds[order]
    speeds[stop : stop + 2] = 0.0
    height = np.full((len(path), 1), settings.walk.eye_height)
    return Walk(
        times,
        np.hstack([path, height])[order],
        headings[order],
        speeds,
        distances[order],
        calm[order],
        rest,
        settings.walk.shake,
        rng.uniform(0, 2 * np.pi, (10, 3)),
    )


def _floor_path(settings: CorridorSettings) -> FloatArray:
    """Corners [K, 2] of the ideal path, arcs included."""
    first, second, middle = settings.first_arm, settings.second_arm, settings.width / 2
    if not second:
        end = first - 1.8
        there = np.array([[1.1, middle], [end, middle + 0.1]])
        if settings.walk.return_m <= 0:
            return there
        swing = np.array([[end - 1.5, middle], [end - 0.4, middle - _TURN_RADIUS]])
        there = np.concatenate([there[:1], swing[swing[:, 0] > 1.1]])
        turn = _arc([end, middle], _TURN_RADIUS, -np.pi / 2, np.pi / 2)
        back = np.array([[1.1, middle + _TURN_RADIUS]])
        return np.concatenate([there, _turned_back(turn, back, settings.walk.return_m)])
    x, end = first - middle, settings.width + second - 2.6
    pivot = [x - _CORNER_RADIUS, middle + _CORNER_RADIUS]
    corner = _arc(pivot, _CORNER_RADIUS, -np.pi / 2, 0)
    there = np.concatenate([np.array([[1.3, middle]]), corner, np.array([[x - 0.05, end - 1.5]])])
    if settings.walk.return_m <= 0:
        return np.concatenate([there, np.array([[x, end]])])
    there = np.concatenate([there, np.array([[x + _TURN_RADIUS, end - 0.4]])])
    turn = _arc([x, end], _TURN_RADIUS, 0, np.pi)
    corner = _arc(pivot, _CORNER_RADIUS - _TURN_RADIUS, 0, -np.pi / 2)
    back = np.concatenate([corner, np.array([[1.3, middle + _TURN_RADIUS]])])
    return np.concatenate([there, _turned_back(turn, back, settings.walk.return_m)])


def _arc(middle: Sequence[float], radius: float, start: float, end: float) -> FloatArray:
    """Points [24, 2] from one angle to another, in radians."""
    angles = np.linspace(start, end, 24)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1) * radius + middle


def _turned_back(turn: FloatArray, back: FloatArray, length_m: float) -> FloatArray:
    """The turn [K, 2] whole, and from its end no more than so much of the way back [M, 2]."""
    corners = np.concatenate([turn[-1:], back])
    walked = np.concatenate([[0.0], np.hypot(*np.diff(corners, axis=0).T).cumsum()])
    stop = [np.interp(length_m, walked, corners[:, axis]) for axis in (0, 1)]
    return np.concatenate([turn, corners[1:][walked[1:] < length_m], [stop]])


def _resampled(corners: FloatArray) -> FloatArray:
    """Points [N, 2] every `_SPACING` along the corners' polyline, kinks rounded."""
    lengths = np.concatenate([[0.0], np.hypot(*np.diff(corners, axis=0).T).cumsum()])
    at = np.arange(0.0, lengths[-1], _SPACING)
    path = np.stack([np.interp(at, lengths, corners[:, k]) for k in range(2)], axis=1)
    kernel = np.hanning(round(0.3 / _SPACING))
    return np.stack([_smoothed(path[:, k], kernel / kernel.sum()) for k in range(2)], axis=1)


def _smoothed(values: FloatArray, kernel: FloatArray) -> FloatArray:
    half = len(kernel) // 2
    ends = (half, len(kernel) - 1 - half)
    padded = np.pad(values, ends, mode="reflect", reflect_type="odd")
    return np.convolve(padded, kernel, mode="valid")


def plan_photos(settings: CorridorSettings, walk: Walk, cells: list[Cell]) -> list[Rigid3]:
    """``cam_from_world`` of the visitor's photos: near the walk, not on it, some of them hard.

    One in three looks well away from the walk's own direction, one in six backwards.
    """
    rng = np.random.default_rng([settings.seed, 3])
    photos: list[Rigid3] = []
    count = settings.visitor.count
    for index in range(count):
        walked = (index + rng.uniform(0.2, 0.8)) / count * walk.distances[-1]
        spot = int(np.searchsorted(walk.distances, walked))
        spot = min(spot, len(walk.distances) - 1)
        for _ in range(100):
            offset = rng.normal(0, [0.35, 0.35, 0.12])
            position = walk.positions[spot] + offset
            if np.hypot(*offset[:2]) > 0.15 and _has_room(position, cells):
                break
        else:
            position = walk.positions[spot]
        spread = {0: 55.0, 3: 180.0}.get(index % 6, {4: 55.0}.get(index % 6, 18.0))
        yaw = walk.headings[spot] + np.radians(
            180 + rng.normal(0, 15) if spread > 90 else rng.choice([-1, 1]) * rng.uniform(0, spread)
        )
        photos.append(
            looking(position, yaw, np.radians(rng.normal(-2, 5)), np.radians(rng.normal(0, 4)))
        )
    return photos


def _has_room(position: FloatArray, cells: list[Cell]) -> bool:
    """Whether a person can stand there: inside a cell, away from walls."""
    margin = np.array([_CLEARANCE, _CLEARANCE, 0.3])
    return any(
        bool(np.all(position > cell.low + margin) and np.all(position < cell.high - margin))
        for cell in cells
    )
