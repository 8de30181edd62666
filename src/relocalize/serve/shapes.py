"""The shapes of requests and answers, for the OpenAPI document."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class ErrorText(BaseModel):
    """Why a request was not answered."""

    reason: str = Field(description="One word, for programs.")
    message: str = Field(description="One line, for people.")


class ErrorAnswer(BaseModel):
    """A request that was not answered."""

    error: ErrorText


class CameraShape(BaseModel):
    """What is known of the camera that took the photo."""

    model_config = ConfigDict(extra="forbid")

    known: Literal["exact", "approximate", "unknown"] = Field(
        default="exact", description="Exact intrinsics are used as they are; others are estimated."
    )
    model: str | None = Field(default=None, description="COLMAP's model name, such as PINHOLE.")
    params: list[float] | None = Field(
        default=None, description="In COLMAP's order, pixels.", max_length=20
    )
    focal_px: float | None = Field(default=None, description="In place of model and params.", gt=0)
    width: int | None = Field(
        default=None, description="Of the upright photo; checked if given.", gt=0
    )
    height: int | None = Field(
        default=None, description="Of the upright photo; checked if given.", gt=0
    )


class PriorShape(BaseModel):
    """Where the camera is thought to be, in the Place's frame and unit."""

    model_config = ConfigDict(extra="forbid")

    world_from_cam: list[list[float]] | None = Field(
        default=None, description="[4, 4], as in an answer.", max_length=4
    )
    position: list[float] | None = Field(
        default=None, description="In place of it: the centre alone.", max_length=3
    )
    covariance: list[list[float]] = Field(
        description="[6, 6], as in an answer, or [3, 3] of the centre alone.", max_length=6
    )


class UsedCamera(BaseModel):
    """The camera that an answer is of."""

    model: str
    width: int
    height: int
    params: list[float]
    known: Literal["exact", "approximate", "unknown"]


class Answer(BaseModel):
    """Where a photo was taken, or why that is not known."""

    place: str
    localizer: str
    status: Literal["localized", "failed"]
    reason: str | None = Field(description="Why it failed.")
    world_from_cam: list[list[float]] | None = Field(description="[4, 4], metres or map units.")
    position: list[float] | None = Field(description="The camera centre in the world.")
    quat_wxyz: list[float] | None = Field(description="The same rotation, w first.")
    position_sigma: float | None
    rotation_sigma_deg: float | None
    covariance: list[list[float]] | None = Field(
        description="[6, 6] of (centre in the world, rotation in the camera's axes in radians)."
    )
    unit: Literal["metre", "map unit"]
    inliers: int | None
    captures: dict[str, float] | None = Field(
        description="Of each capture of the map, the share of the inliers that its images observe."
    )
    camera: UsedCamera | None
    milliseconds: float
    image_size: list[int] = Field(description="Width and height of the upright photo.")
    in_axes: PoseInAxes | None = Field(
        default=None, description="The pose in the axes of another program; with axes=NAME."
    )
    points: list[list[float]] | None = Field(
        default=None, description="Of the map, seen in the photo; with points=true."
    )


class PoseInAxes(BaseModel):
    """The pose in the axes of another program."""

    axes: str
    position: list[float]
    quat_xyzw: list[float]
    covariance: list[list[float]] | None


class PlaceName(BaseModel):
    """A Place in the list of all."""

    name: str
    unit: Literal["metre", "map unit"]
    localizers: list[str]


class PlaceList(BaseModel):
    """All Places."""

    places: list[PlaceName]


class Floor(BaseModel):
    """The floor plan: a PNG, and where it is in the world."""

    url: str
    floor_from_world: list[list[float]] = Field(description="[2, 3]: right and up in the plan.")
    low: list[float] = Field(description="Lower left corner, in the plan's axes.")
    high: list[float] = Field(description="Upper right corner.")
    pixels: list[int] = Field(description="Width and height of the PNG.")


class Extent(BaseModel):
    """A box in the world that holds the cameras and nearly all points."""

    low: list[float]
    high: list[float]


class PlaceShape(BaseModel):
    """What is known of a Place."""

    name: str
    unit: Literal["metre", "map unit"]
    frame: dict[str, Any]
    extent: Extent
    images: int
    points: int
    map_digest: str
    floor: Floor
    localizers: list[str]


class Health(BaseModel):
    """Whether the service answers."""

    status: Literal["ok"]
    places: dict[str, int] = Field(description="Workers of each Place.")
