"""Writing the page."""

from __future__ import annotations

from pathlib import Path

from relocalize.evaluation.names import PAGE
from relocalize.evaluation.report.page import Images, page
from relocalize.evaluation.report.photo_section import photo_section
from relocalize.evaluation.report.scene import Scene, train_images
from relocalize.evaluation.report.stored import Results
from relocalize.evaluation.report.thumbnails import thumbnails
from relocalize.place import Place, atomic

# A page stays below 10 MB, of which the figures' script takes 4.6 and the large photos of each
# localizer 0.3; thumbnails take what is left, and of a few images not more than is seen.
_PAGE_BYTES = 9_500_000
_MOST_OF_THUMBNAILS = 2_800_000
_LEAST_OF_THUMBNAILS = 300_000


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
        scene = Scene.of(place, train, results)
        photos = photo_section(place, results, train)
        without = page(place, results, scene, Images([None] * len(names), photos))
        budget = min(_PAGE_BYTES - len(without), _MOST_OF_THUMBNAILS)
        small = thumbnails(place, names, budget=max(budget, _LEAST_OF_THUMBNAILS))
        content = page(place, results, scene, Images(small, photos))
    path = place.report_dir(results.split) / PAGE
    with place.lock():
        atomic.write_text(path, content)
    return path
