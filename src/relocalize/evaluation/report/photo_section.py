"""The report's worst and typical photos, for each localizer."""

from __future__ import annotations

from html import escape
from typing import Any

from relocalize.evaluation.names import TRIVIAL
from relocalize.evaluation.report.photos import ESTIMATED_COLOR, Pair, photo_svg
from relocalize.evaluation.report.stored import Results
from relocalize.evaluation.table import degrees
from relocalize.geometry import Rigid3
from relocalize.place import Place, PosedImage

_PHOTOS = 3  # of the worst, and of those around the median
_NEXT = 25  # test images from one moment of a walk: a second of video


def photo_section(place: Place, results: Results, train: list[PosedImage]) -> str:
    """Panels of photos with map points where the true and the estimated pose put them.

    One panel for each of the foremost localizers that looks at what is in the photo, or for the
    last row where none does.
    """
    shown = [name for name in results.foremost if name not in TRIVIAL] or [results.lead]
    buttons = "".join(
        f'<button type="button" data-panel="{escape(name)}" '
        f'aria-pressed="{"true" if name == results.lead else "false"}">{escape(name)}</button>'
        for name in shown
    )
    tabs = f'<div class="tabs">{buttons}</div>' if len(shown) > 1 else ""
    panels = "".join(
        f'<div class="panel{"" if name == results.lead else " away"}" data-panel="{escape(name)}">'
        f"{_panel(place, results, name, train)}</div>"
        for name in shown
    )
    return (
        "<h2>In the photos</h2>"
        '<p class="soft">Points of the map in the photo: '
        '<span class="ring"></span>where the true pose puts them, '
        f'<span class="dot" style="background:{ESTIMATED_COLOR}"></span>where the estimate does. '
        "Where every dot sits in its ring, the estimate sees what the truth sees; all dots off to "
        "one side are a turn of the camera, near ones off by more a shift.</p>"
        f"{tabs}{panels}"
    )


def _panel(place: Place, results: Results, name: str, train: list[PosedImage]) -> str:
    rows = results.images

    def badness(index: int) -> float:
        error = rows[index]["localizers"][name]["position_error"]
        return float("inf") if error is None else float(error)

    order = sorted(range(len(rows)), key=badness, reverse=True)
    worst = _apart(order)
    answered = [index for index in order if badness(index) < float("inf")]
    ranks = sorted(range(len(answered)), key=lambda rank: abs(rank - (len(answered) - 1) / 2))
    typical = _apart([answered[rank] for rank in ranks if answered[rank] not in worst])
    parts = []
    for title, chosen in (
        (f"The worst photos for {name}", worst),
        (f"Typical photos for {name}: around the median error of its answers", typical),
    ):
        if chosen:
            figures = "".join(_figure(place, results, rows[at], name, train) for at in chosen)
            parts.append(f'<h3>{escape(title)}</h3><div class="photos">{figures}</div>')
    return "".join(parts)


def _apart(order: list[int]) -> list[int]:
    """The first few test images that are not next to each other: neighbours show the same."""
    reach = min(_NEXT, len(order) // 12)  # few test images are not all of one moment
    chosen: list[int] = []
    for index in order:
        if len(chosen) < _PHOTOS and all(abs(index - other) > reach for other in chosen):
            chosen.append(index)
    return chosen


def _figure(
    place: Place, results: Results, row: dict[str, Any], name: str, train: list[PosedImage]
) -> str:
    found = row["localizers"][name]
    place_from_truth = results.truth_from_place.inverse()

    def in_place(pose: dict[str, Any]) -> Rigid3:
        return place_from_truth.move_camera(
            Rigid3.from_quat_wxyz(pose["quat_wxyz"], pose["position"])
        )

    estimated = None if found["position"] is None else in_place(found)
    if estimated is None:
        said = f"<b>failed</b>: {escape(str(found['reason']))}"
    else:
        said = f"<b>{escape(results.error_words(row, name))}</b>"
        if found["position_sigma"] is not None:
            stated = results.truth_from_place.scale * found["position_sigma"]
            said += (
                f", stated ± {escape(results.length(stated))}, "
                f"{degrees(found['rotation_sigma_deg'])}°"
            )
        if found["inliers"] is not None:
            said += f", {found['inliers']} inliers"
    near = (
        f"nearest train view {results.length(row['nearest_train_distance'])}, "
        f"{degrees(row['nearest_train_angle_deg'])}° away"
    )
    image = photo_svg(place, Pair(row["image"], in_place(row), estimated), train)
    return (
        f"<figure>{image}<figcaption>{said}<br>{escape(near)}<br>{escape(row['image'])}"
        "</figcaption></figure>"
    )
