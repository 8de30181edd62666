"""Names that the rows of a table and the files of a report go by."""

from __future__ import annotations

from collections.abc import Sequence

# Rows of every table that nobody has to ask for; the trivial ones tell no place from their train
# poses: what any localizer has to beat.
TRIVIAL = ("constant", "retrieval")
STRUCTURE = "structure"  # by the map's points: what a regressor is measured by
BASELINES = (*TRIVIAL, STRUCTURE)
RESULTS = "results.json"
RESULTS_SCHEMA = 2  # rises when results of before are to be made again
PAGE = "index.html"


def rows_of(localizers: Sequence[str]) -> list[str]:
    """The rows of a table: the baselines, then what was asked for."""
    return list(dict.fromkeys((*BASELINES, *localizers)))
