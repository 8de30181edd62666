"""A Place to walk around in, in a browser: points, cameras, photos, errors, where a photo lands."""

from __future__ import annotations

from importlib.util import find_spec

from relocalize.errors import ViewerError


def require_viser() -> None:
    """Raise one clear line where viser, which draws, is not installed.

    Raises:
        ViewerError: it is not.
    """
    if find_spec("viser") is None:
        raise ViewerError(
            'the viewer needs viser, which is not installed; install it with: pip install "'
            'relocalize[view]"'
        )
