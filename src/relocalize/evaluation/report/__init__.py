"""The report: one self-contained page about an evaluation, and the same for papers."""

from relocalize.evaluation.report.paper_tables import latex_table, markdown_table
from relocalize.evaluation.report.stored import Results
from relocalize.evaluation.report.writing import write_report

__all__ = ["Results", "latex_table", "markdown_table", "write_report"]
