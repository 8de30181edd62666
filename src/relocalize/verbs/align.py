"""Finding the transform from a Place's frame to another frame, and moving the Place there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from relocalize.errors import MappingError
from relocalize.formats import AUTO
from relocalize.mapping import MeasuredLength
from relocalize.mapping.aligning import FoundFrame, align_place, read_reference
from relocalize.mapping.gps import align_to_gps
from relocalize.mapping.ground_control import align_to_control, frame_of_measurements, read_control
from relocalize.mapping.moving import move_place
from relocalize.place import Place


@dataclass(frozen=True, eq=False, repr=False)
class AlignReport:
    """What came of an alignment.

    Attributes:
        found: the transform to the other frame, and how sure it is.
        applied: whether the Place was to be moved there.
        changed: whether that changed it; it may have been there already.
    """

    found: FoundFrame
    applied: bool
    changed: bool

    def __repr__(self) -> str:
        scale = self.found.reference_from_place.scale
        moved = ", applied" if self.applied else ""
        return f"AlignReport(onto {self.found.onto}: scale {scale:.6g}{moved})"

    def to_json(self) -> dict[str, Any]:
        """As plain values; numbers that there are not are null."""
        return self.found.to_json() | {"applied": self.applied, "changed": self.changed}


def align(
    place: Place | str | Path,
    reference: Place | str | Path | None = None,
    *,
    control: str | Path | None = None,
    gps: bool = False,
    distance: Sequence[tuple[str, str, float]] = (),
    up: Sequence[str] = (),
    apply: bool = False,
    rigid: bool = False,
    format: str = AUTO,
    plot: str | Path | None = None,
    seed: int = 0,
) -> AlignReport:
    """Find the transform from a Place's frame to another frame; ``apply`` moves the Place there.

    The other frame is one of: a reference with poses of the same images, measured positions
    (``control``), the photos' own (``gps``), a measured length (``distance``) and what is up
    (``up``), or both of these.

    Args:
        place: the Place or its folder.
        reference: another Place, or a file or folder of poses in any format that import reads.
        control: a file of measured positions in metres (see `read_control`).
        gps: metres east, north and up of the middle of the GPS positions in the photos' EXIF.
        distance: measured lengths: between what, and metres; each end is an image (its camera) or
            IMAGE@X,Y (the point seen at that pixel).
        up: an axis of the Place's frame (``y``, ``-y``), three numbers (``0,0.1,1``), or two
            images or IMAGE@X,Y of which the second is above the first.
        apply: move the Place: its poses and points, and place.json says so.
        rigid: keep the scale.
        format: of the reference: a key of `FORMATS`, or ``auto`` to look.
        plot: draw both from above, before and after: a .png, .svg or .pdf file.
        seed: of everything random.

    Raises:
        MappingError: not one of these frames is given, or what is given does not determine the
            transform; with the reason.
        FormatError: a file is not what it should be.
        PlaceError: there is no Place or map, another process writes it, or no such figure.
    """
    place = Place.of(place)
    if (reference is not None) + (control is not None) + gps + bool(distance or up) != 1:
        raise MappingError(
            "give one of: a REFERENCE (a Place or a file of poses), --control FILE, --gps, or "
            "--distance A B METRES and --up"
        )
    if reference is not None:
        path = reference.root if isinstance(reference, Place) else Path(reference)
        found = align_place(place, read_reference(path, format), rigid=rigid, seed=seed)
    elif control is not None:
        found = align_to_control(place, read_control(Path(control)), rigid=rigid, seed=seed)
    elif gps:
        found = align_to_gps(place, seed=seed)
    else:
        lengths = tuple(MeasuredLength(*row) for row in distance)
        found = frame_of_measurements(place, lengths, up)
    if not gps and apply:
        # The new frame is not that of the earth, unless it is the very same.
        found = replace(found, frame=replace(found.frame, enu_origin=None))
    if plot is not None:
        from relocalize.plotting import (  # noqa: PLC0415 - matplotlib takes a third of a second
            draw_alignment,
        )

        draw_alignment(found, place.name, Path(plot))
    changed = apply and move_place(
        place, found.reference_from_place, onto=found.onto, frame=found.frame
    )
    return AlignReport(found, apply, changed)
