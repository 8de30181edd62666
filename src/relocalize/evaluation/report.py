"""The report: one self-contained HTML page about one evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from relocalize.errors import EvaluationError, PlaceError
from relocalize.evaluation.metrics import THRESHOLDS
from relocalize.evaluation.names import PAGE, RESULTS
from relocalize.evaluation.report_figures import FromAbove, cdf_figure, map_figure
from relocalize.evaluation.report_page import BASELINE_COLORS, color_of, page, text
from relocalize.evaluation.report_photos import ESTIMATED_COLOR, Pair, photo_svg
from relocalize.evaluation.table import (
    NONE,
    degrees,
    leakage_line,
    length,
    percent,
    threshold_label,
)
from relocalize.geometry import Rigid3, Similarity3
from relocalize.geometry.transforms import rotation_from_quat_wxyz
from relocalize.place import Place, PosedImage, atomic
from relocalize.place.folder import METRE, read_json

_PHOTOS = 3  # of the worst, and of those around the median
_NEXT = 8  # test images from one moment of a walk: a third of a second of video
_LEAD_THRESHOLD = THRESHOLDS[1]  # (5 cm, 5 deg), the one that indoor papers report


def write_report(place: Place, split: str | None = None) -> Path:
    """Write ``reports/<split>/index.html`` from the stored evaluation of a split.

    Args:
        place: with an evaluation.
        split: its name; None takes the only evaluated one.

    Raises:
        EvaluationError: nothing was evaluated, or several splits and none is named.
        PlaceError: the results are damaged.
    """
    results = stored_results(place, split)
    try:
        content = _page(place, results)
    except (KeyError, TypeError, IndexError) as error:
        raise PlaceError(
            f"the results of split {results.get('split')!r} are damaged ({error!r}); "
            f"make them again: relocalize evaluate {place.root}"
        ) from error
    path = place.report_dir(results["split"]) / PAGE
    with place.lock():
        atomic.write_text(path, content)
    return path


def stored_results(place: Place, split: str | None = None) -> dict[str, Any]:
    """The stored evaluation of a split; without a name, of the only evaluated one."""
    evaluated = sorted(path.parent.name for path in place.root.glob(f"reports/*/{RESULTS}"))
    if split is None and len(evaluated) == 1:
        split = evaluated[0]
    if split not in evaluated:
        what = f"evaluated splits are {evaluated}; name one" if evaluated else "nothing evaluated"
        raise EvaluationError(
            f"{place.root} has no evaluation of {split or 'a single split'} ({what}); "
            f"make one with: relocalize evaluate {place.root}"
        )
    return read_json(place.report_dir(split) / RESULTS)


def _page(place: Place, results: dict[str, Any]) -> str:
    metric = results["unit"] == METRE
    truth_from_place = _truth_from_place(results)
    train = _train_images(place, results)
    figures = {"map": map_figure(_from_above(place, train, truth_from_place), results)}
    figures["positions"] = cdf_figure(
        results,
        "position_error",
        "position error, cm" if metric else "position error, map units",
        factor=100 if metric else 1,
    )
    figures["rotations"] = cdf_figure(results, "rotation_error_deg", "rotation error, degrees")
    lead = _lead(results)
    body = "\n".join(
        [
            f"<h1>{text(place.name)}</h1>",
            f'<p class="soft">How well photos of this place are localized, split '
            f"{text(results['split'])}, {text(results['made']['finished'][:10])}</p>",
            _tiles(results, lead),
            "<h2>What was measured</h2>",
            _facts(place, results),
            "<h2>Accuracy</h2>",
            _table(results, lead),
            "<h2>From above</h2>",
            f"<p class=soft>Each line goes from a true camera position to where {text(lead)} "
            "puts it. The legend switches other localizers on.</p>",
            '<div class="figure"><div id="map"></div></div>',
            "<h2>Errors of all test images</h2>",
            "<p class=soft>The share of test images with an error up to the value below; "
            "a curve that ends under 100 % had failures.</p>",
            '<div class="pair"><div class="figure"><div id="positions"></div></div>'
            '<div class="figure"><div id="rotations"></div></div></div>',
            _photos(place, results, lead, train, truth_from_place),
            "<h2>How it was made</h2>",
            _made(results),
        ]
    )
    return page(f"{place.name}: {results['split']}", body, figures)


# -- numbers ----------------------------------------------------------------------------------


def _lead(results: dict[str, Any]) -> str:
    """The localizer that the page is about: the first that is no baseline."""
    names = [str(name) for name in results["localizers"]]
    return next((name for name in names if name not in BASELINE_COLORS), names[-1])


def _tiles(results: dict[str, Any], lead: str) -> str:
    row, metric = results["localizers"][lead], results["unit"] == METRE
    unit = "cm" if metric else "units"
    tiles = [
        (length(row["median_position"], metric=metric), unit, f"median position error, {lead}"),
        (degrees(row["median_rotation_deg"]), "°", "median rotation error"),
    ]
    if metric:
        share = percent(row["recall"][_LEAD_THRESHOLD.key])
        tiles.append((share, "%", f"within {threshold_label(_LEAD_THRESHOLD, ' and ')}"))
    tiles += [
        (str(row["failed"]), f"of {row['n']}", "not localized"),
        (f"{row['ms_median']:.0f}", "ms", "per photo, median"),
    ]
    return (
        '<div class="tiles">'
        + "".join(
            f'<div class="tile"><b>{text(value)} <small>{text(small)}</small></b>'
            f"<span>{text(label)}</span></div>"
            for value, small, label in tiles
        )
        + "</div>"
    )


def _facts(place: Place, results: dict[str, Any]) -> str:
    images, aligned = results["images"], results["aligned"]
    facts = [
        (
            "Images",
            f"{images['test']} test, {images['train']} train (split {results['split']}, "
            f"rule {results['rule']})"
            + (f"; {images['not_scored']} have no true pose" if images["not_scored"] else ""),
        ),
        ("Truth", results["truth"]),
        ("How exact", results["truth_exactness"]),
        (
            "Frame",
            f"the map was moved onto the truth by a {aligned['method']}: {aligned['inliers']} of "
            f"{aligned['images']} agree, scale {aligned['scale']:.5g}"
            if aligned
            else "truth and map share one",
        ),
        ("Unit", f"{results['unit']} ({place.frame.scale_from or 'nothing fixed the scale'})")
        if not aligned
        else ("Unit", f"{results['unit']}, of the truth"),
        ("Leakage", leakage_line(results)),
    ]
    rows = "".join(f"<dt>{text(key)}</dt><dd>{text(value)}</dd>" for key, value in facts)
    return f"<dl>{rows}</dl>"


def _table(results: dict[str, Any], lead: str) -> str:
    metric, names = results["unit"] == METRE, list(results["localizers"])
    heads = ["", "failed", f"median<br>{'cm' if metric else 'units'}", "median<br>deg"]
    if metric:
        heads += [f"% in<br>{threshold_label(one)}" for one in THRESHOLDS]
    heads += ["ms<br>median", "ms<br>p95", "CPU ms<br>median"]
    rows = []
    for name in names:
        row = results["localizers"][name]
        cells = [
            f'<td><span class="dot" style="background:{color_of(name, names)}"></span>'
            f"{text(name)}</td>",
            f"<td>{row['failed']}</td>",
            f"<td>{length(row['median_position'], metric=metric)}</td>",
            f"<td>{degrees(row['median_rotation_deg'])}</td>",
        ]
        for one in THRESHOLDS if metric else ():
            share = row["recall"][one.key]
            cells.append(
                f'<td class="recall" style="--share:{100 * share:.1f}%">{percent(share)}</td>'
            )
        cells += [f"<td>{row[key]:.0f}</td>" for key in ("ms_median", "ms_p95", "cpu_ms_median")]
        rows.append(f"<tr{' class=lead' if name == lead else ''}>{''.join(cells)}</tr>")
    note = (
        "% in: share of test images with both errors within."
        if metric
        else "No recall: the unit is not known in metres."
    )
    return (
        '<div class="scroll"><table><thead><tr>'
        + "".join(f"<th>{head}</th>" for head in heads)
        + f"</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
        + f'<p class="soft">{note} A failure counts as an infinite error. constant always answers '
        + "the mean train pose, retrieval the pose of the most similar train image: what an "
        + "estimate has to beat. ms are from decoded pixels to pose.</p>"
    )


def _made(results: dict[str, Any]) -> str:
    made = results["made"]
    versions = ", ".join(f"{name} {number}" for name, number in made["with"].items())
    settings = ", ".join(f"{key} {value}" for key, value in made["split"]["settings"].items())
    facts = [
        ("Finished", made["finished"]),
        ("With", f"{versions}; Python {made['python']}, {made['machine']}"),
        ("Split", f"{made['split']['rule']}: {settings or NONE}"),
        (
            "Fitting",
            ", ".join(f"{name} {value:.1f} s" for name, value in made["fit_seconds"].items())
            + " (0 where it was there already)",
        ),
        ("Numbers", f"{RESULTS} beside this page has every image"),
    ]
    rows = "".join(f"<dt>{text(key)}</dt><dd>{text(value)}</dd>" for key, value in facts)
    return f"<dl>{rows}</dl>"


# -- pictures ---------------------------------------------------------------------------------


def _truth_from_place(results: dict[str, Any]) -> Similarity3:
    aligned = results["aligned"]
    if not aligned:
        return Similarity3.identity()
    rotation = rotation_from_quat_wxyz(aligned["quat_wxyz"])
    return Similarity3(aligned["scale"], rotation, np.array(aligned["translation"]))


def _train_images(place: Place, results: dict[str, Any]) -> list[PosedImage]:
    posed = place.map.images
    return [posed[name] for name in place.split(results["split"]).train if name in posed]


def _from_above(place: Place, train: list[PosedImage], truth_from_place: Similarity3) -> FromAbove:
    if place.frame.up == "z":
        up = np.array([0.0, 0.0, 1.0])
    else:
        # People hold cameras upright: the mean of the pictures' up directions is nearly vertical.
        up = -np.mean([image.cam_from_world.rotation[1] for image in train], axis=0)
        up = up if np.linalg.norm(up) > 1e-6 else np.array([0.0, 0.0, 1.0])
    return FromAbove(
        up=truth_from_place.rotation @ up,
        points=truth_from_place @ place.points.positions,
        colors=place.points.colors,
        train=truth_from_place @ np.stack([image.world_from_cam.translation for image in train]),
    )


def _photos(
    place: Place,
    results: dict[str, Any],
    lead: str,
    train: list[PosedImage],
    truth_from_place: Similarity3,
) -> str:
    rows = results["per_image"]

    def badness(row: dict[str, Any]) -> float:
        error = row["localizers"][lead]["position_error"]
        return float("inf") if error is None else float(error)

    order = sorted(range(len(rows)), key=lambda row: badness(rows[row]), reverse=True)
    middle = max(0, len(order) // 2 - _PHOTOS)
    place_from_truth = truth_from_place.inverse()
    legend = (
        '<p class="soft">Map points in the photo: <span class="key" style="border:2px solid #fff;'
        'box-shadow:0 0 0 1px #0008"></span>where the true pose puts them, '
        f'<span class="key" style="background:{ESTIMATED_COLOR}"></span>where the estimate does. '
        "Apart by much: a wrong estimate; apart by the same little everywhere: the truth's own "
        "error may be as large.</p>"
    )
    parts = []
    for title, chosen in (
        (f"The worst photos for {lead}", _apart(order)),
        ("Typical photos", _apart(order[middle:])),
    ):
        figures = "".join(
            _figure(place, row, row["localizers"][lead], results, train, place_from_truth)
            for row in (rows[index] for index in chosen)
        )
        parts.append(f'<h2>{text(title)}</h2>{legend}<div class="photos">{figures}</div>')
        legend = ""
    return "\n".join(parts)


def _apart(order: list[int]) -> list[int]:
    """The first few test images that are not next to each other: neighbours show the same."""
    reach = min(_NEXT, len(order) // 12)  # few test images are not all of one moment
    chosen: list[int] = []
    for index in order:
        if len(chosen) < _PHOTOS and all(abs(index - other) > reach for other in chosen):
            chosen.append(index)
    return chosen


def _figure(
    place: Place,
    row: dict[str, Any],
    found: dict[str, Any],
    results: dict[str, Any],
    train: list[PosedImage],
    place_from_truth: Similarity3,
) -> str:
    metric = results["unit"] == METRE

    def in_place(pose: dict[str, Any]) -> Rigid3:
        return place_from_truth.move_camera(
            Rigid3.from_quat_wxyz(pose["quat_wxyz"], pose["position"])
        )

    estimated = None if found["position"] is None else in_place(found)
    if estimated is None:
        said = f"<b>failed</b>: {text(found['reason'])}"
    else:
        unit = "cm" if metric else "units"
        said = (
            f"<b>{length(found['position_error'], metric=metric)} {unit}, "
            f"{degrees(found['rotation_error_deg'])}°</b>"
        )
        if found["inliers"] is not None:
            said += f", {found['inliers']} inliers"
    picture = photo_svg(place, Pair(row["image"], in_place(row), estimated), train)
    return f"<figure>{picture}<figcaption>{said}<br>{text(row['image'])}</figcaption></figure>"
