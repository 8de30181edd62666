"""The viewer as a program: a port that is free, a server, an end by Ctrl-C."""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import viser

from relocalize import progress
from relocalize.errors import ViewerError
from relocalize.localization import Localizer, fitted
from relocalize.localization.registry import TRAINED
from relocalize.localization.store import folder_and_kind, in_memory
from relocalize.place import Place
from relocalize.ports import LOOPBACK, listening, shown_host
from relocalize.viewer.content import MOST_POINTS, content_of
from relocalize.viewer.guard import guard
from relocalize.viewer.panel import Panel
from relocalize.viewer.placed_photo import PhotoPlacer
from relocalize.viewer.scene import Scene
from relocalize.viewer.stored_errors import stored_errors


@dataclass(frozen=True)
class ViewSettings:
    """How a Place is shown."""

    host: str = "127.0.0.1"  # address to listen on
    port: int = 8080  # to listen on; 0 takes a free one
    captures: tuple[str, ...] = ()  # which are drawn; none means all
    localizer: str = "structure"  # that localizes photos
    most_points: int = MOST_POINTS  # more are thinned


@dataclass(frozen=True, eq=False)
class Viewer:
    """A viewer that is being served."""

    server: viser.ViserServer  # viser's
    scene: Scene  # what is drawn
    panel: Panel  # what people do
    url: str  # where a browser on this machine finds it

    def wait(self) -> None:
        """Until somebody interrupts."""
        threading.Event().wait()


@contextlib.contextmanager
def serve(
    place: Place, settings: ViewSettings = ViewSettings(), *, photos: Sequence[Path] = ()
) -> Iterator[Viewer]:
    """Serve the viewer of a Place within this context.

    Args:
        place: with a map.
        settings: what is shown, and where.
        photos: are localized at once; the last one is shown.

    Raises:
        ViewerError: the port is taken.
        LocalizerError: there is no such localizer, or it is not trained.
        RelocalizeError: the Place has no map, or a photo cannot be read.
    """
    content = content_of(place, settings.captures, most_points=settings.most_points)
    errors, remarks = stored_errors(place)
    for remark in remarks:
        progress.say(remark)
    placer = PhotoPlacer(photo_localizer(place, settings.localizer), settings.localizer)
    placed = [placer.place_file(path) for path in photos]
    server = _started(settings)
    try:
        scene = Scene(server, content)
        scene.build(lambda client, walk, row: panel.choose(walk, row, client))
        panel = Panel(place, scene, errors, placer)
        guard(server, panel.say)
        for photo in placed:
            panel.show_photo(photo)
        host = shown_host(settings.host)
        yield Viewer(server, scene, panel, f"http://{host}:{server.get_port()}")
    finally:
        with _silent():
            server.stop()


def photo_localizer(place: Place, name: str) -> Callable[[], Localizer]:
    """What gives the localizer ``name`` when the first photo comes.

    One that is fitted in a moment is fitted then. One that is trained is loaded now, or refused:
    nobody who chooses a photo waits for a training that he did not ask for.
    """
    if folder_and_kind(place, name)[1] not in TRAINED:
        return lambda: fitted(place, name)
    localizer = in_memory(place, name)
    return lambda: localizer


def _started(settings: ViewSettings) -> viser.ViserServer:
    # viser would silently take another port where this one is taken.
    listening(settings.host, settings.port, ViewerError).close()
    with _silent():
        server = viser.ViserServer(host=settings.host, port=settings.port, verbose=False)
    server.gui.configure_theme(show_share_button=False, show_logo=False, control_width="medium")
    server.gui.set_panel_label("relocalize")
    return server


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """What viser prints when it starts and ends goes nowhere; what people are to know we say."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def describe_access(settings: ViewSettings, url: str) -> list[str]:
    """How the viewer is opened, for people; the first line is the address."""
    port = url.rsplit(":", 1)[-1]
    if settings.host in LOOPBACK:
        return [
            f"open {url}",
            f"from another machine: ssh -N -L {port}:localhost:{port} USER@THIS-MACHINE, "
            f"then http://localhost:{port} there",
        ]
    return [
        f"open {url}, from elsewhere with this machine's name",
        f"note: everybody who reaches port {port} sees the photos and may upload some",
    ]
