"""Photos that are dropped anywhere on the page are uploads like those that are chosen."""

from __future__ import annotations

from typing import Any

import viser
from viser import _messages

# Dropped files go through the button's own input, one after another, so that there is one way in.
_SCRIPT = """
window.relocalizeUpload = %(button)r;
if (window.relocalizeListens) return;  // the page was connected before
window.relocalizeListens = true;
const input = () => document.getElementById("file_upload_" + window.relocalizeUpload);
const button = () => document.getElementById(window.relocalizeUpload);
const hasFiles = event => [...(event.dataTransfer?.types ?? [])].includes("Files");
const outline = on => { document.body.style.outline = on ? "4px dashed rgb(230, 30, 90)" : "";
                        document.body.style.outlineOffset = "-4px"; };
const waiting = [];
let timer = null;
const sendNext = () => {
    timer = null;
    if (!waiting.length) return;
    if (input() && !button().disabled) {
        const one = new DataTransfer();
        one.items.add(waiting.shift());
        input().files = one.files;
        input().dispatchEvent(new Event("change", {bubbles: true}));
    }
    timer = setTimeout(sendNext, 200);
};
window.addEventListener("dragover", event => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    outline(true);
});
window.addEventListener("dragleave", event => { if (!event.relatedTarget) outline(false); });
window.addEventListener("drop", event => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    outline(false);
    waiting.push(...event.dataTransfer.files);
    if (timer === null) sendNext();
});
"""


def accept_drops(server: viser.ViserServer, button: viser.GuiUploadButtonHandle) -> None:
    """Let files be dropped onto the page, as if they had been chosen with a button.

    viser (1.1) has no such thing, and no public way to run a script in its page; all that
    reaches into its insides for this is here.

    Args:
        server: of the page.
        button: that uploads.
    """
    insides: Any = button
    script = _SCRIPT % {"button": str(insides._impl.uuid)}
    interface: Any = server.gui._websock_interface
    interface.queue_message(_messages.RunJavascriptMessage(source=script))
