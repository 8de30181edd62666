"""How good a localizer is: errors against truth, baselines, leakage, the report."""

from relocalize.evaluation.inputs import current_results
from relocalize.evaluation.metrics import THRESHOLDS, PoseErrors, Scores, Threshold
from relocalize.evaluation.names import BASELINES, RESULTS, rows_of
from relocalize.evaluation.report import write_report
from relocalize.evaluation.results import Evaluation, Outcome
from relocalize.evaluation.scoring import evaluate, split_of
from relocalize.evaluation.table import results_table

__all__ = [
    "BASELINES",
    "RESULTS",
    "THRESHOLDS",
    "Evaluation",
    "Outcome",
    "PoseErrors",
    "Scores",
    "Threshold",
    "current_results",
    "evaluate",
    "results_table",
    "rows_of",
    "split_of",
    "write_report",
]
