"""`relocalize register PLACE PHOTO... --capture NAME`: more photos into a finished map."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from relocalize.cli.options import Flag, Printed, options
from relocalize.errors import CaptureError, GeometryError
from relocalize.geometry import Camera
from relocalize.mapping.register_report import RegisterReport
from relocalize.verbs.register import register


@dataclass(frozen=True)
class Register(Printed):
    """Add photos of any camera to a finished map, which does not move.

    Their camera is estimated from all of them. A photo without a pose gets a reason.
    """

    place: tyro.conf.Positional[Path]
    """The Place folder; it has a map."""
    photos: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Photos or folders; none: those of the capture without a pose."""
    capture: str = "registered"
    """Name of the capture that the photos become, or join."""
    focal: float | None = None
    """Rough focal length in pixels, where EXIF has none or is wrong."""
    camera: str | None = None
    """The exact camera, which is kept: COLMAP model, width, height, parameters, as
    OPENCV,800,450,720,720,400,225,-0.1,0.02,0,0."""
    split: str | None = None
    """Match with what this split's train images see."""
    refine: Flag = False
    """Then adjust everything, old poses and points too."""

    def run(self) -> int:
        """Register, and print what came of every photo."""
        camera = None if self.camera is None else parsed_camera(self.camera)
        report = register(**options(self, "camera"), camera=camera)
        return self.show(report.to_json(), as_text(report))


def parsed_camera(text: str) -> Camera:
    """A camera from ``MODEL,WIDTH,HEIGHT,PARAMS...``, as COLMAP's cameras.txt has it.

    Raises:
        CaptureError: it is none.
    """
    model, *rest = text.replace(",", " ").split() or [""]
    try:
        width, height = int(rest[0]), int(rest[1])
        return Camera(model, width, height, tuple(float(value) for value in rest[2:]))
    except (ValueError, IndexError, GeometryError) as error:
        raise CaptureError(
            f"--camera {text!r} is no camera ({error}); "
            "want MODEL,WIDTH,HEIGHT,PARAMETERS such as SIMPLE_RADIAL,800,450,720,400,225,-0.1"
        ) from error


def as_text(report: RegisterReport) -> str:
    """The outcome, for people."""
    width = max((len(photo.image) for photo in report.photos), default=0)
    lines = []
    for photo in report.photos:
        if not photo.registered:
            lines.append(f"{photo.image:{width}}  not registered: {photo.reason}")
            continue
        lines.append(
            f"{photo.image:{width}}  {photo.inliers} inliers, ± {photo.position_sigma:.2g} "
            f"{report.unit}, ± {photo.rotation_sigma_deg:.2g} degrees"
        )
    for camera in report.cameras:
        sure = ""
        if camera.focal_sigma_px is not None:
            sure = (
                f" ± {camera.focal_sigma_px:.1f} px, principal point "
                f"± {camera.principal_point_sigma_px:.1f} px"
            )
        parameters = ", ".join(f"{value:.6g}" for value in camera.params)
        lines.append(
            f"camera {camera.model} {camera.width}x{camera.height} ({parameters}), "
            f"{camera.source}: focal length {camera.focal_px:.1f}{sure}; "
            f"{camera.registered} of {camera.photos} photos"
        )
    lines += [f"left out: {reason}" for reason in report.left_out]
    new = sum(photo.registered for photo in report.photos)
    lines.append(
        f"{new} of {len(report.photos)} photos registered; "
        f"capture {report.capture} has {report.posed} of {report.images} images in the map"
        + ("; nothing had changed" if report.unchanged else "")
        + ("; everything was adjusted" if report.refined else "; what was there did not move")
    )
    return "\n".join(lines)
