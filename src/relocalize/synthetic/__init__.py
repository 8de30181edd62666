"""Places rendered with exactly known truth, on the CPU: a corridor, a walk, a visitor."""

from relocalize.synthetic.corridor import CorridorTruth, write_corridor
from relocalize.synthetic.settings import CorridorSettings, VisitorSettings, WalkSettings

__all__ = [
    "CorridorSettings",
    "CorridorTruth",
    "VisitorSettings",
    "WalkSettings",
    "write_corridor",
]
