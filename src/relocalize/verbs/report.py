"""The page about an evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relocalize.evaluation.report import Results, latex_table, markdown_table, write_report
from relocalize.place import Place


@dataclass(frozen=True, repr=False)
class Report:
    """A page about an evaluation, and the same for papers.

    Attributes:
        page: one self-contained HTML file.
        figures: files of the figures for papers, where these were asked for.
    """

    page: Path
    figures: tuple[Path, ...]
    _results: Results

    @property
    def latex(self) -> str:
        """The accuracy table in LaTeX, for booktabs."""
        return latex_table(self._results)

    @property
    def markdown(self) -> str:
        """The accuracy table in Markdown."""
        return markdown_table(self._results)

    def to_json(self) -> dict[str, Any]:
        """Where the files are."""
        return {"page": str(self.page), "figures": [str(path) for path in self.figures]}

    def __repr__(self) -> str:
        return f"Report({str(self.page)!r})"


def report(
    place: Place | str | Path, *, split: str | None = None, figures: str | Path | None = None
) -> Report:
    """Write one self-contained HTML page about a stored evaluation.

    Args:
        place: the Place or its folder; it was evaluated.
        split: which evaluation; None: the only one there is.
        figures: a folder to write the figures for papers into too, each as PNG and as SVG.

    Raises:
        EvaluationError: nothing was evaluated, or several splits and none is named.
        PlaceError: the results are damaged, or the Place lacks what they are about.
    """
    place = Place.of(place)
    results = Results.read(place, split)
    page = write_report(place, results)
    written: list[Path] = []
    if figures is not None:
        from relocalize.evaluation.report.paper_figures import (  # noqa: PLC0415 - matplotlib takes a third of a second
            write_figures,
        )

        written = write_figures(place, results, Path(figures))
    return Report(page, tuple(written), results)
