"""Lenses in RealityCapture's numbers: 35 mm film, shares of the longer side, k1 k2 k3 k4 t1 t2.

``f`` is in millimetres of a 36 mm wide film whose width is the image's longer side, the
principal point in shares of that side from the image's middle, right and down positive:
RealityScan's export templates (calibration.xml) write ``f*36``, name the others ``px_norm`` and
``py_norm``, and make pixels by ``px*scale + width*0.5``. The middle is width/2, so pixel (0, 0) is
a corner. ``k1 k2 k3 k4`` are factors of r^2 to r^8 (Epic, "RealityCapture XMP Camera Math"); the
same templates put ``k1,k2,t2,t1,k3`` in OpenCV's order, so t2 is OpenCV's p1, and t1 its p2.
"""

from __future__ import annotations

from collections.abc import Sequence

from relocalize.formats.lenses import (
    LARGEST_TERM,
    NEGLIGIBLE_PX,
    SizelessCamera,
    three_radial_terms,
)

_FILM_WIDTH_MM = 36.0
# Focal lengths of real lenses lie between 1 mm and 10 m at 35 mm film.
_SHORTEST_MM, _LONGEST_MM = 1.0, 10_000.0
_WIDE_PX = 4000  # an image's longer side, which the files do not have, for saying an error
_HALF_DIAGONAL = 0.5**0.5  # of a square image, the farthest that a corner can be


class FilmLenses:
    """Makes cameras, and remembers what could not be said of them exactly."""

    def __init__(self) -> None:
        self._unusable = 0
        self._folded = 0
        self._worst_px = 0.0

    def camera(
        self,
        focal_mm: float,
        offset: tuple[float, float],
        lens: Sequence[float],
        aspect: float = 1.0,
    ) -> SizelessCamera | None:
        """The camera; None where no lens has such numbers.

        Args:
            focal_mm: at 35 mm film.
            offset: of the principal point from the middle, in shares of the longer side.
            lens: k1, k2, k3, k4, t1, t2; empty where the distortion is unknown.
            aspect: vertical over horizontal focal length.
        """
        if (
            not _SHORTEST_MM <= focal_mm <= _LONGEST_MM
            or max(map(abs, offset)) > 1
            or not 0.1 <= aspect <= 10
            or any(abs(term) > LARGEST_TERM for term in lens)
        ):
            self._unusable += 1
            return None
        focal = focal_mm / _FILM_WIDTH_MM
        return SizelessCamera(
            focal=focal,
            unit="longer side",
            focal_y=None if aspect == 1 else focal * aspect,
            principal_offset=offset,
            distortion=self._distortion(lens, focal) if lens else (),
        )

    def _distortion(self, lens: Sequence[float], focal: float) -> tuple[float, ...]:
        k1, k2, k3, k4, t1, t2 = lens
        (k1, k2, k3), shift = three_radial_terms((k1, k2, k3, k4), _HALF_DIAGONAL / focal)
        if k4:
            self._folded += 1
            self._worst_px = max(self._worst_px, shift * focal * _WIDE_PX)
        return (k1, k2, t2, t1, k3)

    def remarks(self) -> list[str]:
        """What a user should know of the cameras made."""
        said = []
        if self._unusable:
            said.append(
                f"{self._unusable} images have a focal length, principal point or distortion that "
                "no lens has; their intrinsics are estimated"
            )
        if self._worst_px > NEGLIGIBLE_PX:
            said.append(
                f"k4 of {self._folded} images is expressed by k1, k2 and k3, which is off by up to "
                f"{self._worst_px:.2f} pixels on an image of {_WIDE_PX} pixels"
            )
        return said
