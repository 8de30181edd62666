"""The report: one self-contained page about an evaluation, and the same for papers."""

from relocalize.evaluation.report.page import write_report
from relocalize.evaluation.report.stored import Results
from relocalize.evaluation.report.tables import latex_table, markdown_table

__all__ = ["Results", "latex_table", "markdown_table", "write_report"]
