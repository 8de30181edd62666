"""The panel next to the scene: layers, a walk's slider, the chosen photo, a photo to localize."""

from __future__ import annotations

import html
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import viser
from numpy.typing import NDArray

from relocalize import progress
from relocalize.errors import RelocalizeError
from relocalize.place import Place
from relocalize.place.image_file import shrunk
from relocalize.viewer.content import Content
from relocalize.viewer.photo_view import PhotoBackdrops
from relocalize.viewer.placed_photo import PhotoPlacer, PlacedPhoto, harmless_name
from relocalize.viewer.scene import SHOWN_PIXELS, Scene, error_color
from relocalize.viewer.stored_errors import ErrorLines

_BLANK: NDArray[np.uint8] = np.full((3, 4, 3), 255, dtype=np.uint8)
_FACTORS = ("1", "2", "5", "10", "20", "50", "100")
_MOST_PHOTOS = 50  # localized ones that stay, the latest


class Panel:
    """What people do, and what it changes. All browsers see the same scene and panel.

    viser calls from a pool of threads; a lock lets one at a time change what is shown.
    """

    def __init__(
        self, place: Place, scene: Scene, errors: Sequence[ErrorLines], placer: PhotoPlacer
    ) -> None:
        self._place, self._scene, self._errors, self._placer = place, scene, errors, placer
        self._content: Content = scene.content
        # mypy takes viser's values, whose setters are declared apart, for read-only.
        self._gui: Any = scene.server.gui
        self._lock = threading.RLock()
        self._chosen: tuple[int, int] | None = None
        self._chosen_pixels: NDArray[np.uint8] | None = None
        self._walk = 0
        self._photos: list[PlacedPhoto] = []
        self._photo = 0
        self._visible_errors: set[int] = set()
        self._backdrops = PhotoBackdrops(self._content.reach, scene.put_photo_behind)
        scene.server.on_client_disconnect(lambda client: self._backdrops.left(client.client_id))
        self._build()

    # -- building --------------------------------------------------------------------------

    def _build(self) -> None:
        gui, scene = self._gui, self._scene
        gui.add_html(self._summary())
        overview = gui.add_button("See it all", hint="back to where the eye was at first")
        self._on_click(overview, scene.see_all)
        with gui.add_folder("Walk"):
            self._build_walk()
        with gui.add_folder("Localize a photo"):
            self._build_photo()
        with gui.add_folder("Layers"):
            for layer in scene.layers:
                self._on_change(gui.add_checkbox(layer, True), partial(scene.show, layer))
            for what, resize in (("point", scene.resize_points), ("camera", scene.resize_cameras)):
                self._on_change(gui.add_slider(f"{what} size", 0.2, 4.0, 0.1, 1.0), resize)
        if self._errors:
            with gui.add_folder("Errors, true to estimated", expand_by_default=False):
                self._build_errors()

    def _on_click(self, button: Any, act: Callable[[viser.ClientHandle], None]) -> None:
        """Do something for the browser in which a button is pressed."""

        def clicked(event: viser.GuiEvent[Any]) -> None:
            if event.client is not None:
                act(event.client)

        button.on_click(clicked)

    def _on_change(self, widget: Any, act: Callable[[Any], None]) -> None:
        """Do something with a widget's new value."""

        def changed(event: viser.GuiEvent[Any]) -> None:
            with self._lock:
                act(event.target.value)

        widget.on_update(changed)

    def _summary(self) -> str:
        content = self._content
        cameras = sum(len(walk.names) for walk in content.walks)
        points = f"{content.all_points:,} points"
        if len(content.points) < content.all_points:
            points += f", {len(content.points):,} of them drawn"
        return _padded(
            f"<b>{html.escape(content.name)}</b><br>{cameras:,} cameras, {points}; lengths in "
            f"{html.escape(content.unit)}s. Click a camera to see its photo."
        )

    def _build_walk(self) -> None:
        gui, walks = self._gui, self._content.walks
        names = [f"{walk.name} ({len(walk.names)})" for walk in walks]
        if len(walks) > 1:
            which = gui.add_dropdown("capture", names, initial_value=names[0])
            self._on_change(which, lambda name: self._take_walk(names.index(name)))
        self._slider = gui.add_slider("image", 0, max(len(walks[0].names) - 1, 1), 1, 0)
        self._along = gui.add_checkbox(
            "eye follows", False, hint="the eye is where the camera is, as the slider moves"
        )

        def moved(event: viser.GuiEvent[Any]) -> None:
            if event.client is not None:
                self.choose(self._walk, int(event.target.value), event.client)

        self._slider.on_update(moved)
        self._image = gui.add_image(_BLANK, format="jpeg", visible=False)
        self._words = gui.add_html("")
        self._go = gui.add_button("Go to this camera", visible=False)
        self._on_click(self._go, self._go_to_chosen)

    def _build_photo(self) -> None:
        gui = self._gui
        upload = gui.add_upload_button(
            "Choose a photo", mime_type="image/*", hint="where was it taken?"
        )
        self._which_photo = gui.add_dropdown("photo", ("",), visible=False)
        self._answer = gui.add_html("")
        self._go_to_photo = gui.add_button("Go to the photo", visible=False)
        self._exaggerate_photo = gui.add_dropdown(
            "ellipsoid ×", _FACTORS, initial_value="1", visible=False
        )
        self._forget = gui.add_button("Forget the photos", visible=False)
        upload.on_upload(lambda event: self._localize(event.target.value))
        self._on_change(self._which_photo, self._photo_named)
        self._on_click(self._go_to_photo, self._go_to_chosen_photo)
        self._on_change(self._exaggerate_photo, lambda _: self._draw_photos())
        self._on_click(self._forget, lambda _: self._forget_photos())

    def _build_errors(self) -> None:
        gui = self._gui
        self._exaggerate_errors = gui.add_dropdown("lines ×", _FACTORS, initial_value="1")
        self._on_change(self._exaggerate_errors, lambda _: self._draw_errors())
        for number, one in enumerate(self._errors):
            box = gui.add_checkbox(f"{one.split}: {one.localizer}", False)
            self._on_change(box, partial(self._show_errors, number))
            color = "rgb({},{},{})".format(*error_color(number))
            said = _summed_up(one, self._content.unit_of())
            gui.add_html(_padded(f"<b style='color:{color}'>━</b> {said}"))

    # -- what people do --------------------------------------------------------------------

    def _show_errors(self, number: int, shown: bool) -> None:
        (self._visible_errors.add if shown else self._visible_errors.discard)(number)
        self._draw_errors()

    def _draw_errors(self) -> None:
        exaggeration = float(self._exaggerate_errors.value)
        self._scene.draw_errors(self._errors, exaggeration, self._visible_errors)

    def _take_walk(self, number: int) -> None:
        self._walk = number
        self._slider.max = max(len(self._content.walks[number].names) - 1, 1)
        self._slider.value = 0
        self.choose(number, 0, None)

    def choose(self, walk: int, row: int, client: viser.ClientHandle | None) -> None:
        """Show a walk's camera and its photo, which is read now; a browser's eye may follow."""
        chosen = self._content.walks[walk]
        row = min(row, len(chosen.names) - 1)
        with self._lock:
            if self._chosen == (walk, row):
                return
            self._chosen = (walk, row)
            if walk == self._walk:
                self._slider.value = row
            x, y, z = chosen.world_from_cam[row].translation + self._scene.content.origin
            lines = [
                f"<b>{html.escape(chosen.names[row])}</b>",
                f"at {x:.2f} {y:.2f} {z:.2f} {self._content.unit_of()}",
            ]
            pixels: NDArray[np.uint8] | None = None
            try:
                pixels = shrunk(self._place.read_image(chosen.names[row]), SHOWN_PIXELS)
                self._image.image = pixels
            except RelocalizeError as error:
                lines.append(f"<i>{html.escape(str(error))}</i>")
            pose, half = chosen.world_from_cam[row], chosen.aspect[row]
            self._scene.choose(pose, half, pixels)
            self._chosen_pixels, self._image.visible = pixels, pixels is not None
            self._words.content = _padded("<br>".join(lines))
            self._go.visible = True
        if client is not None and self._along.value:
            self._go_to_chosen(client)

    def _go_to_chosen(self, client: viser.ClientHandle) -> None:
        if self._chosen is not None:
            walk, row = self._content.walks[self._chosen[0]], self._chosen[1]
            self._scene.detail.jumps(client)
            self._backdrops.go_to(
                client, walk.world_from_cam[row], walk.aspect[row], self._chosen_pixels
            )

    def say(self, line: str) -> None:
        """One line about the photo to be localized."""
        self._answer.content = _padded(f"<i>{html.escape(line)}</i>")

    def _localize(self, sent: viser.UploadedFile) -> None:
        first = "" if self._placer.is_ready else " (the localizer is made ready first)"
        self.say(f"localizing {harmless_name(sent.name)}…{first}")
        try:
            self.show_photo(self._placer.place_upload(sent.name, sent.content))
        except RelocalizeError as error:
            self.say(str(error))

    def show_photo(self, placed: PlacedPhoto) -> None:
        """Show where a photo landed, or why it did not; earlier ones stay."""
        with self._lock:
            self._photos = [*self._photos, placed][-_MOST_PHOTOS:]
            names = self._photo_names()
            self._which_photo.options = names
            self._which_photo.value = names[-1]
            self._which_photo.visible = len(names) > 1
            self._forget.visible = True
            self._choose_photo(len(names) - 1)
        estimate = placed.estimate
        progress.say(f"{placed.name}: {estimate.status} {estimate.reason or ''}".strip())

    def _photo_names(self) -> tuple[str, ...]:
        return tuple(f"{row}: {photo.name}" for row, photo in enumerate(self._photos, 1))

    def _photo_named(self, name: str) -> None:
        names = self._photo_names()
        if name in names:
            self._choose_photo(names.index(name))

    def _choose_photo(self, number: int) -> None:
        self._photo = number
        self._draw_photos()
        placed = self._photos[number]
        self._answer.content = _padded(_answer(placed, self._content.unit_of()))
        landed = placed.estimate.world_from_cam is not None
        self._go_to_photo.visible = landed
        self._exaggerate_photo.visible = landed and placed.estimate.covariance is not None

    def _go_to_chosen_photo(self, client: viser.ClientHandle) -> None:
        photo = self._photos[self._photo] if self._photos else None
        if photo is not None and photo.estimate.world_from_cam is not None:
            pose = photo.estimate.world_from_cam.shifted(-self._scene.content.origin)
            pixels = shrunk(photo.pixels, SHOWN_PIXELS)
            self._backdrops.go_to(client, pose, photo.half, pixels)

    def _forget_photos(self) -> None:
        with self._lock:
            self._photos, self._photo = [], 0
            self._draw_photos()
            self._answer.content = ""
            shown = (self._which_photo, self._go_to_photo, self._exaggerate_photo, self._forget)
            for widget in shown:
                widget.visible = False

    def _draw_photos(self) -> None:
        exaggeration = float(self._exaggerate_photo.value)
        self._scene.place_photos(self._photos, self._photo, exaggeration)


def _summed_up(errors: ErrorLines, unit: str) -> str:
    tested = len(errors.true) + len(errors.failed)
    if not tested:
        return "no test images"
    failed = f"{len(errors.failed)} of {tested} failed"
    return failed if np.isinf(errors.median) else f"median {errors.median:.3g} {unit}, {failed}"


def _answer(placed: PlacedPhoto, unit: str) -> str:
    estimate, name = placed.estimate, html.escape(placed.name)
    pose = estimate.world_from_cam
    if pose is None:
        return f"<b>{name}</b>: not localized<br><i>{html.escape(estimate.reason or '')}</i>"
    x, y, z = pose.translation
    lines = [
        f"<b>{name}</b> by {html.escape(placed.localizer)}",
        f"at {x:.3f} {y:.3f} {z:.3f} {unit}",
    ]
    if estimate.position_sigma is not None:
        lines.append(
            f"± {estimate.position_sigma:.3g} {unit}, ± {estimate.rotation_sigma_deg:.2f}° "
            "(one sigma, worst axis; the ellipsoid holds 95%)"
        )
    if estimate.inliers is not None:
        lines.append(f"{estimate.inliers} inliers, {estimate.milliseconds:.0f} ms")
    return "<br>".join(lines)


def _padded(content: str) -> str:
    return f"<div style='padding:0.2em 0.8em;overflow-wrap:anywhere'>{content}</div>"
