"""The founding story's two images: the corridor from above, and the price of each mistake."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from founding_mistakes import Off
from founding_prices import Price
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from numpy.typing import NDArray

from relocalize.plotting.figure import INK, SOFT, figure_in

Floats = NDArray[np.float64]
_TURNED_DEG = 10.0  # from here on a bar says its rotation error too
_LEAST_M, _MOST_M = 0.003, 200.0  # of the axis of errors
WALK, TRUE, REGRESSED, STRUCTURED, WRONG = "#8a949e", "#1d2329", "#d9822b", "#1f7a8c", "#b23a48"


@dataclass(frozen=True, eq=False)
class Seen:
    """Positions from above, in metres of the corridor's own frame.

    Attributes:
        outline: [K, 2] corners of the walls.
        walk: [N, 2] of the first camera.
        before: [M, 2] of the second data set as it came, in its own frame and unit.
        truth: by photo, of the second data set once it is aligned.
        regressed: by photo, where the regressor has them; refused ones are not there.
        structured: by photo, likewise of the structure localizer.
    """

    outline: Floats
    walk: Floats
    before: Floats
    truth: Mapping[str, Floats]
    regressed: Mapping[str, Floats]
    structured: Mapping[str, Floats]


def draw_corridor(seen: Seen, out: Path) -> None:
    """Three panels: the second data set as it came, aligned with structure, with the regressor."""
    with figure_in(10.0, 4.3, out) as figure:
        panels = figure.subplots(1, 3)
        for axes, title in zip(
            panels,
            (
                "before: the second data set as it came",
                "after aligning: structure localizer",
                "after aligning: regressor",
            ),
            strict=True,
        ):
            _walls(axes, seen)
            axes.set_title(title, fontsize=9, loc="left", color=INK)
        _dots(panels[0], seen.before, WRONG, 9)
        for axes, answers, color in (
            (panels[1], seen.structured, STRUCTURED),
            (panels[2], seen.regressed, REGRESSED),
        ):
            _answers(axes, seen.truth, answers, color)
        for axes, shown in (
            (panels[0], np.vstack([seen.outline, seen.before])),
            (panels[1], seen.outline),
            (panels[2], seen.outline),
        ):
            low, high = shown.min(axis=0) - 0.8, shown.max(axis=0) + 0.8
            axes.set_xlim(low[0], high[0])
            axes.set_ylim(low[1], high[1])
        handles = [
            panels[0].scatter([], [], s=9, color=WALK, label="first camera's walk (train)"),
            panels[0].scatter(
                [], [], s=9, color=WRONG, label="second data set, own frame and unit"
            ),
            panels[1].scatter([], [], s=14, color=TRUE, label="second data set, aligned (truth)"),
            panels[1].scatter([], [], s=12, color=STRUCTURED, label="structure localizer"),
            panels[2].scatter([], [], s=12, color=REGRESSED, label="regressor"),
            panels[2].scatter([], [], s=26, marker="x", color=WRONG, label="refused to answer"),
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=8)


def _walls(axes: Axes, seen: Seen) -> None:
    axes.set_aspect("equal")
    corners = np.vstack([seen.outline, seen.outline[:1]])
    axes.fill(*seen.outline.T, color="#f5f6f7", zorder=0)
    axes.plot(*corners.T, color=SOFT, linewidth=1.2, zorder=2)
    _dots(axes, seen.walk, WALK, 2)
    axes.set_xlabel("m", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.grid(visible=False)


def _answers(
    axes: Axes, truth: Mapping[str, Floats], answers: Mapping[str, Floats], color: str
) -> None:
    both = [name for name in truth if name in answers]
    true = np.array([truth[name] for name in both])
    found = np.array([answers[name] for name in both])
    missing = np.array([truth[name] for name in truth if name not in answers])
    lines = list(np.stack([true, found], axis=1))
    axes.add_collection(LineCollection(lines, colors=color, linewidths=0.8, alpha=0.7, zorder=4))
    _dots(axes, true, TRUE, 10)
    _dots(axes, found, color, 6)
    if len(missing):
        _dots(axes, missing, WRONG, 22, marker="x")


def _dots(axes: Axes, at: Floats, color: str, size: float, marker: str = ".") -> None:
    width = 0.9 if marker == "x" else 0
    axes.scatter(at[:, 0], at[:, 1], s=size, color=color, marker=marker, linewidths=width, zorder=6)


def draw_prices(rows: Sequence[Price], story_m: float, out: Path) -> None:
    """Bars of the position error that each mistake makes one measure, on a logarithmic axis."""
    with figure_in(7.6, 0.42 * len(rows) + 1.2, out) as figure:
        axes = figure.subplots()
        right = rows[0]
        for place, row in enumerate(rows):
            for off, shift, color in (
                (row.regressor, -0.2, REGRESSED),
                (row.structure, 0.2, STRUCTURED),
            ):
                if off is not None:
                    _bar(axes, place + shift, off, color, believed=row.believed)
        for value, color in ((right.regressor, REGRESSED), (right.structure, STRUCTURED)):
            if value is not None:
                axes.axvline(value.position, color=color, linewidth=0.9, linestyle=":", zorder=1)
        axes.axvline(story_m, color=WRONG, linewidth=0.9, zorder=1)
        axes.annotate(
            f"the story: {story_m:.0f} m",
            (story_m, -0.75),
            (3, 0),
            textcoords="offset points",
            color=WRONG,
            fontsize=8,
            va="center",
        )
        axes.set_xscale("log")
        axes.set_xlim(_LEAST_M, _MOST_M)
        axes.set_yticks(range(len(rows)), [row.mistake for row in rows], fontsize=8.5)
        axes.set_ylim(len(rows) - 0.4, -1.1)
        axes.set_xlabel("median position error as then measured (m)")
        axes.grid(visible=False, axis="y")
        handles = [
            axes.barh([0], [0], color=REGRESSED, label="regressor"),
            axes.barh([0], [0], color=STRUCTURED, label="structure localizer"),
            axes.barh(
                [0], [0], color="white", edgecolor=REGRESSED, hatch="///", label="only believed"
            ),
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=8)


def _bar(axes: Axes, at: float, off: Off, color: str, *, believed: bool) -> None:
    value = off.position
    if not np.isfinite(value):
        axes.annotate(
            "more than half refused",
            (_LEAST_M, at),
            (4, 0),
            textcoords="offset points",
            fontsize=7.5,
            color=color,
            va="center",
        )
        return
    axes.barh(
        [at],
        [value],
        height=0.36,
        color="white" if believed else color,
        edgecolor=color,
        hatch="///" if believed else None,
        linewidth=0.8,
        zorder=3,
    )
    said = f"{value:.2g} m" if value >= 0.3 else f"{100 * value:.2g} cm"
    if off.rotation_deg >= _TURNED_DEG:
        said += f", {off.rotation_deg:.0f}°"
    axes.annotate(
        said, (value, at), (3, 0), textcoords="offset points", fontsize=7, va="center", color=INK
    )
