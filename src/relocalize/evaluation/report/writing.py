"""Writing the page."""

from __future__ import annotations

from pathlib import Path

from relocalize.evaluation.names import PAGE
from relocalize.evaluation.report.page import Pictures, page
from relocalize.evaluation.report.photo_section import photo_section
from relocalize.evaluation.report.scene import Scene, train_images
from relocalize.evaluation.report.stored import Results
from relocalize.evaluation.report.thumbnails import thumbnails
from relocalize.place import Place, atomic

# Of thumbnails: beside the figures' script (4.6 MB) and the large photos, a page stays below 10 MB.
_THUMBNAIL_BYTES = 2_800_000


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
        train = train_images(place, results)
        names = [row["image"] for row in results.images]
        pictures = Pictures(
            thumbnails(place, names, budget=_THUMBNAIL_BYTES),
            photo_section(place, results, train),
        )
        content = page(place, results, Scene.of(place, train, results), pictures)
    path = place.report_dir(results.split) / PAGE
    with place.lock():
        atomic.write_text(path, content)
    return path
