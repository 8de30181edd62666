"""Which colour and line a localizer has, in every figure of a report and of a paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# Mid tones that stand out on white and on near-black alike, told apart with the common colour
# blindnesses; the baselines are quiet on purpose.
_KNOWN = {"constant": "#8b939c", "retrieval": "#c58a1b", "structure": "#2f7fd1"}
_OTHERS = ("#c2558f", "#2c9c78", "#c9603a", "#8464c9", "#4a9fb5")
MOST_COLORS = len(_OTHERS)  # of localizers that not every Place has
_DASHES = {"constant": "dot", "retrieval": "dash"}  # as plotly calls them
_OTHER_DASHES = ("solid", "dashdot", "longdash")  # once all colours are taken, twice and so on
_STROKES = {"solid": "none", "dash": "5 3", "dot": "2 2", "dashdot": "7 2 2 2", "longdash": "9 2"}


@dataclass(frozen=True)
class Line:
    """How a localizer is drawn.

    Attributes:
        color: hexadecimal.
        dash: as plotly calls it: ``solid``, ``dash``, ``dot``, ``dashdot`` or ``longdash``, so that
            baselines stay apart in grey print, and localizers where they outnumber the colours.
    """

    color: str
    dash: str

    @property
    def html(self) -> str:
        """A piece of it, to stand before a name."""
        return (
            '<svg class="key" viewBox="0 0 20 10" aria-hidden="true"><path d="M0 5H20" '
            f'stroke="{self.color}" stroke-width="4" '
            f'stroke-dasharray="{_STROKES[self.dash]}"/></svg>'
        )


def lines_of(names: Sequence[str]) -> dict[str, Line]:
    """By name; those of the localizers that every Place has are the same on every page."""
    others = [name for name in names if name not in _KNOWN]
    lines = {name: Line(color, _DASHES.get(name, "solid")) for name, color in _KNOWN.items()}
    for number, name in enumerate(others):
        turn, color = divmod(number, len(_OTHERS))
        lines[name] = Line(_OTHERS[color], _OTHER_DASHES[turn % len(_OTHER_DASHES)])
    return {name: lines[name] for name in names}
