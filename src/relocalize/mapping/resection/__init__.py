"""Poses of photos, one by one, against a map that stays: matches, PnP, refinement, a verdict."""

from relocalize.mapping.resection.photo_pose import Matches, PoseSettings, Refused, Solved
from relocalize.mapping.resection.resector import ResectionSettings, Resector

__all__ = ["Matches", "PoseSettings", "Refused", "ResectionSettings", "Resector", "Solved"]
