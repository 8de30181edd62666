"""`relocalize align PLACE REFERENCE`: one Place's frame onto another's."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from numpy.typing import NDArray

from relocalize.errors import MappingError
from relocalize.formats import AUTO
from relocalize.geometry.alignment_doubts import rotation_sigma_deg, scale_sigma
from relocalize.geometry.transforms import rotation_angle_deg
from relocalize.mapping import MeasuredLength
from relocalize.mapping.aligning import FoundFrame, align_place, read_reference
from relocalize.mapping.ground_control import (
    align_to_control,
    frame_of_measurements,
    read_control,
)
from relocalize.mapping.moving import move_place
from relocalize.place import Place

_MOST_LISTED = 20  # outliers in the text


@dataclass(frozen=True)
class Align:
    """Find the transform from a Place's frame to another frame; --apply moves the Place there.

    The other frame is one of: a reference with poses of the same images, measured positions
    (--control), a measured length (--distance) and what is up (--up), or both of these.
    """

    place: tyro.conf.Positional[Path]
    """The Place folder."""
    reference: tyro.conf.Positional[Path | None] = None
    """Another Place, or a file or folder of poses in any format that import reads."""
    control: Path | None = None
    """Measured positions in metres: rows `image, x, y, z` or `point, x, y, z`, and
    `point, image, u, v` for the pixels that show a point. Three or more, not on one line."""
    distance: Annotated[
        tuple[tuple[str, str, float], ...],
        tyro.conf.UseAppendAction,
        tyro.conf.arg(metavar="A B METRES"),
    ] = ()
    """A measured length between A and B; each is an image (its camera) or IMAGE@X,Y (the point
    seen at that pixel). May be given several times."""
    up: Annotated[tuple[str, ...], tyro.conf.arg(metavar="DIRECTION | A B")] = ()
    """What is up: an axis of the Place's frame (y, or --up=-y), three numbers (0,0.1,1), or two
    images or IMAGE@X,Y of which the second is above the first."""
    apply: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Move the Place: its poses and points, and place.json says so."""
    rigid: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Keep the scale: rotation and translation alone."""
    similarity: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Estimate the scale too, which is the default."""
    format: str = AUTO
    """Of the reference: as for import, or auto to look."""
    plot: Path | None = None
    """Draw both from above, before and after: a .png, .svg or .pdf file."""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print one JSON object instead of text."""
    seed: int = 0
    """Of everything random."""

    def run(self) -> int:
        """Find the transform, print it, and apply it where asked."""
        place = Place.open(self.place)
        found = self._found(place)
        if self.plot is not None:
            from relocalize.plotting import (  # noqa: PLC0415 - matplotlib takes a third of a second
                draw_alignment,
            )

            draw_alignment(found, place.name, self.plot)
        changed = self.apply and move_place(
            place, found.reference_from_place, onto=found.onto, frame=found.frame
        )
        if self.json:
            print(json.dumps(found.to_json() | {"applied": self.apply, "changed": changed}))
        else:
            print(as_text(found))
            if self.apply:
                said = "is in that frame now" if changed else "was in that frame already"
                print(f"{self.place} {said} (unit: {found.frame.unit})")
        return 0

    def _found(self, place: Place) -> FoundFrame:
        if self.rigid and self.similarity:
            raise MappingError("--rigid and --similarity exclude each other")
        measured = bool(self.distance or self.up)
        if (self.reference is not None) + (self.control is not None) + measured != 1:
            raise MappingError(
                "give one of: a REFERENCE (a Place or a file of poses), --control FILE, or "
                "--distance A B METRES and --up"
            )
        if self.reference is not None:
            reference = read_reference(self.reference, self.format)
            return align_place(place, reference, rigid=self.rigid, seed=self.seed)
        if self.control is not None:
            control = read_control(self.control)
            return align_to_control(place, control, rigid=self.rigid, seed=self.seed)
        return frame_of_measurements(
            place, tuple(MeasuredLength(*row) for row in self.distance), self.up
        )


def as_text(found: FoundFrame) -> str:
    """The transform and how sure it is, for people."""
    transform = found.reference_from_place
    lines = [
        f"onto {found.onto}",
        f"  scale {transform.scale:.6g}, rotation {rotation_angle_deg(transform.rotation):.3f} deg "
        f"(quat_wxyz {_numbers(transform.quat_wxyz)}), translation "
        f"{_numbers(transform.translation)} {found.unit}",
    ]
    alignment = found.alignment
    if alignment is not None:
        values = found.to_json()
        oriented = bool(alignment.rotation_residuals_deg.any())

        def pair(key: str) -> str:
            angle = f" and {values[f'{key}_deg']:.3g} deg" if oriented else ""
            return f"{values[key]:.4g} {found.unit}{angle}"

        left_out = values["loo_median"] is not None
        lines.append(
            f"  {values['inliers']} of {values['n']} agree: median residual "
            f"{pair('residual_median')}, at most {pair('residual_max')}"
            + (f"; left out one at a time, median {pair('loo_median')}" if left_out else "")
        )
        lines.append(
            f"  1 sigma: {values['middle_sigma']:.2g} {found.unit} at the middle, "
            f"{rotation_sigma_deg(alignment):.2g} deg, scale {100 * scale_sigma(alignment):.2g}%"
        )
        if found.outliers:
            lines.append(
                f"  {len(found.outliers)} outliers, beyond 5 sigma of the noise "
                f"({pair('inlier_bound')}):"
            )
            lines += [
                f"    {one.name}: {one.distance:.4g} {found.unit}"
                + (f", {one.angle_deg:.2f} deg" if oriented else "")
                for one in found.outliers[:_MOST_LISTED]
            ]
            if len(found.outliers) > _MOST_LISTED:
                lines.append(f"    and {len(found.outliers) - _MOST_LISTED} more: --json lists all")
    frame = found.frame
    lines.append(
        f"  there: {f'{frame.up} is up' if frame.up else 'up is not known'}, unit {frame.unit}"
    )
    lines += [f"  note: {remark}" for remark in found.remarks]
    return "\n".join(lines)


def _numbers(values: NDArray[np.float64]) -> str:
    return " ".join(f"{value:.6g}" for value in values)
