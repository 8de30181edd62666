"""The report's charts: errors, leakage, calibration and learning of each localizer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from relocalize.evaluation.metrics import LEAD_THRESHOLD
from relocalize.evaluation.report.stored import Results
from relocalize.geometry.transforms import FloatArray
from relocalize.plotting.chart import Axis, Chart, Series, diagonal

POSITION, ROTATION = "position_error", "rotation_error_deg"
_ROOM = 1.04  # in logarithms, above all errors: failures lie there
# What a training's log has, with the words for it.
_LEARNT = {
    "train_loss": "train loss",
    "validation_position": "validation position error",
    "validation_rotation_deg": "validation rotation error, °",
}


def error_charts(results: Results) -> dict[str, Chart]:
    """The share of all test images with an error up to x, on a logarithmic axis."""
    return {"positions": _errors(results, POSITION), "rotations": _errors(results, ROTATION)}


def _errors(results: Results, key: str) -> Chart:
    low, high = _error_range(results, key)
    series = []
    for name, line in results.lines.items():
        errors = results.errors(name, key)
        known = np.sort(np.maximum(errors[np.isfinite(errors)], low))
        x, y = known, 100 * np.arange(1, len(known) + 1) / len(errors)
        if len(known):
            # From the first error, at no height yet, to the end of the axis.
            x, y = np.array([x[0], *x, high]), np.array([0, *y, y[-1]])
        hover = f"<b>%{{y:.1f}} %</b> {name}"
        series.append(Series(name, x, y, line, steps="hv", hover=hover))
    sigma = results.truth_sigma(key)
    rule = 100 * LEAD_THRESHOLD.position_m if key == POSITION else LEAD_THRESHOLD.rotation_deg
    unit = results.length_unit if key == POSITION else "°"
    return Chart(
        Axis(_label(results, key), (low, high), is_log=True),
        Axis("% of test images", (0, 102)),
        tuple(series),
        shade=(low, sigma) if sigma is not None and sigma > low else None,
        rule=rule if results.is_metric else None,
        all_at=f"within %{{x:.3g}} {unit}",
    )


def leakage_charts(results: Results) -> dict[str, Chart]:
    """Errors against how far the nearest train view is: an image a dot, a line joins medians."""
    return {
        "near-positions": _leakage(results, POSITION),
        "near-rotations": _leakage(results, ROTATION),
    }


def _leakage(results: Results, key: str) -> Chart:
    if key == POSITION:
        measure, stored, median = "distance", "nearest_train_distance", "median_position"
        factor, label = results.factor, f"distance of the nearest train view, {results.length_unit}"
    else:
        measure, stored, median = "angle_deg", "nearest_train_angle_deg", "median_rotation_deg"
        factor, label = 1.0, "angle to the nearest train view, °"
    apart = factor * np.array([row[stored] for row in results.images], dtype=float)
    bins = results.raw["leakage"][measure]["bins"]
    ends = np.cumsum([one["n"] for one in bins])[:-1]
    middles = np.array([np.median(part) for part in np.split(np.sort(apart), ends)])
    low, high = _error_range(results, key)
    top = low * (high / low) ** _ROOM
    series = []
    for name, line in results.lines.items():
        errors = results.errors(name, key)
        failed = ~np.isfinite(errors)
        shown = np.where(failed, high, np.maximum(errors, low))
        for rows, size, marker in ((~failed, 5, "circle"), (failed, 8, "x")):
            if rows.any():
                dots = Series(name, apart[rows], shown[rows], line, width=0, opacity=0.45)
                images = np.flatnonzero(rows)
                series.append(replace(dots, marker=marker, size=size, images=images))
        medians = _numbers(one["localizers"][name][median] for one in bins)
        series.append(Series(name, middles, factor * medians, line, marker="circle", size=7))
    nearest, farthest = max(float(apart.min()), low), min(float(apart.max()), high)
    if nearest < farthest:
        series.append(diagonal(nearest, farthest, 30))
    margin = 0.03 * max(float(np.ptp(apart)), 1e-9)
    return Chart(
        Axis(label, (float(apart.min()) - margin, float(apart.max()) + margin)),
        Axis(_label(results, key), (low, top), is_log=True),
        tuple(series),
    )


def coverage_charts(results: Results) -> dict[str, Chart]:
    """Which share of errors lies where so many should; none where nothing was stated."""
    stated = {name: found for name, found in results.raw["calibration"].items() if found}
    charts = {}
    for part in ("position", "rotation") if stated else ():
        series = [diagonal(0, 100)]
        for name in filter(stated.__contains__, results.names):
            x, y = (100 * np.array([0, *stated[name][key]]) for key in ("expected", part))
            hover = f"{name}: <b>%{{y:.0f}} %</b> of errors where %{{x:.0f}} % should be"
            line = results.lines[name]
            series.append(Series(name, x, y, line, marker="circle", hover=hover))
        charts[f"sure-{part}s"] = Chart(
            Axis(f"expected % of {part} errors", (0, 102)),
            Axis("observed %", (0, 102)),
            tuple(series),
        )
    return charts


def learning_charts(results: Results) -> dict[str, Chart]:
    """Each training epoch by epoch, with a ring at the epoch that was kept."""
    charts = {}
    for key, label in _LEARNT.items():
        factor = 1.0
        if key == "validation_position":
            factor = 100.0 if results.training_is_metric else 1.0
            label += ", cm" if results.training_is_metric else ", map units"  # noqa: PLW2901
        series, shown = [], [np.empty(0)]
        for name, found in results.raw["made"]["learning_curves"].items():
            values = factor * _numbers(found[key])
            known = np.isfinite(values)
            epochs, values = np.array(found["epoch"], dtype=float)[known], values[known]
            if not len(values):
                continue
            line, hover = results.lines[name], f"{name}, epoch %{{x}}: <b>%{{y:.3g}}</b>"
            series.append(Series(name, epochs, values, line, width=2, hover=hover))
            kept = epochs == found["kept"]
            ring = Series(name, epochs[kept], values[kept], line, width=0, marker="ring", size=11)
            series.append(replace(ring, hover=f"{name} as of epoch %{{x}} was kept"))
            shown.append(values[values > 0])
        positive = np.concatenate(shown)
        axis = Axis(label)
        if key != "train_loss" and len(positive):  # a loss can be negative
            axis = Axis(label, (positive.min() / 1.2, positive.max() * 1.2), is_log=True)
        if series:
            charts[f"learning-{key}"] = Chart(Axis("epoch"), axis, tuple(series))
    return charts


def _label(results: Results, key: str) -> str:
    return f"position error, {results.length_unit}" if key == POSITION else "rotation error, °"


def _error_range(results: Results, key: str) -> tuple[float, float]:
    """A range for a logarithmic axis that holds all errors but the very smallest."""
    errors = np.concatenate([results.errors(name, key) for name in results.names])
    positive = errors[np.isfinite(errors) & (errors > 0)]
    if not len(positive):
        return 0.01, 1.0
    low, high = float(np.percentile(positive, 0.5)), float(positive.max())
    return low / 1.5, max(high * 1.5, low * 10)


def _numbers(values: Iterable[float | None]) -> FloatArray:
    """Stored numbers, NaN where there is none."""
    return np.array([np.nan if one is None else one for one in values], dtype=float)
