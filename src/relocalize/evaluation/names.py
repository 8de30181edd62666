"""Names that the rows of a table and the files of a report go by."""

from __future__ import annotations

from collections.abc import Sequence

BASELINES = ("constant", "retrieval")  # rows of every table: what an estimate has to beat
DEFAULT_LOCALIZERS = ("structure",)
RESULTS = "results.json"
RESULTS_SCHEMA = 2  # rises when results of before are to be made again
PAGE = "index.html"


def rows_of(localizers: Sequence[str]) -> list[str]:
    """The rows of a table: the baselines, then what was asked for."""
    return list(dict.fromkeys((*BASELINES, *localizers)))
