"""Grids of trainings on one Place, compared on validation images."""

from relocalize.experiments.engines import ENGINES
from relocalize.experiments.experiment import Experiment
from relocalize.experiments.running import run_experiment
from relocalize.experiments.sweep import SHIPPED, Sweep, find_sweep, read_override

__all__ = [
    "ENGINES",
    "SHIPPED",
    "Experiment",
    "Sweep",
    "find_sweep",
    "read_override",
    "run_experiment",
]
