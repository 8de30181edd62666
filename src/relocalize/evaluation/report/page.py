"""The report's page: what `report.html` says and draws, and writing it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from relocalize.evaluation.calibration import EXPECTED
from relocalize.evaluation.metrics import LEAD_THRESHOLD
from relocalize.evaluation.names import PAGE
from relocalize.evaluation.report import charts, facts, tables
from relocalize.evaluation.report.map_figure import ARROW_FACTORS, map_figure, outside
from relocalize.evaluation.report.photos import photo_panels
from relocalize.evaluation.report.scene import Scene, train_images
from relocalize.evaluation.report.stored import Results
from relocalize.evaluation.report.thumbnails import thumbnails
from relocalize.evaluation.table import percent, threshold_label
from relocalize.place import Place, atomic
from relocalize.plotting.chart import plotly_figure
from relocalize.plotting.page import html_page

# A page stays below 10 MB, of which the figures' script takes 4.6 and the large photos of each
# localizer 0.3; thumbnails take what is left, and of a few images not more than is seen.
_PAGE_BYTES = 9_500_000
_MOST_OF_THUMBNAILS = 2_800_000
_LEAST_OF_THUMBNAILS = 300_000
_TWO_SIGMAS = EXPECTED[-2]  # the share of errors within two sigmas of one axis


def write_report(place: Place, evaluated: Results | str | None = None) -> Path:
    """Write ``reports/<split>/index.html`` from a stored evaluation.

    Args:
        place: with an evaluation.
        evaluated: the evaluation, or the name of its split; None takes the only one there is.

    Raises:
        EvaluationError: nothing was evaluated, or several splits and none is named.
        PlaceError: the results are damaged, or the Place lacks what they are about.
    """
    results = evaluated if isinstance(evaluated, Results) else Results.read(place, evaluated)
    with results.checked():
        shown = _shown(place, results)
        names = [row["image"] for row in results.images]
        without = _page(shown, results, [None] * len(names))
        budget = min(_PAGE_BYTES - len(without), _MOST_OF_THUMBNAILS)
        small = thumbnails(place, names, budget=max(budget, _LEAST_OF_THUMBNAILS))
        content = _page(shown, results, small)
    path = place.report_dir(results.split) / PAGE
    with place.lock():
        atomic.write_text(path, content)
    return path


def _shown(place: Place, results: Results) -> dict[str, Any]:
    """All that the template names, but the thumbnails."""
    train = train_images(place, results)
    scene = Scene.of(place, train, results)
    learning = charts.learning_charts(results)
    figures = {"map": map_figure(scene, results)}
    for drawn, height in (
        (charts.error_charts(results), 320),
        (charts.leakage_charts(results), 340),
        (charts.coverage_charts(results), 320),
        (learning, 260),
    ):
        figures |= {name: plotly_figure(chart, height=height) for name, chart in drawn.items()}
    accuracy, (differences, others) = (
        tables.accuracy_table(results),
        tables.difference_tables(results),
    )
    away = {name: outside(results, scene, name) for name in results.names}
    correlations = results.raw["leakage"]["distance"]["rank_correlation"]
    other = results.raw["beside"]
    return {
        "title": f"{place.name}: {results.split}",
        "place": place.name,
        "figures": figures,
        "summary": facts.summary(results),
        "tiles": facts.tiles(results),
        "measured": facts.measured(place, results),
        "accuracy": accuracy,
        "has_intervals": any(cell.small for cell in accuracy.cells),
        "has_faint": any(cell.is_faint for cell in accuracy.cells),
        "has_infinite": any(results.row(n)["median_position"] is None for n in results.names),
        "more": tables.more_table(results),
        "differences": differences,
        "other_differences": others,
        "outside": [f"{count} of {name}" for name, count in away.items() if count],
        "arrow_factors": ARROW_FACTORS,
        "lead_threshold": threshold_label(LEAD_THRESHOLD, " and "),
        "beyond_constant": [n for n in results.foremost if n != "constant"] or results.names,
        "correlations": [
            f"{name} {'−' if one < 0 else ''}{abs(one):.2f}"
            for name, one in correlations.items()
            if one is not None
        ],
        "other_split": tables.other_split_table(results),
        "other_split_near": other and facts.away(results, other["nearest_train_view"]),
        "stating": _lines(results, results.raw["calibration"]),
        "within_two_sigmas": _within_two_sigmas(results),
        "learning": list(learning),
        "trained": _lines(results, results.raw["made"]["learning_curves"]),
        "panels": photo_panels(place, results, train),
        "made": facts.made(results),
        "settings": facts.settings(results),
    }


def _page(shown: dict[str, Any], results: Results, thumbs: list[str | None]) -> str:
    images = {
        "localizers": [{"name": name, "color": line.color} for name, line in results.lines.items()],
        "names": [row["image"] for row in results.images],
        "thumbs": thumbs,
        "near": [facts.nearest_view(results, row) for row in results.images],
        "said": [
            [results.error_words(row, name) for name in results.names] for row in results.images
        ],
    }
    missing = thumbs.count(None)
    return html_page(
        "relocalize.evaluation.report",
        "report.html",
        **shown,
        results=results,
        images=images,
        missing=missing,
    )


def _lines(results: Results, found: dict[str, Any]) -> dict[str, Any]:
    """How those are drawn of which there is something."""
    return {name: line for name, line in results.lines.items() if found.get(name)}


def _within_two_sigmas(results: Results) -> str:
    """How many errors lie where `_TWO_SIGMAS` of them should, in words."""
    said = []
    for name in _lines(results, results.raw["calibration"]):
        found = results.raw["calibration"][name]
        at = found["expected"].index(_TWO_SIGMAS)
        said.append(
            f"{name} {percent(found['position'][at])} % of positions and "
            f"{percent(found['rotation'][at])} % of rotations"
        )
    return f"Where {percent(_TWO_SIGMAS)} % should lie: {', '.join(said)}."
