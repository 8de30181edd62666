"""The service's own routes."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ValidationError

from relocalize.errors import GeometryError, QueryError
from relocalize.geometry import Rigid3
from relocalize.geometry.device_axes import DEVICE_AXES, DeviceAxes, device_axes
from relocalize.localization.prior import PosePrior
from relocalize.serve.json_body import first_fault
from relocalize.serve.refusals import RefusedError
from relocalize.serve.service import errors, pool_with_room, service_of
from relocalize.serve.shapes import Answer, CameraShape, Health, PlaceList, PlaceShape, PriorShape

router = APIRouter()
_Shape = TypeVar("_Shape", bound=BaseModel)
_PHOTO = {"type": "string", "format": "binary"}
_PHOTO_TYPES = ("image/jpeg", "image/png", "image/webp", "image/heic", "application/octet-stream")
_LOCALIZE_DOC: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            **{kind: {"schema": _PHOTO} for kind in _PHOTO_TYPES},
            "multipart/form-data": {
                "schema": {"type": "object", "properties": {"image": _PHOTO}, "required": ["image"]}
            },
        },
    },
    "parameters": [
        {
            "name": "camera",
            "in": "query",
            "description": "What is known of the camera, as JSON; without it what EXIF says.",
            "content": {"application/json": {"schema": CameraShape.model_json_schema()}},
        },
        {
            "name": "prior",
            "in": "query",
            "description": "Where the camera is thought to be, as JSON: poses that contradict it "
            "are not answered.",
            "content": {"application/json": {"schema": PriorShape.model_json_schema()}},
        },
        {"name": "localizer", "in": "query", "schema": {"type": "string"}},
        {
            "name": "axes",
            "in": "query",
            "description": "Also the pose in the axes of another program.",
            "schema": {"type": "string", "enum": list(DEVICE_AXES)},
        },
        {
            "name": "points",
            "in": "query",
            "description": "Whether points of the map that are seen in the photo are answered.",
            "schema": {"type": "string", "enum": ["true", "false"]},
        },
    ],
}


@router.get("/v1/places", response_model=PlaceList, responses=errors(401, 421))
async def places(request: Request) -> Response:
    """All Places by name."""
    shown = ("name", "unit", "localizers")
    listed = [
        {key: pool.facts[key] for key in shown} for pool in service_of(request).pools.values()
    ]
    return JSONResponse({"places": listed})


@router.get("/v1/places/{name}", response_model=PlaceShape, responses=errors(401, 404, 421))
async def place(request: Request, name: str) -> Response:
    """Frame, unit, extent and floor plan of a Place."""
    facts = service_of(request).pool(name).facts
    url = request.url_for("floor", name=name).path
    return JSONResponse({**facts, "floor": {"url": url, **facts["floor"]}})


@router.get(
    "/v1/places/{name}/floor.png",
    response_class=Response,
    responses={200: {"content": {"image/png": {}}}, **errors(401, 404, 421)},
)
async def floor(request: Request, name: str) -> Response:
    """The floor plan: black where walls are, transparent elsewhere."""
    return Response(service_of(request).pool(name).floor, media_type="image/png")


@router.post(
    "/v1/places/{name}/localize",
    response_model=Answer,
    responses=errors(400, 401, 404, 408, 413, 421, 422, 503),
    openapi_extra=_LOCALIZE_DOC,
)
async def localize(request: Request, name: str) -> Response:
    """Where a photo was taken. One without a pose is answered too: its status is failed.

    The photo (JPEG, PNG, WebP, HEIC, TIFF, BMP) is the body, or the file `image` of a form.
    """
    service = service_of(request)
    pool = await pool_with_room(request, name)
    photo = await service.uploads.photo(request)
    given = request.query_params
    camera = _described(CameraShape, given["camera"], "camera") if "camera" in given else None
    prior = prior_from_json(given["prior"]) if "prior" in given else None
    axes = axes_called(given["axes"]) if "axes" in given else None
    points = given.get("points", "false")
    if points not in ("true", "false"):
        raise RefusedError(422, "wrong_request", f"points is {points[:20]!r}; want true or false")
    extras = ("points",) if points == "true" else ()
    answer = await service.localize(
        pool,
        photo,
        request,
        localizer=given.get("localizer"),
        camera=camera,
        prior=prior,
        extras=extras,
    )
    if axes is not None:
        answer["in_axes"] = in_axes(answer, axes)
    return JSONResponse(answer)


@router.get("/health", response_model=Health, responses=errors(421))
async def health(request: Request) -> Response:
    """Whether the service answers."""
    pools = service_of(request).pools
    return JSONResponse(
        {"status": "ok", "places": {name: len(pool.pids) for name, pool in pools.items()}}
    )


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}}, **errors(401, 421)},
)
async def metrics(request: Request) -> Response:
    """In Prometheus' text format."""
    service = service_of(request)
    for name, pool in service.pools.items():
        service.metrics.waiting.labels(name).set(pool.waiting)
        service.metrics.workers.labels(name).set(len(pool.pids))
    return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")


def axes_called(name: str) -> DeviceAxes:
    """The axes of another program; raises RefusedError where there are none of that name."""
    try:
        return device_axes(name)
    except GeometryError as error:
        raise RefusedError(422, "wrong_request", str(error)) from None


def in_axes(answer: dict[str, Any], axes: DeviceAxes) -> dict[str, Any] | None:
    """An answer's pose in the axes of another program, or None where it has none."""
    if answer["world_from_cam"] is None:
        return None
    pose = axes.pose(Rigid3.from_matrix(answer["world_from_cam"]))
    covariance = answer["covariance"]
    return {
        "axes": axes.name,
        "position": pose.translation.tolist(),
        "quat_xyzw": np.roll(pose.quat_wxyz, -1).tolist(),
        "covariance": None if covariance is None else axes.covariance(covariance).tolist(),
    }


def prior_from_json(text: str) -> PriorShape:
    """A prior that a client describes; raises RefusedError where it is not one."""
    prior = _described(PriorShape, text, "prior")
    try:
        PosePrior.from_json(prior.model_dump())
    except QueryError as error:
        raise RefusedError(422, "wrong_prior", str(error)) from None
    return prior


def _described(shape: type[_Shape], text: str, name: str) -> _Shape:
    """What a client describes; raises RefusedError where it is not that."""
    try:
        return shape.model_validate_json(text)
    except ValidationError as error:
        raise RefusedError(422, f"wrong_{name}", first_fault(error, name)) from None
