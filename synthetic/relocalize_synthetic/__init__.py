"""Places rendered with exactly known truth, on the CPU: a corridor, a walk, a visitor."""

from relocalize_synthetic.corridor import CorridorTruth, write_corridor
from relocalize_synthetic.settings import CorridorSettings, VisitorSettings, WalkSettings

__all__ = [
    "CorridorSettings",
    "CorridorTruth",
    "VisitorSettings",
    "WalkSettings",
    "write_corridor",
]
