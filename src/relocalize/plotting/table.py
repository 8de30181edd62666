"""A table of numbers as a value, for a page, a terminal and papers alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich import table as rich_table
from rich.text import Text


@dataclass(frozen=True)
class Cell:
    """One number of a table."""

    text: str  # as it is written
    small: str = ""  # below it, such as its interval; empty for none
    note: str = ""  # after it; empty for none
    share: float | None = None  # of 1, to be drawn as a bar; None of what is no share
    is_faint: bool = False  # whether it says nothing, such as an error below that of the truth


@dataclass(frozen=True)
class Table:
    """Rows with a name."""

    heads: tuple[tuple[str, ...], ...]  # lines of each column's head, that of the names first
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]  # names with the cells of the other columns
    lead: str | None = None  # name of the row that stands out, or None

    @classmethod
    def of(
        cls,
        heads: Sequence[Sequence[str]],
        rows: Sequence[tuple[str, Sequence[Cell | str]]],
        lead: str | None = None,
    ) -> Table:
        """The table of cells, or of texts alone."""
        return cls(
            tuple(map(tuple, heads)),
            tuple(
                (name, tuple(one if isinstance(one, Cell) else Cell(one) for one in cells))
                for name, cells in rows
            ),
            lead,
        )

    @property
    def cells(self) -> list[Cell]:
        """All of them."""
        return [cell for _, cells in self.rows for cell in cells]

    def for_terminal(self, *, gap: int = 2) -> rich_table.Table:
        """The same for a terminal, without what is small, so many blanks between its columns."""
        shown = rich_table.Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, gap, 0, 0))
        first, *others = ("\n".join(lines) for lines in self.heads)
        shown.add_column(first, overflow="fold")
        for head in others:
            # A name may be broken where room is short, a number may not.
            shown.add_column(head, justify="right", no_wrap=True)
        for name, cells in self.rows:
            style = "bold" if name == self.lead else None
            texts = (Text(cell.text, style="dim" if cell.is_faint else "") for cell in cells)
            shown.add_row(Text(name), *texts, style=style)
        return shown
