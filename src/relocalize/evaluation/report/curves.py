"""What the figures show, as numbers: made once, drawn on the page and for papers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from relocalize.evaluation.report.stored import Results
from relocalize.geometry.transforms import FloatArray

POSITION, ROTATION = "position_error", "rotation_error_deg"


@dataclass(frozen=True, eq=False)
class Distribution:
    """The errors of one localizer as a cumulative distribution.

    Attributes:
        errors: [K] of the images that did not fail, ascending.
        percent: [K] of all test images with an error up to that.
    """

    errors: FloatArray
    percent: FloatArray


def distribution(results: Results, name: str, key: str) -> Distribution:
    """Of `POSITION` errors, in the results' `length_unit`, or `ROTATION` errors, in degrees."""
    errors = results.errors(name, key)
    finite = np.sort(errors[np.isfinite(errors)])
    return Distribution(finite, 100 * np.arange(1, len(finite) + 1) / len(errors))


def error_range(results: Results, key: str) -> tuple[float, float]:
    """A range for a logarithmic axis that holds all errors but the very smallest."""
    errors = np.concatenate([results.errors(name, key) for name in results.names])
    positive = errors[np.isfinite(errors) & (errors > 0)]
    if not len(positive):
        return 0.01, 1.0
    low, high = float(np.percentile(positive, 0.5)), float(positive.max())
    return low / 1.5, max(high * 1.5, low * 10)


@dataclass(frozen=True, eq=False)
class Coverage:
    """How often errors lie within what was stated of them.

    Attributes:
        expected: [B] percent.
        observed: [B] percent.
        n: how many errors.
    """

    expected: FloatArray
    observed: FloatArray
    n: int


def coverage_of(results: Results, name: str, part: str) -> Coverage | None:
    """Of ``position`` or ``rotation``; None where the localizer states nothing."""
    found = results.raw["calibration"].get(name)
    if not found:
        return None
    return Coverage(100 * np.array(found["expected"]), 100 * np.array(found[part]), found["n"])


@dataclass(frozen=True, eq=False)
class LearningCurve:
    """A number of a training, epoch by epoch.

    Attributes:
        epochs: [E].
        values: [E], NaN where there is none.
        kept: the epoch whose weights were kept, or None.
    """

    epochs: FloatArray
    values: FloatArray
    kept: int | None


def learning_curves(results: Results, key: str) -> dict[str, LearningCurve]:
    """``train_loss``, ``validation_position`` or ``validation_rotation_deg`` of the trained ones.

    Positions are in cm of trainings in metres, else in their unit.
    """
    curves = {}
    for name, found in results.raw["made"]["learning_curves"].items():
        values = np.array([np.nan if one is None else one for one in found[key]], dtype=float)
        if key == "validation_position" and results.training_is_metric:
            values = 100 * values
        if np.isfinite(values).any():
            epochs = np.array(found["epoch"], dtype=float)
            curves[name] = LearningCurve(epochs, values, found["kept"])
    return curves


@dataclass(frozen=True, eq=False)
class LeakageCurve:
    """Errors against how far the nearest train view is.

    Attributes:
        apart: [N] of each test image: distances in the results' `length_unit`, or degrees.
        middles: [B] of bins of equally many images: where their median lies.
        medians: by localizer [B], median errors; infinite where half of a bin failed.
        correlations: by localizer, rank correlation of position error and distance, or None.
    """

    apart: FloatArray
    middles: FloatArray
    medians: dict[str, FloatArray]
    correlations: dict[str, float | None]

    @property
    def low(self) -> float:
        """The nearest."""
        return float(self.apart.min())

    @property
    def high(self) -> float:
        """The farthest."""
        return float(self.apart.max())


def leakage_curve(results: Results, key: str) -> LeakageCurve:
    """`POSITION` errors against distances, `ROTATION` errors against angles."""
    measure, stored, median, factor = (
        ("distance", "nearest_train_distance", "median_position", results.factor)
        if key == POSITION
        else ("angle_deg", "nearest_train_angle_deg", "median_rotation_deg", 1.0)
    )
    apart = factor * np.array([row[stored] for row in results.images], dtype=float)
    found = results.raw["leakage"][measure]
    bins = found["bins"]
    order, start, middles = np.sort(apart), 0, []
    for one in bins:
        middles.append(float(np.median(order[start : start + one["n"]])))
        start += one["n"]
    medians = {
        name: factor
        * np.array(
            [
                np.inf if (value := one["localizers"][name][median]) is None else value
                for one in bins
            ],
            dtype=float,
        )
        for name in results.names
    }
    return LeakageCurve(apart, np.array(middles), medians, found["rank_correlation"])


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2, 5, 10, ... within, or only the tens where those were too many."""
    tens = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    digits = (1, 2, 5) if np.log10(high / low) <= 2.8 else (1,)
    ticks = [digit * 10.0**ten for ten in tens for digit in digits]
    return [float(f"{one:.1g}") for one in ticks if low <= one <= high]
