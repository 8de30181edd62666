"""Anyone's estimates against a truth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from relocalize.evaluation.scored_files import Score, ScoreSettings, score_files
from relocalize.formats import AUTO


def score(
    estimates: str | Path,
    truth: str | Path,
    *,
    format: str = AUTO,
    truth_format: str = AUTO,
    against: Sequence[str | Path] = (),
    only: str | Path | None = None,
    split: str | None = None,
    align: bool = False,
    unit: Literal["metre", "map unit"] | None = None,
) -> Score:
    """Score anyone's estimated poses against a truth: medians, recall, and how sure they are.

    Args:
        estimates: a file or folder of any format that is imported, or a Place.
        truth: the true poses of the same images, likewise; an image without an estimate has
            failed.
        format: of the estimates, or ``auto`` to look.
        truth_format: likewise.
        against: other estimates of the same images: which are better, with a p-value.
        only: a text file with the name of an image that counts on each line; None: all of the
            truth.
        split: where the truth is a Place: only the test images of this split count.
        align: lay the estimates over the truth by a robust similarity first. It is fitted to the
            scored images themselves, which flatters.
        unit: of the truth; None: what its format states. Recall needs metres.

    Raises:
        FormatError: a file is not what it should be.
        EvaluationError: no name of the two agrees, or no alignment comes of them.
    """
    settings = ScoreSettings(
        format=format,
        truth_format=truth_format,
        align=align,
        unit=unit,
        only=None if only is None else Path(only),
        split=split,
    )
    others = [Path(path) for path in against]
    return score_files(Path(estimates), Path(truth), against=others, settings=settings)
