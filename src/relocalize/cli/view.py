"""`relocalize view PLACE`: a Place to walk around in, in a browser."""

from __future__ import annotations

import sys
import webbrowser
from dataclasses import dataclass
from pathlib import Path

import tyro

from relocalize.capture.photos import photo_paths
from relocalize.cli.options import Flag
from relocalize.place import Place
from relocalize.viewer import require_viser


@dataclass(frozen=True)
class View:
    """Walk around in a Place in a browser: points, cameras, photos, errors, where a photo lands."""

    place: tyro.conf.Positional[Path]
    """The Place folder."""
    localize: tuple[Path, ...] = ()
    """Photos to localize at the start."""
    localizer: str = "structure"
    """Localizer of photos."""
    captures: tuple[str, ...] = ()
    """Draw only these; else all."""
    points: int = 200_000
    """Draw at most this many map points."""
    port: int = 8080
    """Port to listen on; 0 takes a free one."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 lets the whole network in, without a password."""
    open: Flag = False
    """Open the browser."""

    def run(self) -> int:
        """Serve it until Ctrl-C."""
        require_viser()
        from relocalize.viewer.serving import (  # noqa: PLC0415 - only now is it known to be there
            ViewSettings,
            describe_access,
            serve,
        )

        settings = ViewSettings(
            host=self.host,
            port=self.port,
            captures=self.captures,
            localizer=self.localizer,
            most_points=self.points,
        )
        place = Place.open(self.place)
        try:
            with serve(place, settings, photos=photo_paths(self.localize)) as viewer:
                address, *more = describe_access(settings, viewer.url)
                print(address, flush=True)
                for line in [*more, "Ctrl-C ends it"]:
                    print(line, file=sys.stderr)
                if self.open:
                    webbrowser.open(viewer.url)
                viewer.wait()
        except KeyboardInterrupt:  # the way in which it is meant to end
            print("the viewer has ended", file=sys.stderr)
        return 0
