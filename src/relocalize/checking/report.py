"""What a check found, as a value, as JSON and as text."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from relocalize.checking.conventions import Fit, Verdict

# Kinds of problems that are about a camera, not about poses.
INTRINSICS = ("focal length", "aspect", "principal point", "distortion")
_SHOWN = 5


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, or that nobody could test.

    Attributes:
        kind: ``convention``, ``undecided``, ``untestable``, ``rotation``, ``translation``,
            ``scale``, ``outlier``, ``contradiction``, ``focal length``, ``aspect``,
            ``principal point``, ``distortion``, ``duplicate``, ``same pose``, ``mirrored``,
            ``jump``, ``standing``, ``parts``, ``folded``, ``weak link``, ``loose``, ``untested``,
            ``unused`` or ``file``.
        images: that it concerns.
        message: one line for people, with the next step where there is one.
    """

    kind: str
    images: tuple[str, ...]
    message: str


@dataclass(frozen=True, repr=False)
class CheckReport:
    """What the images say of the claimed poses.

    Attributes:
        source: what was checked.
        images: images with a pose.
        pairs: of images whose relative pose was measured.
        stated: name of the claimed convention.
        verdict: of all conventions, or None where too few pairs could be measured.
        outliers: images whose pose the images contradict.
        problems: everything that is wrong, the gravest first.
        pair_error_px: median epipolar error in pixels of an image of 640, or None.
        three_view_error_px: median error of points from other views, likewise.
        complete: whether every image was tested; a quick check takes a sample.
        under_claimed: where the claimed intrinsics are at fault, as those that the matches want
            explain the images much better: the verdict with the claimed ones. All else is with
            the wanted ones then.
    """

    source: str
    images: int
    pairs: int
    stated: str
    verdict: Verdict | None
    outliers: tuple[str, ...]
    problems: tuple[Problem, ...]
    pair_error_px: float | None
    three_view_error_px: float | None
    complete: bool
    under_claimed: Verdict | None = None

    @property
    def consistent(self) -> bool:
        """Whether poses and intrinsics as claimed explain the images, and none does it better."""
        folded = any(problem.kind == "folded" for problem in self.problems)
        explained = self.verdict is not None and self.verdict.consistent
        return explained and self.intrinsics_hold and not folded

    @property
    def intrinsics_hold(self) -> bool:
        """Whether what is said of the poses needs no other intrinsics than the claimed ones."""
        return self.under_claimed is None

    @property
    def convention(self) -> str | None:
        """Name of the convention that explains the images, or None."""
        if self.verdict is None or not self.verdict.best.explains:
            return None
        return self.verdict.best.convention.name

    def __repr__(self) -> str:
        said = "consistent" if self.consistent else "NOT consistent"
        return f"CheckReport({self.source}: {said}, {self.convention}, {self.images} images)"

    def to_json(self) -> dict[str, Any]:
        """Plain values; an infinite margin (no other convention was left) is None."""
        verdict = self.verdict
        runner_up = verdict.runner_up if verdict else None
        return {
            "source": self.source,
            "consistent": self.consistent,
            "convention": self.convention,
            "stated": self.stated,
            "margin": verdict.margin if verdict and math.isfinite(verdict.margin) else None,
            "runner_up": runner_up.convention.name if runner_up else None,
            "decided": verdict.decided if verdict else False,
            "intrinsics_hold": self.intrinsics_hold,
            "images": self.images,
            "pairs": self.pairs,
            "stated_fit": _fit(verdict.stated) if verdict else None,
            "best_fit": _fit(verdict.best) if verdict else None,
            "pair_error_px": self.pair_error_px,
            "three_view_error_px": self.three_view_error_px,
            "complete": self.complete,
            "outliers": list(self.outliers),
            "problems": [asdict(problem) for problem in self.problems],
        }

    def to_text(self) -> str:
        """A few lines for people."""
        lines = [f"{self.source}: {self.images} posed images, {self.pairs} pairs measured"]
        verdict = self.verdict
        if verdict is not None:
            if verdict.consistent and self.intrinsics_hold and not self.consistent:
                name = verdict.best.convention.name
                lines.append(f"NOT consistent: {name} is right, and the poses are folded")
            else:
                lines.append(_judgement(verdict, self.under_claimed))
            lines.append(_measures(verdict.best, self.pair_error_px, self.three_view_error_px))
        for problem in self.problems:
            more = len(problem.images) - _SHOWN
            names = ", ".join(problem.images[:_SHOWN]) + (f", and {more} more" if more > 0 else "")
            lines.append(f"{problem.kind}: {problem.message}" + (f" [{names}]" if names else ""))
        if not self.problems:
            lines.append("nothing is wrong")
        return "\n".join(lines)


def _judgement(verdict: Verdict, under_claimed: Verdict | None) -> str:
    name = verdict.best.convention.name
    runner_up = (
        f"; the next best, {verdict.runner_up.convention.name}, is {verdict.margin:.1f} times "
        "further off"
        if verdict.runner_up
        else ""
    )
    if under_claimed is not None:
        off = under_claimed.best
        return (
            f"NOT consistent: the claimed intrinsics do not explain the images (off by a median "
            f"of {off.rotation_deg:.3g} deg of rotation, {off.direction_deg:.3g} deg of "
            f"direction, {off.error_px:.2g} px); with those below, {name} does{runner_up}"
        )
    if verdict.consistent:
        return f"consistent: {name}{runner_up}"
    if verdict.best.explains:
        return (
            f"NOT consistent: claimed is {verdict.stated.convention.name}, "
            f"the images say {name}{runner_up}"
        )
    return f"NOT consistent: claimed is {name}, and no convention explains the images"


def _measures(best: Fit, pair_error_px: float | None, three_view_error_px: float | None) -> str:
    parts = [
        f"between pairs {best.rotation_deg:.2g} deg of rotation, "
        f"{best.direction_deg:.2g} deg of direction"
    ]
    if pair_error_px is not None:
        parts.append(f"{pair_error_px:.2g} px from epipolar lines")
    if three_view_error_px is not None:
        parts.append(f"{three_view_error_px:.2g} px between three views")
    return "medians: " + ", ".join(parts) + " (pixels at 640 pixels of image size)"


def _fit(fit: Fit) -> dict[str, Any]:
    return {**asdict(fit), "convention": fit.convention.name, "explains": fit.explains}
