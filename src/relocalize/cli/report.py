"""`relocalize report PLACE`: the page about an evaluation."""

from __future__ import annotations

import webbrowser
from dataclasses import dataclass
from pathlib import Path

import tyro

from relocalize import progress
from relocalize.cli.options import Flag
from relocalize.errors import EvaluationError
from relocalize.verbs.report import report


@dataclass(frozen=True)
class Report:
    """Write one self-contained HTML page about a stored evaluation."""

    place: tyro.conf.Positional[Path]
    """The Place folder."""
    split: str | None = None
    """Which evaluation; else the only one."""
    open: Flag = False
    """Show the page in the browser."""
    latex: Flag = False
    """Print the table in LaTeX (booktabs) instead of the page's path."""
    markdown: Flag = False
    """Print the table in Markdown instead of the page's path."""
    figures: Path | None = None
    """Folder for figures for papers, as PNG and SVG."""

    def run(self) -> int:
        """Write it, and print where it is, or the table."""
        if self.latex and self.markdown:
            raise EvaluationError("--latex and --markdown exclude each other; give one of them")
        written = report(self.place, split=self.split, figures=self.figures)
        for path in written.figures:
            progress.say(f"figure: {path}")
        if self.latex or self.markdown:
            print(written.latex if self.latex else written.markdown, end="")
            progress.say(f"page: {written.page}")
        else:
            print(written.page)
        if self.open and not webbrowser.open(written.page.resolve().as_uri()):
            progress.say("no browser could be started; open the page by hand")
        return 0
