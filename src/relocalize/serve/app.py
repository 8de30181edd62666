"""The service as an application: all its routes, and what it says when something is wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import version
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from relocalize.errors import ServeError
from relocalize.serve import geopose, immersal, native, page_routes, track
from relocalize.serve.gate import Gate
from relocalize.serve.json_body import first_fault
from relocalize.serve.metrics import Metrics
from relocalize.serve.pool import Pool
from relocalize.serve.refusals import RefusedError
from relocalize.serve.service import Service
from relocalize.serve.settings import ServeSettings
from relocalize.serve.uploads import Uploads


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
        docs_url=None,
        redoc_url=None,
    )
    app.state.service = service
    for routes in (page_routes, native, track, geopose, immersal):
        app.include_router(routes.router)
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


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RefusedError)
    request.state.note["reason"] = error.reason
    headers = {} if error.retry_after is None else {"retry-after": str(error.retry_after)}
    return JSONResponse(error.to_json(), error.status, headers=headers)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return await _refused(request, RefusedError(422, "wrong_request", first_fault(error)))


async def _unknown(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    refused = RefusedError(error.status_code, "wrong_request", str(error.detail))
    answer = await _refused(request, refused)
    answer.headers.update(error.headers or {})
    return answer
