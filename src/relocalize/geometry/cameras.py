"""Cameras: COLMAP's models, with their projection done by pycolmap.

Camera axes are OpenCV's and COLMAP's (x right, y down, z forward). Pixel (0, 0) is the top-left
corner of the top-left pixel; that pixel's centre is (0.5, 0.5).
Source of the models and their parameter order: COLMAP's documentation, "Camera Models".
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import pycolmap
from numpy.typing import ArrayLike

from relocalize.errors import GeometryError
from relocalize.geometry.transforms import FloatArray

# Focal length as a share of the longer image side when nothing is known; COLMAP's default.
# A phone's main camera lies between 0.7 and 0.9, a 50 degree webcam at 1.07.
DEFAULT_FOCAL_FACTOR = 1.2
_LARGEST_SIDE = 1_000_000  # pixels; gigapixel panoramas have a third of it


# How well intrinsics are known: by calibration, by their maker's word (EXIF, container metadata, a
# data sheet), or not at all (a default focal length).
Knowledge = Literal["exact", "approximate", "unknown"]


@dataclass(frozen=True)
class Camera:
    """Intrinsics of one camera.

    Attributes:
        model: COLMAP's model name: SIMPLE_PINHOLE, PINHOLE, SIMPLE_RADIAL, RADIAL, OPENCV,
            OPENCV_FISHEYE, FULL_OPENCV, ...
        width: image width in pixels.
        height: image height in pixels.
        params: the model's parameters in COLMAP's order, pixels and unitless distortion.
        known: ``exact`` intrinsics are used as they are; of ``approximate`` ones the focal length
            is where its estimation starts; of ``unknown`` ones only the image size counts.
    """

    model: str
    width: int
    height: int
    params: tuple[float, ...]
    known: Knowledge = "exact"

    def __post_init__(self) -> None:
        object.__setattr__(self, "params", tuple(float(value) for value in self.params))
        models = pycolmap.CameraModelId.__members__.keys() - {"INVALID"}
        if self.model not in models:
            raise GeometryError(
                f"unknown camera model {self.model!r}; COLMAP has {', '.join(sorted(models))}"
            )
        if self.known not in get_args(Knowledge):
            raise GeometryError(f"camera known as {self.known!r}; want {get_args(Knowledge)}")
        if not (0 < self.width <= _LARGEST_SIDE and 0 < self.height <= _LARGEST_SIDE):
            raise GeometryError(
                f"camera of {self.width} x {self.height} pixels; want 1 to {_LARGEST_SIDE}"
            )
        blank = _blank(self.model, self.width, self.height)
        want = len(blank.params)
        if len(self.params) != want or not np.all(np.isfinite(self.params)):
            raise GeometryError(
                f"{self.model} takes {want} finite parameters, got {list(self.params)}"
            )
        focals = [self.params[i] for i in blank.focal_length_idxs()]
        if any(focal <= 0 for focal in focals):
            raise GeometryError(f"{self.model} with a focal length of {focals} pixels; want > 0")

    @classmethod
    def from_focal(
        cls, width: int, height: int, focal_px: float | None = None, *, model: str = "SIMPLE_RADIAL"
    ) -> Camera:
        """An approximate camera of that focal length, or an unknown one of a default focal length.

        Its principal point is at the centre, and it has no distortion.
        """
        focal = DEFAULT_FOCAL_FACTOR * max(width, height) if focal_px is None else focal_px
        blank = pycolmap.Camera.create_from_model_name(1, model, focal, width, height)
        known: Knowledge = "unknown" if focal_px is None else "approximate"
        return cls(model, width, height, tuple(blank.params), known)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Camera:
        """From plain values; version 0.1 stored ``focal_is_known`` in place of ``known``.

        Raises:
            KeyError, TypeError: they are not a camera.
        """
        value = dict(value)
        if (focal_is_known := value.pop("focal_is_known", None)) is not None:
            value["known"] = "approximate" if focal_is_known else "unknown"
        return cls(**{**value, "params": tuple(value["params"])})

    @property
    def focal_px(self) -> float:
        """Mean focal length in pixels."""
        return float(self.to_colmap().mean_focal_length())

    @property
    def principal_point(self) -> FloatArray:
        """[2], pixels."""
        camera = self.to_colmap()
        return np.array([camera.principal_point_x, camera.principal_point_y])

    @property
    def calibration_matrix(self) -> FloatArray:
        """K [3, 3], without distortion."""
        return np.asarray(self.to_colmap().calibration_matrix(), dtype=np.float64)

    def img_from_cam(self, points_in_cam: ArrayLike) -> FloatArray:
        """Project points [N, 3] in the camera's axes to pixels [N, 2]; NaN behind the camera."""
        points = np.atleast_2d(np.asarray(points_in_cam, dtype=np.float64))
        return np.asarray(self.to_colmap().img_from_cam(points), dtype=np.float64)

    def cam_from_img(self, pixels: ArrayLike) -> FloatArray:
        """Undistorted image-plane coordinates [N, 2] (at z = 1) of pixels [N, 2]."""
        points = np.atleast_2d(np.asarray(pixels, dtype=np.float64))
        return np.asarray(self.to_colmap().cam_from_img(points), dtype=np.float64)

    def resized(self, width: int, height: int) -> Camera:
        """The camera of the same image resized to ``width`` x ``height`` pixels."""
        camera = self.to_colmap()
        camera.rescale(width, height)
        return replace(self, width=width, height=height, params=tuple(camera.params))

    def to_colmap(self, camera_id: int = 1) -> pycolmap.Camera:
        """As pycolmap's camera."""
        camera = _blank(self.model, self.width, self.height)
        camera.camera_id = camera_id
        camera.params = list(self.params)
        camera.has_prior_focal_length = self.known != "unknown"
        return camera

    @classmethod
    def from_colmap(cls, camera: pycolmap.Camera, *, known: Knowledge | None = None) -> Camera:
        """From pycolmap's camera, whose focal length is a prior or a default where not told."""
        if known is None:
            known = "approximate" if camera.has_prior_focal_length else "unknown"
        return cls(
            camera.model_name, int(camera.width), int(camera.height), tuple(camera.params), known
        )


def model_of_number(number: int) -> tuple[str, int]:
    """Name, and how many parameters it takes, of the model that has ``number`` in binary files.

    Raises:
        GeometryError: COLMAP has no such model.
    """
    try:
        model = pycolmap.CameraModelId(number)
        blank = pycolmap.Camera.create_from_model_id(1, model, 1.0, 1, 1)
    except ValueError:
        raise GeometryError(f"COLMAP has no camera model number {number}") from None
    return blank.model_name, len(blank.params)


def param_names(model: str) -> tuple[str, ...]:
    """COLMAP's names of a model's parameters in order: f, or fx and fy, cx, cy, k1 (or k), ..."""
    names = _blank(model, 1, 1).params_info.split(", ")
    return tuple("k1" if name == "k" else name for name in names)


def _blank(model: str, width: int, height: int) -> pycolmap.Camera:
    return pycolmap.Camera.create_from_model_name(1, model, 1.0, width, height)
