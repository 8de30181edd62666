"""What the routes share: the workers of all Places, and what is done with each photo."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import Request

from relocalize.place import atomic
from relocalize.serve.metrics import Metrics
from relocalize.serve.pool import Pool
from relocalize.serve.refusals import RefusedError
from relocalize.serve.settings import ServeSettings
from relocalize.serve.shapes import CameraShape, ErrorAnswer, PriorShape
from relocalize.serve.uploads import Uploads, drain


@dataclass(frozen=True, eq=False)
class Service:
    """What the routes share."""

    pools: Mapping[str, Pool]  # of each Place, by its name
    settings: ServeSettings  # how the service runs
    uploads: Uploads  # bodies under way
    metrics: Metrics  # what Prometheus is told

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
        prior: PriorShape | None = None,
        extras: tuple[str, ...] = (),
    ) -> dict[str, Any]:
        """One photo's answer, counted, noted for the log, and kept where that is wanted."""
        answer = await pool.localize(
            photo,
            localizer=localizer,
            camera=None if camera is None else camera.model_dump(exclude_none=True),
            prior=None if prior is None else prior.model_dump(exclude_none=True),
            extras=extras,
        )
        self.metrics.answered(pool.name, answer["localizer"], answer["status"])
        request.state.note.update(
            {key: answer[key] for key in ("place", "localizer", "inliers")}
            | {"outcome": answer["status"], "why": answer["reason"], "bytes": len(photo)}
        )
        if self.settings.keep is not None:
            await asyncio.to_thread(_keep, self.settings.keep, photo, answer)
        return answer


def service_of(request: Request) -> Service:
    """What the routes of a request's application share."""
    service: Service = request.app.state.service
    return service


async def pool_with_room(request: Request, name: str) -> Pool:
    """The workers of a Place, before the photo is read; raises RefusedError where all are busy."""
    try:
        pool = service_of(request).pool(name)
        pool.check_room()
    except RefusedError:
        await drain(request.receive)
        raise
    return pool


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The errors that a route documents."""
    return {status: {"model": ErrorAnswer} for status in statuses}


def _keep(folder: Path, photo: bytes, answer: dict[str, Any]) -> None:
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:8]}"
    atomic.write_bytes(folder / f"{name}{_suffix(photo)}", photo)
    atomic.write_text(folder / f"{name}.json", json.dumps(answer) + "\n")


def _suffix(photo: bytes) -> str:
    if photo[4:8] == b"ftyp":
        return ".heic"
    kinds = {b"\xff\xd8": ".jpg", b"\x89P": ".png", b"RI": ".webp", b"BM": ".bmp"}
    return kinds.get(photo[:2], ".tiff")
