"""How good a localizer is: errors against truth, baselines, leakage, the report."""

from relocalize.evaluation.metrics import THRESHOLDS, PoseErrors, Scores, Threshold
from relocalize.evaluation.names import BASELINES, RESULTS, rows_of
from relocalize.evaluation.report import write_report
from relocalize.evaluation.results import Evaluation, Outcome
from relocalize.evaluation.scored_files import Score, score
from relocalize.evaluation.scoring import evaluate, split_of
from relocalize.evaluation.stored_results import current_results, note_missing
from relocalize.evaluation.table import results_table

__all__ = [
    "BASELINES",
    "RESULTS",
    "THRESHOLDS",
    "Evaluation",
    "Outcome",
    "PoseErrors",
    "Score",
    "Scores",
    "Threshold",
    "current_results",
    "evaluate",
    "note_missing",
    "results_table",
    "rows_of",
    "score",
    "split_of",
    "write_report",
]
