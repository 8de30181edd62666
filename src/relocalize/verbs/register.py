"""More photos into a finished map."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from relocalize.capture.joining import KnownCamera
from relocalize.geometry import Camera
from relocalize.mapping.register_photos import RegisterPhotosSettings, register_photos
from relocalize.mapping.register_report import RegisterReport
from relocalize.place import Place


def register(
    place: Place | str | Path,
    photos: str | Path | Sequence[str | Path] = (),
    *,
    capture: str = "registered",
    focal: float | None = None,
    camera: Camera | None = None,
    split: str | None = None,
    refine: bool = False,
) -> RegisterReport:
    """Add photos of any camera to a finished map, which does not move.

    Their camera is estimated from all of them together. Photos that show something else, or too
    little, get no pose but a reason.

    Args:
        place: the Place or its folder; it has a map.
        photos: photos, or folders of photos; none: those of the capture that have no pose yet.
        capture: name of the capture that the photos become, or join: one camera on one run.
        focal: roughly the focal length in pixels, where the photos' EXIF does not say it or is
            wrong.
        camera: exactly the camera, which is then kept.
        split: match with what this split's train images alone see.
        refine: then move everything to its joint optimum, the old poses and points too.

    Raises:
        CaptureError: no photo can be used, or the capture takes none.
        MappingError: the map has no points.
        PlaceError: the Place has no map, or another process writes to it.
    """
    given = [photos] if isinstance(photos, str | Path) else photos
    settings = RegisterPhotosSettings(
        capture=capture, camera=KnownCamera(focal, camera), split=split, refine=refine
    )
    return register_photos(Place.of(place), [Path(photo) for photo in given], settings)
