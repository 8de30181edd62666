"""The accuracy table: its numbers as they are written, for the page and for papers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from relocalize.evaluation.metrics import THRESHOLDS
from relocalize.evaluation.report.stored import Results
from relocalize.evaluation.table import degrees, length, percent, threshold_label


@dataclass(frozen=True)
class Cell:
    """One number of a table.

    Attributes:
        text: as it is written.
        interval: its 95% interval, or None where there is none.
        share: of 1, to be drawn as a bar; None of what is no share.
        is_below_truth: whether it is smaller than what the truth itself is off.
    """

    text: str
    interval: str | None = None
    share: float | None = None
    is_below_truth: bool = False


@dataclass(frozen=True)
class AccuracyTable:
    """The table, the first column being localizers' names.

    Attributes:
        heads: of the other columns: what, and its unit.
        rows: by localizer.
        n: test images.
    """

    heads: tuple[tuple[str, str], ...]
    rows: dict[str, tuple[Cell, ...]]
    n: int

    @classmethod
    def of(cls, results: Results) -> AccuracyTable:
        """All compared localizers."""
        unit, thresholds = results.length_unit, THRESHOLDS if results.is_metric else ()
        return cls(
            heads=(
                ("failed", ""),
                ("median", unit),
                ("median", "°"),
                *((threshold_label(one), "%") for one in thresholds),
                ("median", "ms"),
                ("95th", "ms"),
                ("CPU", "ms"),
            ),
            rows={name: _cells(results, name) for name in results.names},
            n=results.raw["images"]["test"],
        )

    @property
    def has_below_truth(self) -> bool:
        """Whether any number is smaller than the truth's own error."""
        return any(cell.is_below_truth for row in self.rows.values() for cell in row)


def _cells(results: Results, name: str) -> tuple[Cell, ...]:
    row, sigma = results.row(name), results.raw["truth_sigma"]
    intervals = row["intervals"]
    cells = [Cell(str(row["failed"]))]
    for key, shown in (
        ("median_position", lambda value: length(value, metric=results.is_metric)),
        ("median_rotation_deg", degrees),
    ):
        value = row[key]
        below = bool(sigma) and value is not None and value < sigma[key]
        cells.append(Cell(shown(value), _span(intervals[key], shown), None, below))
    if results.is_metric:
        for one in THRESHOLDS:
            share = row["recall"][one.key]
            span = _span(intervals["recall"].get(one.key), percent)
            cells.append(Cell(percent(share), span, share))
    cells += [Cell(f"{row[key]:.0f}") for key in ("ms_median", "ms_p95", "cpu_ms_median")]
    return tuple(cells)


def _span(ends: Sequence[float | None] | None, shown: Any) -> str | None:
    """An interval in the words of its number; an end that is infinite is a sign."""
    if not ends:
        return None
    low, high = ("∞" if end is None else shown(end) for end in ends)
    return f"{low}–{high}"
