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
from relocalize.evaluation.table import degrees, percent, threshold_label
from relocalize.place import Place, atomic
from relocalize.plotting.chart import Line, plotly_figure
from relocalize.plotting.page import html_page

# A page stays below 10 MB, of which the figures' script takes 4.6 and the large photos of each
# localizer 0.3; thumbnails take what is left, and of a few images not more than is seen.
_PAGE_BYTES = 9_500_000
_MOST_OF_THUMBNAILS = 2_800_000
_LEAST_OF_THUMBNAILS = 300_000
_TWO_SIGMAS = EXPECTED[-2]  # the share of errors within two sigmas of one axis


def write_report(place: Place, evaluated: Results | str | None = None) -> Path:
    """Write ``reports/<split>/index.html`` about an evaluation, that of a split, or the only one.

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
    away = {name: outside(results, scene, name) for name in results.names}
    differences, others = tables.difference_tables(results)
    return {
        "title": f"{place.name}: {results.split}",
        "place": place.name,
        "scale_from": place.frame.scale_from or "nothing fixed the scale",
        "figures": figures,
        "accuracy": tables.accuracy_table(results),
        "differences": differences,
        "other_differences": others,
        "other_split": tables.other_split_table(results),
        "outside": [f"{count} of {name}" for name, count in away.items() if count],
        "arrow_factors": ARROW_FACTORS,
        "lead_threshold": threshold_label(LEAD_THRESHOLD, " and "),
        "stating": _lines(results, results.raw["calibration"]),
        "two_sigmas": _TWO_SIGMAS,
        "learning": list(learning),
        "trained": _lines(results, results.raw["made"]["learning_curves"]),
        "panels": photo_panels(place, results, train),
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
    return html_page(
        "relocalize.evaluation.report",
        "report.html",
        **shown,
        results=results,
        raw=results.raw,
        images=images,
        words=facts,
        more_table=tables.more_table,
        degrees=degrees,
        percent=percent,
    )


def _lines(results: Results, found: dict[str, Any]) -> dict[str, Line]:
    """How those are drawn of which there is something."""
    return {name: line for name, line in results.lines.items() if found.get(name)}
