"""How good a localizer is: errors against truth, baselines, leakage, the report."""

from relocalize.evaluation.metrics import THRESHOLDS, PoseError, Summary, Threshold
from relocalize.evaluation.results import Evaluation, Outcome
from relocalize.evaluation.scoring import (
    BASELINES,
    DEFAULT_LOCALIZERS,
    RESULTS,
    evaluate,
    split_of,
)
from relocalize.evaluation.table import results_table

__all__ = [
    "BASELINES",
    "DEFAULT_LOCALIZERS",
    "RESULTS",
    "THRESHOLDS",
    "Evaluation",
    "Outcome",
    "PoseError",
    "Summary",
    "Threshold",
    "evaluate",
    "results_table",
    "split_of",
]
