"""Poses of photos, one by one, against a map that stays: matches, PnP, refinement, a verdict."""

from relocalize.absolute_pose.pose_solver import PoseSolver, PoseSolverSettings
from relocalize.absolute_pose.solve import Matches, PoseSettings, Refused, Solved

__all__ = ["Matches", "PoseSettings", "PoseSolver", "PoseSolverSettings", "Refused", "Solved"]
