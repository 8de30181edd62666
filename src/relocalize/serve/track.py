"""A device that moves: its frames in, smoothed poses out, over one WebSocket."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import numpy as np
from fastapi import APIRouter, WebSocket, WebSocketDisconnect
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from relocalize.errors import GeometryError
from relocalize.geometry import Rigid3
from relocalize.geometry.transforms import worst_sigma
from relocalize.localization.trajectory import OnlineSmoother
from relocalize.place.folder import METRE
from relocalize.serve.gate import is_token
from relocalize.serve.json_body import first_fault
from relocalize.serve.pool import Pool
from relocalize.serve.refusals import RefusedError
from relocalize.serve.service import Service
from relocalize.serve.shapes import CameraShape

router = APIRouter()
_SILENT_S = 60.0  # after which a device is taken to be gone
_REFUSED = 1008  # WebSocket's code for a policy that was violated (RFC 6455, 7.4.1)


class Hello(BaseModel):
    """The first message: what stays the same."""

    model_config = ConfigDict(extra="forbid")

    token: str | None = None
    camera: CameraShape | None = None
    localizer: str | None = None
    points: bool = False


class FrameFacts(BaseModel):
    """What goes before each image."""

    model_config = ConfigDict(extra="forbid")

    time_s: float = Field(allow_inf_nan=False)
    device_from_cam: list[list[float]] | None = None


@router.websocket("/v1/places/{name}/track")
async def track(socket: WebSocket, name: str) -> None:
    """Text (a `Hello`), then for each frame text (`FrameFacts`) and bytes (the image)."""
    service: Service = socket.app.state.service
    await socket.accept()
    note = socket.state.note
    frames = 0
    try:
        hello = Hello.model_validate_json(await _text(socket))
        token = service.settings.token
        if token is not None and not is_token(hello.token or "", token):
            raise RefusedError(401, "no_token", "a token is needed, in the first message")
        pool = service.pool(name)
        device = _Device(pool, hello)
        while True:
            facts = FrameFacts.model_validate_json(await _text(socket))
            image = await asyncio.wait_for(socket.receive_bytes(), _SILENT_S)
            await socket.send_text(json.dumps(await device.answer(facts, image)))
            frames += 1
    except WebSocketDisconnect:
        pass
    except RefusedError as error:
        await _end(socket, note, error.reason, error.message)
    except ValidationError as error:
        await _end(socket, note, "wrong_request", first_fault(error))
    except (TimeoutError, asyncio.TimeoutError):
        await _end(socket, note, "too_slow", f"nothing was sent for {_SILENT_S:g} s")
    except KeyError:
        await _end(socket, note, "wrong_request", "want text before each image, and then bytes")
    finally:
        note.update(place=name[:60], frames=frames)


async def _text(socket: WebSocket) -> str:
    return await asyncio.wait_for(socket.receive_text(), _SILENT_S)


async def _end(socket: WebSocket, note: dict[str, Any], reason: str, message: str) -> None:
    note["reason"] = reason
    await socket.close(_REFUSED, f"{reason}: {message}"[:120])  # a frame of control holds 125 bytes


class _Device:
    """What is known of a device from its frames so far."""

    def __init__(self, pool: Pool, hello: Hello) -> None:
        self._pool, self._hello = pool, hello
        self._smoother = OnlineSmoother()
        self._map = pool.facts["map_digest"]
        self._camera = None if hello.camera is None else hello.camera.model_dump(exclude_none=True)

    async def answer(self, facts: FrameFacts, image: bytes) -> dict[str, Any]:
        """The smoothed pose of a frame, and under ``frame`` what the frame alone says.

        Raises:
            RefusedError: the image is none, or the times do not ascend.
        """
        extras = ("shared", "points") if self._hello.points else ("shared",)
        answer = await self._localized(image, extras)
        shared = answer.pop("shared_covariance", None)
        points = answer.pop("points", [])
        pose = answer["world_from_cam"]
        try:
            moved = facts.device_from_cam
            device_from_cam = None if moved is None else Rigid3.from_matrix(moved)
            smoothed = await asyncio.to_thread(
                self._smoother.add,
                facts.time_s,
                None if pose is None else Rigid3.from_matrix(pose),
                None if answer["covariance"] is None else np.array(answer["covariance"]),
                shared=None if shared is None else np.array(shared),
                # A map without metres cannot tell how far the device has gone in it.
                device_from_cam=device_from_cam if answer["unit"] == METRE else None,
            )
        except GeometryError as error:
            raise RefusedError(422, "wrong_request", str(error)) from None
        found: dict[str, Any] = {
            "time_s": facts.time_s,
            "status": "lost" if smoothed is None else smoothed.status,
            "reason": answer["reason"],
            "unit": answer["unit"],
        }
        if smoothed is not None:
            covariance = smoothed.covariance
            found |= {
                "world_from_cam": smoothed.world_from_cam.matrix.tolist(),
                "position": smoothed.world_from_cam.translation.tolist(),
                "quat_wxyz": smoothed.world_from_cam.quat_wxyz.tolist(),
                "position_sigma": worst_sigma(covariance[:3, :3]),
                "rotation_sigma_deg": float(np.degrees(worst_sigma(covariance[3:, 3:]))),
                "covariance": covariance.tolist(),
            }
        if self._hello.points:
            found["points"] = points
        return {**found, "frame": answer}

    async def _localized(self, image: bytes, extras: tuple[str, ...]) -> dict[str, Any]:
        hello = self._hello
        if self._pool.facts["map_digest"] != self._map:  # its frame may be another
            self._map, self._smoother = self._pool.facts["map_digest"], OnlineSmoother()
        return await self._pool.localize(
            image, localizer=hello.localizer, camera=self._camera, extras=extras
        )
