"""What a browser may not do: fill the memory with uploads, or publish the Place elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import viser
from viser import _messages

from relocalize.viewer.placed_photo import MAX_BYTES, harmless_name, too_large

_ALL_UPLOADS = 4 * MAX_BYTES  # of all browsers together, under way


def guard(server: viser.ViserServer, say: Callable[[str], None]) -> None:
    """Drop uploads that are too large, announced or sent, with one line; no tunnels.

    viser (1.1) gathers an upload in memory, however long it is, and a browser can ask it for a
    public address. It has no public way to refuse either, so its insides are reached into; all
    of that is here.
    """
    gui: Any = server.gui
    under_way: dict[str, Any] = gui._current_file_upload_states
    interface: Any = gui._websock_interface

    def drop(transfer: str, size: int) -> None:
        state = under_way.pop(transfer, None)
        if state is not None:
            say(too_large(harmless_name(str(state["filename"])), size))

    def at_start(_: int, message: _messages.FileTransferStartUpload) -> None:
        if message.size_bytes > MAX_BYTES:
            drop(message.transfer_uuid, message.size_bytes)

    def at_part(_: int, message: _messages.FileTransferPart) -> None:
        state = under_way.get(message.transfer_uuid)
        if state is None:
            return
        total = sum(other["transferred_bytes"] for other in list(under_way.values()))
        if state["transferred_bytes"] > MAX_BYTES or total > _ALL_UPLOADS:
            drop(message.transfer_uuid, state["transferred_bytes"])

    # Handlers run in the order of registration: viser's own has made the record by then.
    interface.register_handler(_messages.FileTransferStartUpload, at_start)
    interface.register_handler(_messages.FileTransferPart, at_part)
    interface.unregister_handler(_messages.ShareUrlRequest)
