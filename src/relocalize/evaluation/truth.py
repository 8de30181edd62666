"""The poses that estimates are measured against, and what is known of their exactness."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from relocalize import progress
from relocalize.errors import EvaluationError, GeometryError
from relocalize.formats import match_names, read_registration
from relocalize.geometry import Alignment, Rigid3, Similarity3, align_camera_poses
from relocalize.geometry.transforms import FloatArray
from relocalize.mapping.stored_model import stored_report
from relocalize.place import Place, Split
from relocalize.place.folder import METRE


@dataclass(frozen=True, eq=False)
class Truth:
    """True poses of a Place's images."""

    world_from_cam: dict[str, Rigid3]  # by image name, in the truth's own frame
    unit: str  # of that frame: ``metre`` or ``map unit``
    source: str  # where the poses come from, for people
    exactness: str  # one line on how exact they are
    # of the Place's frame with the truth's, on train images; None where they are the same
    alignment: Alignment | None = None

    @property
    def truth_from_place(self) -> Similarity3:
        """Moves the Place's frame onto the truth's."""
        return Similarity3.identity() if self.alignment is None else self.alignment.b_from_a

    @property
    def is_metric(self) -> bool:
        """Whether errors are in metres."""
        return self.unit == METRE

    @property
    def noise_in_place(self) -> FloatArray:
        """[6, 6] covariance of its poses (centre, rotation in radians) in the Place's frame.

        Of a truth of another origin, as the alignment with the map found it; zero of the Place's
        own poses, whose noise localizers know of.
        """
        if self.alignment is None:
            return np.zeros((6, 6))
        centre = self.alignment.position_sigma / self.truth_from_place.scale
        turn = np.radians(self.alignment.rotation_sigma_deg)
        return np.diag([centre] * 3 + [turn] * 3) ** 2


def alignment_to_json(alignment: Alignment, images: str) -> dict[str, Any]:
    """What is to be known of an alignment fitted to some ``images``, as result files have it."""
    return {
        "method": f"robust Sim3 on {images}",
        "images": len(alignment.inliers),
        "inliers": int(alignment.inliers.sum()),
        "scale": alignment.b_from_a.scale,
        "quat_wxyz": alignment.b_from_a.quat_wxyz.tolist(),
        "translation": alignment.b_from_a.translation.tolist(),
        "median_position": float(np.median(alignment.position_residuals)),
        "median_rotation_deg": float(np.median(alignment.rotation_residuals_deg)),
    }


def truth_of_place(place: Place) -> Truth:
    """The Place's own poses as truth."""
    model = place.map
    poses_from = place.poses_from or "unknown origin"
    if poses_from.startswith("imported"):
        exactness = "as exact as that file"
    else:
        pixels = model.points.reprojection_errors
        typical = f" ({float(pixels.mean()):.2f} px mean reprojection error)" if len(pixels) else ""
        exactness = (
            f"made from the images themselves{typical}, test images included; "
            f"errors that map and localizer share stay hidden{_warned(place)}"
        )
    return Truth(
        world_from_cam={name: image.world_from_cam for name, image in model.images.items()},
        unit=place.unit,
        source=f"the Place's own poses ({poses_from})",
        exactness=exactness,
    )


def _warned(place: Place) -> str:
    """What mapping found wrong with the map, the worst of it; empty where that is nothing."""
    report = stored_report(place)
    if report is None or not (report.alarms or report.weak_links):
        return ""
    worst = (*report.alarms, *(f"weak link: {link}" for link in report.weak_links))[0]
    return f"; mapping warned: {worst}"


def truth_from_file(path: Path, place: Place, split: Split) -> Truth:
    """Poses of another origin as truth, the Place's frame aligned to theirs on train images only.

    Raises:
        FormatError: the file cannot be read.
        EvaluationError: its images are not the Place's, or no alignment comes of the train images.
    """
    registration = read_registration(path)
    wanted = [*split.train, *split.test]
    match = match_names(registration.poses, wanted)
    if match.ambiguous:
        progress.say(
            f"{path}: {len(match.ambiguous)} names could mean several images and are not used: "
            f"{next(iter(match.ambiguous.values()))}"
        )
    truth = {name: registration.world_from_cam(listed) for listed, name in match.present_of.items()}
    model = place.map
    common = [name for name in split.train if name in truth and name in model.images]
    if len(common) < 3:
        raise EvaluationError(
            f"{path} and the map have {len(common)} train images of split {split.name!r} in "
            f"common, an alignment needs 3; the file names {next(iter(registration.poses))!r}, "
            f"the split {split.train[0]!r}"
        )
    try:
        alignment = align_camera_poses(
            [model.images[name].world_from_cam for name in common], [truth[name] for name in common]
        )
    except GeometryError as error:
        raise EvaluationError(f"{path} cannot be aligned with the map: {error}") from error
    position = float(np.median(alignment.position_residuals))
    rotation = float(np.median(alignment.rotation_residuals_deg))
    length = f"{100 * position:.2f} cm" if registration.unit == METRE else f"{position:.3g} units"
    return Truth(
        world_from_cam=truth,
        unit=registration.unit,
        source=f"{path.name} ({registration.format})",
        exactness=(
            f"it and the map agree to {length}, {rotation:.2f} deg (median over "
            f"{len(common)} train images); differences far below that say nothing"
        ),
        alignment=alignment,
    )
