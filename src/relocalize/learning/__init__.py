"""Camera pose regression: backbones, heads, losses, augmentation, the training loop (torch)."""

from __future__ import annotations

from importlib.util import find_spec

from relocalize.errors import LocalizerError


def require_torch() -> None:
    """Raise one clear line where torch is not installed.

    Raises:
        LocalizerError: it is not.
    """
    if find_spec("torch") is None:
        raise LocalizerError(
            "pose regression needs torch, which is not installed; "
            'install it with: pip install "relocalize[train]"'
        )
