"""The service as an application: its routes."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from relocalize.errors import ServeError
from relocalize.place import atomic
from relocalize.serve.gate import Gate
from relocalize.serve.metrics import Metrics
from relocalize.serve.pool import Pool
from relocalize.serve.refusals import RefusedError
from relocalize.serve.settings import ServeSettings
from relocalize.serve.shapes import Answer, CameraShape, ErrorAnswer, Health, PlaceList, PlaceShape
from relocalize.serve.uploads import Uploads, drain

router = APIRouter()


@dataclass(frozen=True, eq=False)
class Service:
    """What the routes share.

    Attributes:
        pools: of each Place, by its name.
        settings: how the service runs.
        uploads: bodies under way.
        metrics: what Prometheus is told.
    """

    pools: Mapping[str, Pool]
    settings: ServeSettings
    uploads: Uploads
    metrics: Metrics

    def pool(self, name: str) -> Pool:
        """Of a Place; raises RefusedError (404) where there is none of that name."""
        if name not in self.pools:
            known = ", ".join(self.pools)
            raise RefusedError(
                404, "no_place", f"there is no place {name[:60]!r}; there are {known}"
            )
        return self.pools[name]

    async def localize(
        self,
        pool: Pool,
        photo: bytes,
        request: Request,
        *,
        localizer: str | None = None,
        camera: CameraShape | None = None,
        extras: tuple[str, ...] = (),
    ) -> dict[str, Any]:
        """One photo's answer, counted, noted for the log, and kept where that is wanted."""
        given = None if camera is None else camera.model_dump(exclude_none=True)
        answer = await pool.localize(photo, localizer=localizer, camera=given, extras=extras)
        self.metrics.answered(pool.name, answer["localizer"], answer["status"])
        request.state.note.update(
            {key: answer[key] for key in ("place", "localizer", "inliers")}
            | {"outcome": answer["status"], "why": answer["reason"], "bytes": len(photo)}
        )
        if self.settings.keep is not None:
            await asyncio.to_thread(_keep, self.settings.keep, photo, answer)
        return answer


@asynccontextmanager
async def started(places: Sequence[Path], settings: ServeSettings) -> AsyncIterator[FastAPI]:
    """The application within whose context the workers of the Places run.

    Raises:
        ServeError: a Place cannot be served, or two have one name.
    """
    async with AsyncExitStack() as stack:
        pools: dict[str, Pool] = {}
        for root in places:
            pool = Pool(root, settings)
            stack.push_async_callback(pool.stop)
            await pool.start()
            if pool.name in pools:
                raise ServeError(f"two places are called {pool.name}; serve one of them alone")
            pools[pool.name] = pool
        yield make_app(Service(pools, settings, Uploads(settings.limits), Metrics()))


def make_app(service: Service) -> FastAPI:
    """The application around what its routes share."""
    app = FastAPI(
        title="relocalize",
        version=version("relocalize"),
        description="Says where in a place a photo was taken, and how sure that is.",
        redoc_url=None,
    )
    app.state.service = service
    app.include_router(router)
    app.add_exception_handler(RefusedError, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _unknown)
    if service.settings.cors:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=service.settings.cors,
            allow_methods=["GET", "POST"],
            allow_headers=["authorization", "content-type"],
        )
    app.add_middleware(Gate, settings=service.settings, metrics=service.metrics)
    return app


def service_of(request: Request) -> Service:
    """What the routes of a request's application share."""
    service: Service = request.app.state.service
    return service


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RefusedError)
    request.state.note["reason"] = error.reason
    headers = {} if error.retry_after is None else {"retry-after": str(error.retry_after)}
    return JSONResponse(error.to_json(), error.status, headers=headers)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    message = f"{where}: {first['msg']}"
    return await _refused(request, RefusedError(422, "wrong_request", message))


async def _unknown(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    refused = RefusedError(error.status_code, "wrong_request", str(error.detail))
    answer = await _refused(request, refused)
    answer.headers.update(error.headers or {})
    return answer


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The errors that a route documents."""
    return {status: {"model": ErrorAnswer} for status in statuses}


_PHOTO = {"type": "string", "format": "binary"}
_PHOTO_TYPES = ("image/jpeg", "image/png", "image/webp", "image/heic", "application/octet-stream")
_LOCALIZE_DOC: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            **{kind: {"schema": _PHOTO} for kind in _PHOTO_TYPES},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "image": _PHOTO,
                        "camera": {"type": "string"},
                        "localizer": {"type": "string"},
                        "points": {"type": "string"},
                    },
                    "required": ["image"],
                }
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
        {"name": "localizer", "in": "query", "schema": {"type": "string"}},
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
    photo, fields = await service.uploads.photo(request)
    camera = camera_from_json(fields["camera"]) if fields.get("camera") else None
    extras = ("points",) if fields.get("points") == "true" else ()
    answer = await service.localize(
        pool, photo, request, localizer=fields.get("localizer"), camera=camera, extras=extras
    )
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


async def pool_with_room(request: Request, name: str) -> Pool:
    """The workers of a Place, before the photo is read; raises RefusedError where all are busy."""
    try:
        pool = service_of(request).pool(name)
        pool.check_room()
    except RefusedError:
        await drain(request.receive)
        raise
    return pool


def camera_from_json(text: str) -> CameraShape:
    """A camera that a client describes.

    Raises:
        RefusedError: it is not one.
    """
    try:
        return CameraShape.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(["camera", *map(str, first["loc"])])
        raise RefusedError(422, "wrong_camera", f"{where}: {first['msg']}") from None


def _keep(folder: Path, photo: bytes, answer: dict[str, Any]) -> None:
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:8]}"
    atomic.write_bytes(folder / f"{name}{_suffix(photo)}", photo)
    atomic.write_text(folder / f"{name}.json", json.dumps(answer) + "\n")


def _suffix(photo: bytes) -> str:
    if photo[4:8] == b"ftyp":
        return ".heic"
    kinds = {b"\xff\xd8": ".jpg", b"\x89P": ".png", b"RI": ".webp", b"BM": ".bmp"}
    return kinds.get(photo[:2], ".tiff")
