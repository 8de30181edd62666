"""The report's photos: where map points fall by the true pose and by the estimated one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from relocalize.errors import RelocalizeError
from relocalize.evaluation.names import TRIVIAL
from relocalize.evaluation.report import facts
from relocalize.evaluation.report.stored import Results
from relocalize.evaluation.report.thumbnails import webp
from relocalize.evaluation.table import degrees
from relocalize.geometry import Camera, Rigid3
from relocalize.geometry.transforms import FloatArray
from relocalize.place import Place, PosedImage
from relocalize.place.image_file import orientation_of, rgb, upright, upright_pixels

_PHOTOS = 3  # of the worst, and of those around the median
_NEXT = 25  # test images from one moment of a walk: a second of video
_WIDTH = 520  # pixels of a photo: a third of the page on a screen of twice the density
_NEIGHBOURS = 4  # train views whose points are drawn
_MOST_POINTS = 60
_QUALITY = 72


@dataclass(frozen=True, eq=False)
class Photo:
    """A photo with points of the map in it, in pixels of the figure."""

    name: str  # of the image
    result: str  # its error, or that it failed
    more: str  # what else the localizer said
    near: str  # how far the nearest train view is
    fault: str = ""  # why there is no image, or empty
    image: str = ""  # a ``data:`` address
    width: int = _WIDTH  # of the figure
    height: int = 0  # of the figure
    true: Sequence[Sequence[float]] = ()  # [N, 2] where points are by the true pose
    # [M, 4] where some are by the true pose and by the estimate
    moves: Sequence[Sequence[float]] = ()


def photo_panels(
    place: Place, results: Results, train: list[PosedImage]
) -> dict[str, dict[str, list[Photo]]]:
    """``worst`` and ``typical`` photos of each localizer.

    Of the foremost localizers that look at what is in the photo, or of the last row where none
    does.
    """
    shown = [name for name in results.foremost if name not in TRIVIAL] or [results.lead]
    panels = {}
    for name in shown:
        errors = results.errors(name, "position_error")
        order = np.argsort(-errors, kind="stable").tolist()
        worst = _apart(order)
        answered = [index for index in order if np.isfinite(errors[index])]
        ranks = sorted(range(len(answered)), key=lambda rank: abs(rank - (len(answered) - 1) / 2))
        typical = _apart([answered[rank] for rank in ranks if answered[rank] not in worst])
        panels[name] = {
            kind: [_photo(place, results, results.images[at], name, train) for at in chosen]
            for kind, chosen in (("worst", worst), ("typical", typical))
        }
    return panels


def _apart(order: list[int]) -> list[int]:
    """The first few test images that are not next to each other: neighbours show the same."""
    reach = min(_NEXT, len(order) // 12)  # few test images are not all of one moment
    chosen: list[int] = []
    for index in order:
        if len(chosen) < _PHOTOS and all(abs(index - other) > reach for other in chosen):
            chosen.append(index)
    return chosen


def _photo(
    place: Place, results: Results, row: dict[str, Any], localizer: str, train: list[PosedImage]
) -> Photo:
    found, name = row["localizers"][localizer], row["image"]
    result, more = results.error_words(row, localizer), ""
    if found["position"] is None:
        more = f": {found['reason']}"
    elif found["position_sigma"] is not None:
        stated = results.length(results.truth_from_place.scale * found["position_sigma"])
        more = f", stated ± {stated}, {degrees(found['rotation_sigma_deg'])}°"
    if found["inliers"] is not None:
        more += f", {found['inliers']} inliers"
    near = facts.nearest_view(results, row)
    try:
        stored = place.open_image(name)
    except RelocalizeError as error:
        return Photo(name, result, more, near, fault=str(error))
    # Poses are of the pixels as stored; people want them upright.
    width, height = stored.size
    orientation, shown = orientation_of(stored), upright(stored)
    scale = _WIDTH / shown.width
    shown_height = round(scale * shown.height)
    small = Image.fromarray(rgb(shown)).resize((_WIDTH, shown_height), Image.Resampling.BOX)
    image = webp(small, quality=_QUALITY)
    camera = _camera(place, name, width, height)
    if camera is None:
        return Photo(name, result, more, near, image=image, height=shown_height)

    place_from_truth = results.truth_from_place.inverse()

    def in_place(pose: dict[str, Any]) -> Rigid3:
        in_truth = Rigid3.from_quat_wxyz(pose["quat_wxyz"], pose["position"])
        return place_from_truth.move_camera(in_truth)

    def on_page(pixels: FloatArray) -> FloatArray:
        return scale * upright_pixels(pixels, orientation, width, height)

    positions, true = _points_in(place, in_place(row), train, camera)
    moves = np.empty((0, 4))
    if found["position"] is not None:
        estimated = camera.img_from_cam(in_place(found).inverse() @ positions)
        moves = np.hstack([on_page(true), on_page(estimated)])
        # A grossly wrong pose puts points behind the camera (NaN) or miles away.
        moves = moves[np.abs(moves[:, 2:]).sum(axis=1) < 20 * _WIDTH]
    return Photo(
        name,
        result,
        more,
        near,
        image=image,
        height=shown_height,
        true=on_page(true).round(1).tolist(),
        moves=moves.round(1).tolist(),
    )


def _camera(place: Place, name: str, width: int, height: int) -> Camera | None:
    image = place.map.images.get(name)
    if image is not None:
        return image.camera.resized(width, height)
    for capture, captured in place.images():
        if captured.name == name:
            return capture.camera_of(captured).resized(width, height)
    return None


def _points_in(
    place: Place, true: Rigid3, train: Sequence[PosedImage], camera: Camera
) -> tuple[FloatArray, FloatArray]:
    """Some points [N, 3] that the train views nearest to a pose observe, and pixels [N, 2]."""
    if not train:
        return np.empty((0, 3)), np.empty((0, 2))
    centres = np.stack([image.world_from_cam.translation for image in train])
    facing = np.stack([image.cam_from_world.rotation[2] for image in train])
    distance = np.linalg.norm(centres - true.translation, axis=1)
    # Cameras that look another way share no points, however near they are.
    away = distance / max(float(np.median(distance)), 1e-12) + (1 - facing @ true.rotation[:, 2])
    rows = [train[int(i)].point_rows for i in np.argsort(away)[:_NEIGHBOURS]]
    seen = np.unique(np.concatenate(rows))
    positions = place.points.positions[seen[seen >= 0]]
    pixels = camera.img_from_cam(true.inverse() @ positions)
    inside = (pixels >= 0).all(axis=1) & (pixels < [camera.width, camera.height]).all(axis=1)
    chosen = np.flatnonzero(inside)
    if len(chosen) > _MOST_POINTS:
        chosen = np.random.default_rng(0).choice(chosen, _MOST_POINTS, replace=False)
    return positions[chosen], pixels[chosen]
