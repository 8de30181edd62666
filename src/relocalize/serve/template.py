"""The process that workers are copies of: it loads a Place once, and forks.

Workers share all of its memory that neither writes to, which are the arrays of the map, and one
that was killed is replaced in milliseconds. It runs as a program of its own with a single thread,
because a process with threads cannot fork safely. Its arguments: a socket, and JSON of what to do.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from relocalize import progress
from relocalize.errors import RelocalizeError
from relocalize.localization import Localizer
from relocalize.localization.store import in_memory
from relocalize.parallel import one_native_thread
from relocalize.place import Place
from relocalize.plain import to_strict_json
from relocalize.plotting.floor import floor_plan
from relocalize.serve.messages import packed
from relocalize.serve.worker import work

_REACH = (1, 99)  # percentiles of the points: some are always far out
_QUICK_DEATH_S = 1.0  # a worker that lives no longer is replaced more slowly


def main(address: str, settings: dict[str, Any]) -> None:
    """Load the Place, say what it is, and keep workers alive until stdin is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the service's to handle
    with progress.shown(), one_native_thread():
        connection = _connected(address)
        try:
            localizers, facts, floor = _loaded(Path(settings["place"]), settings["localizers"])
        except RelocalizeError as error:
            connection.sendall(packed({"failed": str(error)}))
            return
        except OSError as error:
            connection.sendall(packed({"failed": f"{settings['place']}: {error.strerror}"}))
            return
        connection.sendall(packed({"facts": facts}, floor))
        gc.collect()
        gc.freeze()  # so that collections in workers do not touch, and copy, what is shared
        _keep_alive(address, localizers, settings["workers"])


def _loaded(root: Path, names: list[str]) -> tuple[dict[str, Localizer], dict[str, Any], bytes]:
    place = Place.open(root, recover=False)
    localizers = {name: in_memory(place, name) for name in names}
    return localizers, *_facts(place)


def _facts(place: Place) -> tuple[dict[str, Any], bytes]:
    """What clients are told of a Place, and the PNG of its floor plan."""
    centres = np.stack([image.world_from_cam.translation for image in place.posed_images()])
    points = place.points.positions
    seen = np.percentile(points, _REACH, axis=0) if len(points) else centres
    around = np.concatenate([centres, seen])
    plan = floor_plan(place)
    frame = place.frame
    facts = {
        "name": place.name,
        "unit": frame.unit,
        "frame": frame,
        "extent": {"low": around.min(axis=0), "high": around.max(axis=0)},
        "images": len(centres),
        "points": len(points),
        "map_digest": place.map_digest(),
        "floor": {
            "floor_from_world": plan.axes,
            "low": plan.low,
            "high": plan.high,
            "pixels": [plan.density.shape[1], plan.density.shape[0]],
        },
    }
    return to_strict_json(facts), plan.png()


def _connected(address: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(address)
    return connection


def _keep_alive(address: str, localizers: dict[str, Localizer], count: int) -> None:
    wake, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    born: dict[int, float] = {}
    try:
        while True:
            while len(born) < count:
                born[_fork(address, localizers)] = time.monotonic()
            ready, _, _ = select.select([sys.stdin, wake], [], [])
            if sys.stdin in ready:
                return  # the service has gone
            os.read(wake, 4096)
            for pid in [pid for pid in born if os.waitpid(pid, os.WNOHANG)[0]]:
                if time.monotonic() - born.pop(pid) < _QUICK_DEATH_S:
                    time.sleep(_QUICK_DEATH_S / 2)
    finally:
        for pid in born:
            os.kill(pid, signal.SIGKILL)


def _fork(address: str, localizers: dict[str, Localizer]) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        connection = _connected(address)
        connection.sendall(packed({"worker": os.getpid()}))
        work(connection, localizers)
    except OSError:
        pass  # the service has gone
    finally:
        os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
    os._exit(0)  # Ctrl-C does not wait for Python to unload
