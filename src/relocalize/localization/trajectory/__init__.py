"""Poses along a video, from estimates of its frames: numbers, no files."""

from relocalize.localization.trajectory.online import OnlineSmoother
from relocalize.localization.trajectory.smoother import Smoothed, SmoothedPose, smooth

__all__ = ["OnlineSmoother", "Smoothed", "SmoothedPose", "smooth"]
