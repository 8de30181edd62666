"""The page's sections, each a heading, what one sees, and its figures or tables as HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

from relocalize.evaluation.calibration import EXPECTED
from relocalize.evaluation.metrics import LEAD_THRESHOLD
from relocalize.evaluation.report.accuracy_table import AccuracyTable
from relocalize.evaluation.report.curves import (
    POSITION,
    ROTATION,
    leakage_curve,
    learning_curves,
)
from relocalize.evaluation.report.figures import (
    Figure,
    coverage_figure,
    error_figure,
    leakage_figure,
    learning_figure,
)
from relocalize.evaluation.report.map_figure import ARROW_FACTORS, map_figure, outside
from relocalize.evaluation.report.page_tables import (
    html_beside,
    html_differences,
    html_more,
    html_table,
)
from relocalize.evaluation.report.scene import Scene
from relocalize.evaluation.report.stored import Results
from relocalize.evaluation.table import NONE, percent, threshold_label

_MOST = EXPECTED[-2]  # within two sigmas of one axis


@dataclass(frozen=True, eq=False)
class Section:
    """A part of the page.

    Attributes:
        html: what it says, with an empty ``div`` with the name of each figure as its id.
        figures: what plotly draws, by name.
    """

    html: str
    figures: dict[str, Figure] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """``whole`` where it is not to be cut when it is printed: figures with their words."""
        return "whole" if self.figures else "words"


def accuracy_section(results: Results) -> Section:
    """The table, and which of its differences are more than chance."""
    table = AccuracyTable.of(results)
    notes = [
        "Small: 95% intervals."
        if any(cell.interval for row in table.rows.values() for cell in row)
        else "Too few stretches of test images for intervals.",
        "A distance and an angle: % of test images with both errors within."
        if results.is_metric
        else "No recall: the unit is not known in metres.",
        "A failure counts as an infinite error"
        + (
            f"; {NONE}: half failed, so that the median is infinite."
            if any(results.row(name)["median_position"] is None for name in results.names)
            else "."
        ),
        "constant always answers the mean train pose, retrieval the pose of the most similar "
        "train image: what an estimate has to beat.",
        "ms are from decoded pixels to pose.",
    ]
    if table.has_below_truth:
        notes.append("Grey: below what the truth itself is off, so that it says no more.")
    differences = html_differences(results)
    if differences:
        differences = (
            "<h3>Is the difference more than chance?</h3>"
            '<p class="soft">Both localizers on the same images: the difference, its 95% interval, '
            "and how often chance alone would make one as large (p, corrected for the number of "
            f"pairs). Errors below zero and shares above zero speak for {escape(results.lead)}."
            f"</p>{differences}"
        )
    return Section(
        f"<h2>Accuracy</h2>{html_table(results)}"
        f'<p class="soft">{escape(" ".join(notes))}</p>'
        f"<details><summary>More numbers</summary>{html_more(results)}</details>{differences}"
    )


def map_section(results: Results, scene: Scene, thumbnails: Sequence[str | None]) -> Section:
    """The place from above with its switches."""
    buttons = "".join(
        f'<button type="button" data-factor="{one}">'
        f"{'true size' if one == 1 else f'× {one}'}</button>"
        for one in ARROW_FACTORS
    )
    away = [
        f"{count} of {name}"
        for name in results.names
        if (count := outside(results, scene, name)) > 0
    ]
    beyond = f" Estimates outside the image: {', '.join(away)}." if away else ""
    few = sum(one is None for one in thumbnails)
    missing = f" {few} of {len(thumbnails)} photos have no image here." if few else ""
    html = (
        "<h2>From above</h2>"
        '<p class="soft">Each arrow goes from a dot, where a photo was truly taken, to where it is '
        "estimated to be; a cross is a photo that was not localized. Grey dots are train views, "
        f"behind them lie the points of the map.{escape(beyond)}{escape(missing)} "
        '<span class="hint">A dot under the pointer shows its photo.</span></p>'
        f'<div class="bar">{_legend(results, ("map",), on=(results.lead,))}'
        f'<div class="stretch"><label>arrows</label>{buttons}</div>'
        '<div class="zoom"><button type="button" data-by="0.6" aria-label="zoom in">+</button>'
        '<button type="button" data-by="1.6667" aria-label="zoom out">−</button>'
        '<button type="button" data-by="0" aria-label="show all">⤢</button></div></div>'
        '<figure class="plot"><div id="map" data-width="full"></div></figure>'
        '<p class="soft hint">Drag to move; Ctrl and the wheel, or the buttons, zoom.</p>'
    )
    return Section(html, {"map": map_figure(scene, results)})


def errors_section(results: Results) -> Section:
    """How errors are distributed."""
    figures = {
        "positions": error_figure(results, POSITION),
        "rotations": error_figure(results, ROTATION),
    }
    grey = " Grey: below what the truth itself is off." if results.raw["truth_sigma"] else ""
    rule = (
        f" The dotted lines are at {threshold_label(LEAD_THRESHOLD, ' and ')}."
        if results.is_metric
        else ""
    )
    html = (
        "<h2>Errors of all test images</h2>"
        '<p class="soft">The share of test images with an error up to the value below: further '
        "left and higher is better, and a curve that ends under 100 % had failures."
        f"{escape(rule)}{grey}</p>"
        f'<div class="bar">{_legend(results, tuple(figures))}</div>'
        f'<div class="pair">{_plot("positions", "Position error")}'
        f"{_plot('rotations', 'Rotation error')}</div>"
    )
    return Section(html, figures)


def leakage_section(results: Results) -> Section:
    """Errors against how near the nearest train view is, and another split beside this one."""
    ids = ("near-positions", "near-rotations")
    figures = {
        ids[0]: leakage_figure(results, POSITION),
        ids[1]: leakage_figure(results, ROTATION),
    }
    shown = [name for name in results.foremost if name != "constant"] or results.names
    html = (
        "<h2>Far from the train views</h2>"
        '<p class="soft">A dot is a test image: how far the train view most like it is, and its '
        "error; lines go through medians of equally many images, crosses at the top are failures. "
        "On the dotted line, an answer is as far off as the nearest train view; well below it, the "
        "place was learnt and not the frames. A curve that rises to the right says that a test set "
        "further away would look worse.</p>"
        f'<div class="bar">{_legend(results, ids, on=shown)}</div>'
        f'<div class="pair">{_plot(ids[0], "Position error by distance to that view")}'
        f"{_plot(ids[1], 'Rotation error by angle to that view')}</div>"
        f"{_correlations(results)}{html_beside(results)}"
    )
    return Section(html, figures)


def _correlations(results: Results) -> str:
    found = leakage_curve(results, POSITION).correlations
    words = ", ".join(
        f"{name} {'−' if one < 0 else ''}{abs(one):.2f}"
        for name, one in found.items()
        if one is not None
    )
    if not words:
        return ""
    return (
        '<p class="soft after">Rank correlation of position error and distance (1: every error '
        f"grows with the distance): {escape(words)}.</p>"
    )


def calibration_section(results: Results) -> Section:
    """Stated uncertainties against errors."""
    stating = [name for name in results.names if results.raw["calibration"].get(name)]
    if not stating:
        return Section(
            "<h2>Do they know how wrong they are?</h2>"
            '<p class="soft">No localizer stated an uncertainty.</p>'
        )
    noise = (
        "The noise between this truth and the map is added to what is stated"
        if results.raw["aligned"]
        else "Errors of the truth count as the localizer’s"
    )
    ids = ("sure-positions", "sure-rotations")
    html = (
        "<h2>Do they know how wrong they are?</h2>"
        '<p class="soft">With each pose comes a covariance. Across: the share of errors that '
        "should lie within an ellipsoid of it; up: the share that does. On the diagonal, what is "
        "stated is true; below it, errors are larger than stated: too sure; above it, smaller: too "
        f"cautious. {noise}; failures state nothing. constant states the spread of the train "
        "poses; the others learnt what to state on blocks of time of the train images, regressors "
        "on varied copies of these, and are too sure of test images that differ more from the "
        "train views.</p>"
        f'<div class="bar">{_legend(results, ids, names=stating)}</div>'
        f'<div class="pair">{_plot(ids[0], "Positions within what was stated")}'
        f"{_plot(ids[1], 'Rotations within what was stated')}</div>"
        f'<p class="soft after">{escape(_within_two_sigmas(results, stating))}</p>'
    )
    figures = {
        ids[0]: coverage_figure(results, "position"),
        ids[1]: coverage_figure(results, "rotation"),
    }
    return Section(html, figures)


def _within_two_sigmas(results: Results, names: Sequence[str]) -> str:
    """How many errors lie where `_MOST` of them should, in words."""
    said = []
    for name in names:
        found = results.raw["calibration"][name]
        at = found["expected"].index(_MOST)
        said.append(
            f"{name} {percent(found['position'][at])} % of positions and "
            f"{percent(found['rotation'][at])} % of rotations"
        )
    return f"Where {percent(_MOST)} % should lie: {', '.join(said)}."


def learning_section(results: Results) -> Section:
    """Learning curves of those that were trained; nothing where none was."""
    trained = list(results.raw["made"]["learning_curves"])
    if not trained:
        return Section("")
    titles = {
        "train_loss": "Loss on train images",
        "validation_position": "Median validation position error, "
        + ("cm" if results.training_is_metric else "map units"),
        "validation_rotation_deg": "Median validation rotation error, °",
    }
    shown = [key for key in titles if learning_curves(results, key)]
    figures = {f"learning-{key}": learning_figure(results, key) for key in shown}
    plots = "".join(_plot(f"learning-{key}", titles[key], width="third") for key in shown)
    html = (
        "<h2>How they learnt</h2>"
        '<p class="soft">By epoch. Validation images were cut from the train images by time and '
        "not trained on; the ring is the epoch that was kept.</p>"
        f'<div class="bar">{_legend(results, tuple(figures), names=trained)}</div>'
        f'<div class="triple">{plots}</div>'
    )
    return Section(html, figures)


def _plot(name: str, title: str, *, width: str = "half") -> str:
    return (
        f'<figure class="plot"><h3>{escape(title)}</h3>'
        f'<div id="{name}" data-width="{width}"></div></figure>'
    )


def _legend(
    results: Results,
    figures: Sequence[str],
    *,
    names: Sequence[str] | None = None,
    on: Sequence[str] | None = None,
) -> str:
    """The localizers of some figures as switches, those of ``on`` (the foremost) switched on."""
    shown = results.names if names is None else names
    switched_on = results.foremost if on is None else on
    buttons = "".join(
        f'<button type="button" data-name="{escape(name)}" '
        f'aria-pressed="{"true" if name in switched_on else "false"}">'
        f"{results.lines[name].html}{escape(name)}</button>"
        for name in shown
    )
    return f'<div class="legend" data-figures="{" ".join(figures)}">{buttons}</div>'
