"""What a worker does: decode a photo that nobody trusts, localize it, answer."""

from __future__ import annotations

import contextlib
import ctypes
import select
import socket
import sys
import traceback
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from relocalize.errors import (
    CaptureError,
    GeometryError,
    ImageError,
    ImageTooLargeError,
    QueryError,
)
from relocalize.geometry import Camera
from relocalize.geometry.cameras import Knowledge
from relocalize.localization import Localizer
from relocalize.localization.prior import PosePrior
from relocalize.localization.query import Query
from relocalize.parallel import use_image_threads
from relocalize.place.image_file import image_size
from relocalize.plain import to_strict_json
from relocalize.serve.messages import packed, receive

_SHOWN_POINTS = 400  # over a live picture
_REST_S = 1.0  # without a photo


def work(connection: socket.socket, localizers: Mapping[str, Localizer]) -> None:
    """Answer jobs until the service goes away."""
    while (message := _next_message(connection)) is not None:
        job, body = message
        try:
            answer = _answer(localizers, job, body)
        except Exception:
            traceback.print_exc(file=sys.stderr)
            answer = _refusal(500, "internal", "the photo could not be worked on; see the log")
        connection.sendall(packed(answer))


def _next_message(connection: socket.socket) -> tuple[dict[str, Any], bytes] | None:
    """As `receive`; while there is none for a while, the memory of the last photos is given back.

    It is 25 of the 37 MB that a worker has of its own, for photos of 640 x 480; the next takes it
    again.
    """
    if not select.select([connection], [], [], _REST_S)[0]:
        with contextlib.suppress(AttributeError):  # glibc's alone
            ctypes.CDLL(None).malloc_trim(0)
    return receive(connection)


def _answer(localizers: Mapping[str, Localizer], job: dict[str, Any], body: bytes) -> Any:
    try:
        use_image_threads(job["threads"])
        query = _query(body, job.get("camera"), job["pixels"])
        prior = None if job.get("prior") is None else PosePrior.from_json(job["prior"])
        estimate = localizers[job["localizer"]].localize(query, prior=prior)
    except ImageTooLargeError as error:
        return _refusal(413, "too_many_pixels", str(error))
    except (CaptureError, ImageError) as error:
        return _refusal(422, "not_a_photo", str(error))
    except (QueryError, GeometryError, TypeError, ValueError) as error:
        return _refusal(422, "wrong_camera", str(error))
    except MemoryError:
        message = "the photo needs more memory than there is; make it smaller"
        return _refusal(413, "too_many_pixels", message)
    answer = to_strict_json(estimate.to_json())
    answer["image_size"] = [query.camera.width, query.camera.height]
    if job.get("points") and estimate.inlier_points is not None:
        every = -(-len(estimate.inlier_points) // _SHOWN_POINTS)
        answer["points"] = estimate.inlier_points[::every].round(4).tolist()
    if job.get("shared") and estimate.shared_covariance is not None:
        answer["shared_covariance"] = estimate.shared_covariance.tolist()
    return {"answer": answer}


def _query(body: bytes, camera: dict[str, Any] | None, most: int) -> Query:
    try:
        width, height = image_size(body)
    except ImageTooLargeError:
        raise
    except ImageError:
        width = height = 0  # decoding says better what is wrong
    if width * height > most:
        raise ImageTooLargeError(
            f"the photo has {width} x {height} pixels; want at most {most // 1_000_000} "
            "megapixels: make it smaller"
        )
    query = Query.of(body)
    if camera is None:
        return query
    return Query.of(query, camera_of(camera, query.camera.width, query.camera.height))


def camera_of(given: Mapping[str, Any], width: int, height: int) -> Camera:
    """The camera that a client describes, of a photo of that size.

    Args:
        given: ``known`` (exact, approximate, unknown), and ``model`` with ``params`` in COLMAP's
            order, or ``focal_px``; ``width`` and ``height`` are checked where they are given.
        width: of the upright photo.
        height: of the upright photo.

    Raises:
        GeometryError, QueryError: that is no camera, or one of another size.
    """
    said = given.get("width") or width, given.get("height") or height
    if said != (width, height):
        raise QueryError(
            f"the camera is of {said[0]} x {said[1]} pixels, the upright photo has {width} x "
            f"{height}; give the camera of the photo that is sent"
        )
    known: Knowledge = given.get("known") or "exact"
    if known == "unknown":
        return Camera.from_focal(width, height)
    if given.get("model") is not None:
        return Camera(given["model"], width, height, tuple(given.get("params") or ()), known)
    if given.get("focal_px") is None:
        raise QueryError("the camera has neither model and params nor focal_px; give one of them")
    camera = Camera.from_focal(width, height, float(given["focal_px"]))
    return replace(camera, known=known)


def _refusal(status: int, reason: str, message: str) -> dict[str, Any]:
    return {"refused": {"status": status, "reason": reason, "message": message}}
