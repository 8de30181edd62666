"""How much the image has moved, and how sharp it is, frame by frame.

Motion is measured against an anchor frame and not from frame to frame, so that the tremble of
a resting hand does not add up: only where the view has left the anchor does a new one start.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

_WIDTH = 160  # pixels of the longer side at which motion is measured
_SHARP_WIDTH = 640  # and sharpness: at 160, a blur of 6 pixels of a 1280 wide frame is invisible
_NEW_ANCHOR = 0.03  # of the width; 10 times the error of one measurement at this size
_JUMP = 0.25  # counted where the two views have nothing in common
_MIN_TRACKS = 8
_CORNERS = 120
_FLOW_WINDOW, _FLOW_LEVELS = (15, 15), 3
_FLOW_STOP = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 15, 0.02)
_MAX_FLOW_ERROR = 20.0  # mean grey-level difference of a patch that was followed rightly


def sharpness(luma: NDArray[np.uint8]) -> float:
    """Variance of the Laplacian of an image [H, W]; comparable between like views only."""
    small = _shrink(luma, _SHARP_WIDTH)
    _, deviation = cv2.meanStdDev(cv2.Laplacian(small, cv2.CV_16S))
    return float(deviation[0, 0]) ** 2


@dataclass
class MotionMeter:
    """Running measurement of image motion."""

    motion: float = 0.0  # sum so far, in shares of the image's longer side; never falls
    _base: float = 0.0
    _anchor: NDArray[np.uint8] | None = None
    _previous: NDArray[np.uint8] | None = None
    _corners: NDArray[np.float32] | None = None
    _tracked: NDArray[np.float32] | None = None

    def see(self, luma: NDArray[np.uint8]) -> bool:
        """Take the next frame [H, W]; False when it has no texture to measure motion on."""
        small = _shrink(luma, _WIDTH)
        if self._anchor is None:
            self._start_at(small)
        else:
            moved = self._moved(small)
            if moved is None and self._previous is not None:
                # Lost from the anchor; the frame before may still share the view.
                self._base = self.motion
                self._start_at(self._previous)
                moved = self._moved(small)
            if moved is None:
                if self._can_track:
                    self.motion += _JUMP
                self._base = self.motion
                self._start_at(small)
            else:
                self.motion = max(self.motion, self._base + moved)
                if moved > _NEW_ANCHOR:
                    self._base = self.motion
                    self._start_at(small)
        self._previous = small
        return self._can_track

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Everything that `from_state` needs to go on exactly from here."""
        arrays = {
            "anchor": self._anchor,
            "previous": self._previous,
            "corners": self._corners,
            "tracked": self._tracked,
        }
        sums = {"sums": np.array([self.motion, self._base])}
        return {**sums, **{key: value for key, value in arrays.items() if value is not None}}

    @classmethod
    def from_state(cls, state: dict[str, NDArray[np.generic]]) -> MotionMeter:
        """The meter that `state` described."""
        motion, base = state["sums"].tolist()
        arrays = {f"_{key}": value for key, value in state.items() if key != "sums"}
        return cls(motion=motion, _base=base, **arrays)  # type: ignore[arg-type]  # by key

    @property
    def _can_track(self) -> bool:
        return self._corners is not None

    def _start_at(self, small: NDArray[np.uint8]) -> None:
        corners = cv2.goodFeaturesToTrack(small, _CORNERS, 0.02, 7)
        enough = corners is not None and len(corners) >= _MIN_TRACKS
        self._anchor = small
        self._corners = np.asarray(corners, dtype=np.float32) if enough else None
        self._tracked = self._corners

    def _moved(self, small: NDArray[np.uint8]) -> float | None:
        """Median shift of the anchor's corners in ``small``; None when they are lost."""
        if self._anchor is None or self._corners is None or self._tracked is None:
            return None
        found, status, error = cv2.calcOpticalFlowPyrLK(
            self._anchor,
            small,
            self._corners,
            self._tracked.copy(),
            winSize=_FLOW_WINDOW,
            maxLevel=_FLOW_LEVELS,
            criteria=_FLOW_STOP,
            flags=cv2.OPTFLOW_USE_INITIAL_FLOW,
        )
        followed = (status[:, 0] == 1) & (error[:, 0] < _MAX_FLOW_ERROR)
        if followed.sum() < max(_MIN_TRACKS, 0.35 * len(followed)):
            return None
        shift = np.linalg.norm(found[followed, 0] - self._corners[followed, 0], axis=1)
        guess = self._corners + np.median(found[followed] - self._corners[followed], axis=0)
        self._tracked = np.where(followed[:, None, None], found, guess).astype(np.float32)
        return float(np.median(shift)) / float(max(small.shape))


def _shrink(luma: NDArray[np.uint8], longer_side: int) -> NDArray[np.uint8]:
    height, width = luma.shape
    factor = longer_side / max(width, height)
    if factor >= 1.0:
        # A copy, since the decoder uses its memory again for a later frame.
        return np.array(luma)
    size = (max(16, round(width * factor)), max(16, round(height * factor)))
    return np.asarray(cv2.resize(luma, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
