"""The Open AR Cloud's GeoPoseProtocol, version 2, which answers OGC GeoPose 1.0.

Sources: github.com/OpenArCloud/oscp-geopose-protocol (README, version 2 candidate 1); OGC 21-056r11
(Basic-Quaternion and Advanced). The standard leaves a camera's axes open: here they are those of
WebXR, x right, y up, z back, turned against east, north and up.
"""

from __future__ import annotations

import io
import time
from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from PIL import Image
from pydantic import BaseModel, Field

from relocalize.geometry import Rigid3
from relocalize.geometry.device_axes import DEVICE_AXES
from relocalize.mapping.gps import fix_at
from relocalize.place.captures import Fix
from relocalize.place.folder import METRE
from relocalize.serve.json_body import documented, json_body, photo_of
from relocalize.serve.pool import Pool
from relocalize.serve.refusals import RefusedError
from relocalize.serve.service import errors, pool_with_room, service_of
from relocalize.serve.shapes import CameraShape

router = APIRouter()
MEDIA_TYPE = "application/vnd.oscp+json"
_VERSION = "2.0"
_UNKNOWN = -1.0  # of an accuracy
_CHANNELS = {"RGBA32": "RGBA", "GRAY8": "L"}  # of images without a header


class CameraParam(BaseModel):
    """Intrinsics."""

    model: str | None = None
    modelParams: list[float] | None = Field(default=None, max_length=20)  # noqa: N815 - the protocol's


class ImageOrientation(BaseModel):
    """How the image lies."""

    mirrored: bool = False
    rotation: float = 0.0


class CameraReading(BaseModel):
    """One image."""

    imageBytes: str  # noqa: N815
    imageFormat: str | None = None  # noqa: N815
    size: list[int] | None = Field(default=None, max_length=2)
    imageOrientation: ImageOrientation | None = None  # noqa: N815
    params: CameraParam | None = None


class SensorReadings(BaseModel):
    """What the device measured, of which the first image counts."""

    cameraReadings: list[CameraReading] = Field(min_length=1)  # noqa: N815


class GeoPoseRequest(BaseModel):
    """GeoPoseReq of the protocol, as far as it is used."""

    id: str = Field(default="", max_length=200)
    sensorReadings: SensorReadings  # noqa: N815


class GeoPoseAccuracy(BaseModel):
    """Means of standard deviations over the components; -1 where they are not known."""

    position: float = Field(description="Metres.")
    orientation: float = Field(description="Degrees.")


class GeoPoseAnswer(BaseModel):
    """GeoPoseResp of the protocol."""

    id: str
    timestamp: int
    type: str
    accuracy: GeoPoseAccuracy
    geopose: dict[str, Any] | None = Field(
        description="OGC GeoPose 1.0: Basic-Quaternion, or Advanced where the place is not "
        "georeferenced; null where there is no pose."
    )
    reason: str | None = Field(description="Why there is no pose.")


@router.post(
    "/geopose",
    response_model=GeoPoseAnswer,
    responses=errors(400, 401, 404, 406, 408, 413, 421, 422, 503),
    openapi_extra=documented(GeoPoseRequest)
    | {
        "parameters": [
            {
                "name": "place",
                "in": "query",
                "description": "Name of the place; without it all are asked in turn.",
                "schema": {"type": "string"},
            }
        ],
    },
)
async def geopose(request: Request) -> Response:
    """A GeoPose of a photo, by GeoPoseProtocol version 2."""
    _check_version(request.headers.get("accept", ""))
    service = service_of(request)
    named = request.query_params.get("place")
    pools = [await pool_with_room(request, name) for name in ([named] if named else service.pools)]
    asked = await json_body(service, request, GeoPoseRequest)
    reading = asked.sensorReadings.cameraReadings[0]
    photo, camera = _photo(reading), _camera(reading.params)
    answer: dict[str, Any] = {}
    for pool in pools:
        answer = await service.localize(pool, photo, request, camera=camera)
        if answer["status"] == "localized":
            return _answered(asked.id, _geopose(answer, pool), answer)
    return _answered(asked.id, None, answer)


def _answered(name: str, pose: dict[str, Any] | None, answer: dict[str, Any]) -> Response:
    value = {
        "id": name,
        "timestamp": time.time_ns() // 1_000_000,
        "type": "geopose",
        "accuracy": _accuracy(answer),
        "geopose": pose,
        "reason": answer["reason"],
    }
    return JSONResponse(value, media_type=f"{MEDIA_TYPE};version={_VERSION}")


def _check_version(accept: str) -> None:
    for part in accept.split(","):
        kind, *parameters = (one.strip().lower() for one in part.split(";"))
        if kind != MEDIA_TYPE:
            continue
        versions = [one[len("version=") :] for one in parameters if one.startswith("version=")]
        if any(version.split(".")[0] != _VERSION.split(".", maxsplit=1)[0] for version in versions):
            raise RefusedError(
                406, "wrong_request", f"version {versions[0][:20]} is not spoken; {_VERSION} is"
            )


def _photo(reading: CameraReading) -> bytes:
    if reading.imageOrientation is not None and reading.imageOrientation.mirrored:
        raise RefusedError(422, "wrong_request", "a mirrored image has no pose; send it unmirrored")
    photo = photo_of(reading.imageBytes)
    mode = _CHANNELS.get((reading.imageFormat or "").upper())
    if mode is None or reading.size is None or len(reading.size) != 2:
        return photo
    width, height = reading.size
    # Clients send JPEG under these names too: the number of bytes tells.
    if min(width, height) < 1 or width * height * len(mode) != len(photo):
        return photo
    file = io.BytesIO()
    Image.frombytes(mode, (width, height), photo).convert("RGB").save(file, format="BMP")
    return file.getvalue()


def _camera(params: CameraParam | None) -> CameraShape | None:
    model = None if params is None or params.model is None else params.model.upper()
    if params is None or model in (None, "UNKNOWN", "UNKNOWN_CAMERA"):
        return None
    return CameraShape(model=model, params=params.modelParams or [])


def _accuracy(answer: dict[str, Any]) -> dict[str, float]:
    covariance = answer.get("covariance")
    if covariance is None:
        return {"position": _UNKNOWN, "orientation": _UNKNOWN}
    sigmas = np.sqrt(np.diag(covariance))
    position = float(sigmas[:3].mean()) if answer["unit"] == METRE else _UNKNOWN
    return {"position": position, "orientation": float(np.degrees(sigmas[3:].mean()))}


def _geopose(answer: dict[str, Any], pool: Pool) -> dict[str, Any]:
    world_from_cam = Rigid3.from_matrix(answer["world_from_cam"])
    cam_axes = DEVICE_AXES["webxr"].theirs_from_cam
    rotation = world_from_cam.rotation @ cam_axes.T
    origin = pool.facts["frame"].get("enu_origin")
    if origin is not None:
        there, turned = fix_at(world_from_cam.translation, Fix(**origin))
        return {
            "position": {"lat": there.latitude, "lon": there.longitude, "h": there.height},
            "quaternion": _quaternion(turned @ rotation),
        }
    x, y, z = world_from_cam.translation.tolist()
    return {
        "frameSpecification": {
            "authority": "relocalize",
            "id": answer["place"],
            "parameters": f"x={x!r}&y={y!r}&z={z!r}&unit={answer['unit']}",
        },
        "quaternion": _quaternion(rotation),
        "validTime": time.time_ns() // 1_000_000,
    }


def _quaternion(rotation: Any) -> dict[str, float]:
    w, x, y, z = Rigid3(rotation, np.zeros(3)).quat_wxyz.tolist()
    return {"x": x, "y": y, "z": z, "w": w}
