"""The pages: a few files, which ask the service as any client does."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse, Response

from relocalize.serve.refusals import RefusedError

router = APIRouter(include_in_schema=False)
_FOLDER = Path(__file__).parent / "page"
_PARTS = {
    "app.js": "text/javascript",
    "docs.js": "text/javascript",
    "style.css": "text/css",
    "icon.svg": "image/svg+xml",
}


@router.get("/")
async def page() -> Response:
    """The page itself."""
    return FileResponse(_FOLDER / "index.html")


@router.get("/docs")
async def docs() -> Response:
    """The routes for people; FastAPI's own page would load its script from elsewhere."""
    return FileResponse(_FOLDER / "docs.html")


@router.get("/page/{name}")
async def part(name: str) -> Response:
    """Its script, style and icon."""
    if name not in _PARTS:
        raise RefusedError(404, "wrong_request", "the page has no such part")
    return FileResponse(_FOLDER / name, media_type=_PARTS[name])
