"""The shape of Immersal's `localizeb64`, for clients that speak it.

Source: Immersal's REST API documentation, "Localize Image". It does not say in which axes a pose
is: here they are ours, world_from_cam with the camera's x right, y down, z forward.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field

from relocalize.serve.gate import is_token
from relocalize.serve.json_body import documented, json_body, photo_of
from relocalize.serve.refusals import RefusedError
from relocalize.serve.service import pool_with_room, service_of
from relocalize.serve.shapes import CameraShape

router = APIRouter()


class MapId(BaseModel):
    """Which map is asked: the number of a place in the list of all, from 1."""

    id: int


class LocalizeB64(BaseModel):
    """SDKLocalizeRequest."""

    token: str = ""
    b64: str
    fx: float = Field(gt=0, allow_inf_nan=False)
    fy: float = Field(gt=0, allow_inf_nan=False)
    ox: float = Field(allow_inf_nan=False)
    oy: float = Field(allow_inf_nan=False)
    mapIds: list[MapId] = Field(min_length=1, max_length=8)  # noqa: N815 - Immersal's


class LocalizeB64Answer(BaseModel):
    """SDKLocalizeResult; ``map``, the position and the rotation where there is a pose."""

    error: str
    success: bool | None = None


@router.post(
    "/localizeb64",
    response_model=LocalizeB64Answer,
    responses={400: {"model": LocalizeB64Answer}, 503: {"model": LocalizeB64Answer}},
    openapi_extra=documented(LocalizeB64),
)
async def localizeb64(request: Request) -> Response:
    """A photo in, a pose out, in the shape of Immersal's REST API."""
    service = service_of(request)
    names = list(service.pools)
    try:
        for name in names[:1]:
            await pool_with_room(request, name)
        asked = await json_body(service, request, LocalizeB64)
        token = service.settings.token
        if token is not None and not is_token(asked.token, token):
            raise RefusedError(401, "auth", "wrong token")
        camera = CameraShape(model="PINHOLE", params=[asked.fx, asked.fy, asked.ox, asked.oy])
        photo = photo_of(asked.b64)
        for number in (one.id for one in asked.mapIds):
            if not 1 <= number <= len(names):
                raise RefusedError(404, "not found", f"there is no map {number}")
            pool = service.pool(names[number - 1])
            answer = await service.localize(pool, photo, request, camera=camera)
            if answer["status"] == "localized":
                return JSONResponse(_found(number, answer["world_from_cam"]))
    except RefusedError as error:
        request.state.note["reason"] = error.reason
        # The service that is imitated says all of its errors with 400.
        status = error.status if error.status == 503 else 400
        return JSONResponse({"error": _ERRORS.get(error.reason, error.reason)}, status)
    return JSONResponse({"error": "none", "success": False})


_ERRORS = {"not_a_photo": "image", "no_photo": "image", "wrong_request": "json"}


def _found(number: int, world_from_cam: list[list[float]]) -> dict[str, Any]:
    position = {key: world_from_cam[row][3] for row, key in enumerate(("px", "py", "pz"))}
    rotation = {
        f"r{row}{column}": world_from_cam[row][column] for row in range(3) for column in range(3)
    }
    return {"error": "none", "success": True, "map": number, **position, **rotation}
