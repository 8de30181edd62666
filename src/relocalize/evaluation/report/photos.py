"""The report's photos: where map points fall by the true pose and by the estimated one."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import cv2
import numpy as np
from numpy.typing import NDArray

from relocalize.errors import RelocalizeError
from relocalize.geometry import Camera, Rigid3
from relocalize.geometry.transforms import FloatArray
from relocalize.place import Place, PosedImage

TRUE_COLOR, ESTIMATED_COLOR = "#ffffff", "#ffb000"
_WIDTH = 520  # pixels of a thumbnail: a third of the page on a screen of twice the density
_NEIGHBOURS = 4  # train views whose points are drawn
_MOST_POINTS = 60
_QUALITY = 72


@dataclass(frozen=True, eq=False)
class Pair:
    """A photo's poses in the Place's frame.

    Attributes:
        name: of the image.
        true: ``world_from_cam``.
        estimated: the same, or None where localization failed.
    """

    name: str
    true: Rigid3
    estimated: Rigid3 | None


def photo_svg(place: Place, pair: Pair, train: Sequence[PosedImage]) -> str:
    """The photo as SVG, a ring where a point truly is and a dot where the estimate puts it.

    Args:
        place: whose photo and points they are.
        pair: the photo's poses.
        train: posed train images; points that those next to the photo observe are drawn.
    """
    try:
        pixels = place.read_image(pair.name)
    except RelocalizeError as error:
        return f"<p>{escape(str(error))}</p>"
    height, width = pixels.shape[:2]
    camera = _camera(place, pair.name, width, height)
    marks = "" if camera is None else _marks(place, pair, train, camera, _WIDTH / width)
    shown_height = round(_WIDTH * height / width)
    return (
        f'<svg viewBox="0 0 {_WIDTH} {shown_height}" role="img" aria-label="{escape(pair.name)}">'
        f'<image href="{_webp(pixels, _WIDTH, shown_height)}" '
        f'width="{_WIDTH}" height="{shown_height}"/>{marks}</svg>'
    )


def _camera(place: Place, name: str, width: int, height: int) -> Camera | None:
    image = place.map.images.get(name)
    if image is not None:
        return image.camera.resized(width, height)
    for capture, captured in place.images():
        if captured.name == name:
            return capture.camera_of(captured).resized(width, height)
    return None


def _marks(
    place: Place, pair: Pair, train: Sequence[PosedImage], camera: Camera, scale: float
) -> str:
    positions = _points_seen_near(place, pair.true, train)
    true = camera.img_from_cam(pair.true.inverse() @ positions)
    inside = (true >= 0).all(axis=1) & (true < [camera.width, camera.height]).all(axis=1)
    chosen = np.flatnonzero(inside)
    if len(chosen) > _MOST_POINTS:
        chosen = np.random.default_rng(0).choice(chosen, _MOST_POINTS, replace=False)
    true = scale * true[chosen]
    parts = []
    if pair.estimated is not None and len(chosen):
        estimated = scale * camera.img_from_cam(pair.estimated.inverse() @ positions[chosen])
        for (x, y), (u, v) in zip(true, estimated, strict=True):
            # A grossly wrong pose puts points behind the camera (NaN) or miles away.
            if np.isfinite([u, v]).all() and abs(u) + abs(v) < 20 * _WIDTH:
                parts.append(f'<path d="M{x:.1f} {y:.1f}L{u:.1f} {v:.1f}"/>')
                parts.append(f'<circle cx="{u:.1f}" cy="{v:.1f}" r="2.2"/>')
    rings = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5"/>' for x, y in true)
    return (
        f'<g fill="none" stroke="#000" stroke-opacity=".45" stroke-width="3.4">{rings}</g>'
        f'<g fill="none" stroke="{TRUE_COLOR}" stroke-width="1.5">{rings}</g>'
        f'<g fill="{ESTIMATED_COLOR}" stroke="{ESTIMATED_COLOR}" stroke-width="1">'
        f"{''.join(parts)}</g>"
    )


def _points_seen_near(place: Place, pose: Rigid3, train: Sequence[PosedImage]) -> FloatArray:
    """Positions [N, 3] of the points that the train views nearest to ``pose`` observe."""
    if not train:
        return np.zeros((0, 3))
    centres = np.stack([image.world_from_cam.translation for image in train])
    facing = np.stack([image.cam_from_world.rotation[2] for image in train])
    distance = np.linalg.norm(centres - pose.translation, axis=1)
    # Cameras that look another way share no points, however near they are.
    away = distance / max(float(np.median(distance)), 1e-12) + (1 - facing @ pose.rotation[:, 2])
    rows = [train[int(i)].point_rows for i in np.argsort(away)[:_NEIGHBOURS]]
    seen = np.unique(np.concatenate(rows))
    return place.points.positions[seen[seen >= 0]]


def _webp(pixels: NDArray[np.uint8], width: int, height: int) -> str:
    small = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(
        ".webp", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_WEBP_QUALITY, _QUALITY]
    )
    return "data:image/webp;base64," + base64.b64encode(data.tobytes()).decode()
