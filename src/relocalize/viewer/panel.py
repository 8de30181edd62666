"""The panel beside the scene: layers, the walk's slider, the chosen photo, a photo to localize."""

from __future__ import annotations

import html
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import viser
from numpy.typing import NDArray

from relocalize import progress
from relocalize.errors import RelocalizeError
from relocalize.geometry import Rigid3
from relocalize.geometry.transforms import FloatArray
from relocalize.place import Place
from relocalize.viewer.content import Content
from relocalize.viewer.dropping import accept_drops
from relocalize.viewer.eye_motion import fly_to
from relocalize.viewer.photo_view import LookingThrough
from relocalize.viewer.placed_photo import PhotoPlacer, PlacedPhoto, harmless_name
from relocalize.viewer.scene import Scene, error_color, shrunk
from relocalize.viewer.stored_errors import ErrorLines

_BLANK: NDArray[np.uint8] = np.full((3, 4, 3), 255, dtype=np.uint8)
_FACTORS = ("1", "2", "5", "10", "20", "50", "100")
_MOST_PHOTOS = 50  # localized ones that stay, the latest


class Panel:
    """What people do, and what it changes. All browsers see the same scene and panel.

    viser calls from a pool of threads; a lock lets one at a time change what is shown.
    """

    def __init__(
        self,
        place: Place,
        scene: Scene,
        errors: Sequence[ErrorLines],
        placer: PhotoPlacer,
    ) -> None:
        self._place, self._scene, self._errors, self._placer = place, scene, errors, placer
        self._content: Content = scene.content
        self._server, self._gui = scene.server, scene.server.gui
        self._lock = threading.RLock()
        self._chosen: tuple[int, int] | None = None
        self._walk = 0
        self._chosen_pixels: NDArray[np.uint8] | None = None
        self._photos: list[PlacedPhoto] = []
        self._photo = 0
        self._visible_errors: set[int] = set()
        self._through = LookingThrough(self._content.reach, scene.look_through)
        self._server.on_client_disconnect(lambda client: self._through.left(client.client_id))
        self._build()

    # -- building --------------------------------------------------------------------------

    def _build(self) -> None:
        gui = self._gui
        gui.add_html(self._summary())
        overview = gui.add_button("See it all", hint="back to where the eye was at first")

        @overview.on_click
        def _(event: viser.GuiEvent[viser.GuiButtonHandle]) -> None:
            if event.client is not None:
                self._scene.see_all(event.client)

        self._build_walk()
        self._build_photo()
        with gui.add_folder("Layers"):
            for layer in self._scene.layers:
                self._add_layer(layer)
            self._add_size("point size", self._scene.resize_points)
            self._add_size("camera size", self._scene.resize_cameras)
        self._build_errors()

    def _summary(self) -> str:
        content = self._content
        cameras = sum(len(walk.names) for walk in content.walks)
        points = f"{content.all_points:,} points"
        if len(content.points) < content.all_points:
            points += f", {len(content.points):,} of them drawn"
        return (
            f"<div style='padding:0.2em 0.8em'><b>{html.escape(content.name)}</b><br>"
            f"{cameras:,} cameras, {points}; lengths in {html.escape(content.unit)}s. "
            "Click a camera to see its photo.</div>"
        )

    def _add_layer(self, layer: str) -> None:
        box = self._gui.add_checkbox(layer, True)

        @box.on_update
        def _(event: viser.GuiEvent[viser.GuiCheckboxHandle]) -> None:
            with self._lock:
                self._scene.show(layer, event.target.value)

    def _add_size(self, label: str, resize: Callable[[float], None]) -> None:
        slider = self._gui.add_slider(label, 0.2, 4.0, 0.1, 1.0)

        @slider.on_update
        def _(event: viser.GuiEvent[viser.GuiSliderHandle[float]]) -> None:
            with self._lock:
                resize(float(event.target.value))

    def _build_walk(self) -> None:
        gui, walks = self._gui, self._content.walks
        with gui.add_folder("Walk"):
            names = [f"{walk.name} ({len(walk.names)})" for walk in walks]
            if len(walks) > 1:
                which = gui.add_dropdown("capture", names, initial_value=names[0])

                @which.on_update
                def _(event: viser.GuiEvent[viser.GuiDropdownHandle[str]]) -> None:
                    self._take_walk(names.index(event.target.value))

            last = max(len(walks[0].names) - 1, 1)
            slider = gui.add_slider("image", 0, last, 1, 0)
            # mypy takes viser's values, whose setters are declared apart, for read-only.
            self._slider: Any = slider
            self._along = gui.add_checkbox(
                "fly along", False, hint="the eye is where the camera is, as the slider moves"
            )

            @slider.on_update
            def _(event: viser.GuiEvent[viser.GuiSliderHandle[int]]) -> None:
                if event.client is not None:
                    self.choose(self._walk, int(event.target.value), event.client)

            self._image = gui.add_image(_BLANK, format="jpeg", visible=False)
            self._words = gui.add_html("")
            self._fly = gui.add_button("Fly to this camera", visible=False)

            @self._fly.on_click
            def _(event: viser.GuiEvent[viser.GuiButtonHandle]) -> None:
                if self._chosen is not None and event.client is not None:
                    walk, row = walks[self._chosen[0]], self._chosen[1]
                    pose, half = walk.world_from_cam[row], walk.aspect[row]
                    fly_to(event.client, pose, half)
                    if self._chosen_pixels is not None:
                        self._through.look(event.client, pose, half, self._chosen_pixels)

    def _build_photo(self) -> None:
        gui = self._gui
        with gui.add_folder("Localize a photo"):
            upload = gui.add_upload_button(
                "Choose a photo, or drop one in", mime_type="image/*", hint="where was it taken?"
            )
            accept_drops(self._server, upload)
            self._which_photo: Any = gui.add_dropdown("photo", ("",), visible=False)
            self._answer = gui.add_html("")
            self._fly_to_photo = gui.add_button("Fly to the photo", visible=False)
            self._exaggerate_photo = gui.add_dropdown(
                "ellipsoid ×", _FACTORS, initial_value="1", visible=False
            )
            self._forget = gui.add_button("Forget the photos", visible=False)

        @upload.on_upload
        def _(event: viser.GuiEvent[viser.GuiUploadButtonHandle]) -> None:
            sent = event.target.value
            first = "" if self._placer.is_ready else " (the localizer is made ready first)"
            self.say(f"localizing {harmless_name(sent.name)}…{first}")
            try:
                placed = self._placer.place_upload(sent.name, sent.content)
            except RelocalizeError as error:
                self.say(str(error))
                return
            self.show_photo(placed)

        @self._which_photo.on_update
        def _(event: viser.GuiEvent[viser.GuiDropdownHandle[str]]) -> None:
            names = self._photo_names()
            if event.target.value in names:
                self._choose_photo(names.index(event.target.value))

        @self._fly_to_photo.on_click
        def _(event: viser.GuiEvent[viser.GuiButtonHandle]) -> None:
            if not self._photos or event.client is None:
                return
            photo = self._photos[self._photo]
            pose = photo.estimate.world_from_cam
            if pose is not None:
                fly_to(event.client, pose, photo.half)
                self._through.look(event.client, pose, photo.half, shrunk(photo.pixels))

        @self._exaggerate_photo.on_update
        def _(_: viser.GuiEvent[viser.GuiDropdownHandle[str]]) -> None:
            with self._lock:
                self._draw_photos()

        @self._forget.on_click
        def _(_: viser.GuiEvent[viser.GuiButtonHandle]) -> None:
            with self._lock:
                self._photos, self._photo = [], 0
                self._draw_photos()
                self._answer.content = ""
                for widget in (
                    self._which_photo,
                    self._fly_to_photo,
                    self._exaggerate_photo,
                    self._forget,
                ):
                    widget.visible = False

    def _build_errors(self) -> None:
        if not self._errors:
            return
        gui = self._gui
        with gui.add_folder("Errors, true to estimated", expand_by_default=False):
            factor = self._exaggerate_errors = gui.add_dropdown(
                "lines ×", _FACTORS, initial_value="1"
            )

            @factor.on_update
            def _(_: viser.GuiEvent[viser.GuiDropdownHandle[str]]) -> None:
                with self._lock:
                    self._draw_errors()

            for number, one in enumerate(self._errors):
                self._add_errors(number, one)

    def _add_errors(self, number: int, one: ErrorLines) -> None:
        box = self._gui.add_checkbox(f"{one.split}: {one.localizer}", False)
        color = "rgb({},{},{})".format(*error_color(number))
        self._gui.add_html(
            f"<div style='padding:0 0.8em'><b style='color:{color}'>━</b> "
            f"{_summed_up(one, self._content.short_unit)}</div>"
        )

        @box.on_update
        def _(event: viser.GuiEvent[viser.GuiCheckboxHandle]) -> None:
            with self._lock:
                shown = self._visible_errors
                (shown.add if event.target.value else shown.discard)(number)
                self._draw_errors()

    def _draw_errors(self) -> None:
        exaggeration = float(self._exaggerate_errors.value)
        self._scene.draw_errors(self._errors, exaggeration, self._visible_errors)

    # -- what people do --------------------------------------------------------------------

    def _take_walk(self, number: int) -> None:
        with self._lock:
            self._walk = number
            self._slider.max = max(len(self._content.walks[number].names) - 1, 1)
            self._slider.value = 0
        self.choose(number, 0, None)

    def choose(self, walk: int, row: int, client: viser.ClientHandle | None) -> None:
        """Show one camera and its photo, which is read now and not before.

        Args:
            walk: number of the capture.
            row: of the image in it.
            client: the browser in which that was asked for; it flies along if it wants to.
        """
        chosen = self._content.walks[walk]
        row = min(row, len(chosen.names) - 1)
        pose, half = chosen.world_from_cam[row], chosen.aspect[row]
        with self._lock:
            if self._chosen == (walk, row):
                return
            self._chosen = (walk, row)
            if walk == self._walk:
                self._slider.value = row
            pixels, said = self._photo_of(chosen.names[row])
            self._chosen_pixels = pixels
            self._scene.choose(pose, half, pixels)
            if pixels is not None:
                self._image.image = pixels
            self._image.visible = pixels is not None
            self._words.content = self._described(chosen.names[row], pose, said)
            self._fly.visible = True
        if client is not None and self._along.value:
            self._scene.detail.jumps(client)
            _jump(client, pose, half)
            if pixels is not None:
                self._through.look(client, pose, half, pixels)

    def _photo_of(self, name: str) -> tuple[NDArray[np.uint8] | None, str | None]:
        try:
            return shrunk(self._place.read_image(name)), None
        except RelocalizeError as error:
            return None, str(error)

    def _described(self, name: str, pose: Rigid3, said: str | None) -> str:
        x, y, z = pose.translation
        lines = [
            f"<b>{html.escape(name)}</b>",
            f"at {x:.2f} {y:.2f} {z:.2f} {self._content.short_unit}",
        ]
        if said is not None:
            lines.append(f"<i>{html.escape(said)}</i>")
        return _padded("<br>".join(lines))

    def say(self, line: str) -> None:
        """One line about the photo to be localized."""
        self._answer.content = _padded(f"<i>{html.escape(line)}</i>")

    def show_photo(self, placed: PlacedPhoto) -> None:
        """Show where a photo landed, or why it did not; earlier ones stay."""
        with self._lock:
            self._photos = [*self._photos, placed][-_MOST_PHOTOS:]
            number = len(self._photos) - 1
            names = self._photo_names()
            self._which_photo.options = names
            self._which_photo.value = names[number]
            self._which_photo.visible = len(names) > 1
            self._forget.visible = True
            self._choose_photo(number)
        estimate = placed.estimate
        progress.say(f"{placed.name}: {estimate.status} {estimate.reason or ''}".strip())

    def _photo_names(self) -> tuple[str, ...]:
        return tuple(f"{row}: {photo.name}" for row, photo in enumerate(self._photos, 1))

    def _choose_photo(self, number: int) -> None:
        with self._lock:
            self._photo = number
            self._draw_photos()
            placed = self._photos[number]
            self._answer.content = _padded(_answer(placed, self._content.short_unit))
            landed = placed.estimate.world_from_cam is not None
            self._fly_to_photo.visible = landed
            self._exaggerate_photo.visible = landed and placed.estimate.covariance is not None

    def _draw_photos(self) -> None:
        exaggeration = float(self._exaggerate_photo.value)
        self._scene.place_photos(self._photos, self._photo, exaggeration)


def _jump(client: viser.ClientHandle, pose: Rigid3, half: FloatArray) -> None:
    """Like `fly_to`, at once: a slider under way has no time to fly."""
    with client.atomic():
        client.camera.position = pose.translation
        client.camera.wxyz = pose.quat_wxyz
        tall = max(float(half[1]), float(half[0]) / max(client.camera.aspect, 1e-3))
        client.camera.fov = 2 * float(np.arctan(tall))


def _summed_up(errors: ErrorLines, unit: str) -> str:
    tested = len(errors.images) + len(errors.failed)
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
