"""Camera pose regression: backbones, heads, losses, augmentation, the training loop (torch)."""

from __future__ import annotations

from importlib.util import find_spec

from relocalize.errors import LocalizerError


def require_torch() -> None:
    """Raise one clear line where torch, or what a training needs beside it, is not installed.

    Raises:
        LocalizerError: it is not.
    """
    for package in ("torch", "safetensors", "tensorboard"):
        if find_spec(package) is None:
            raise LocalizerError(
                f"pose regression needs {package}, which is not installed; "
                'install it with: pip install "relocalize[train]"'
            )
