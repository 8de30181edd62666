"""Camera pose regression: backbones, heads, losses, augmentation, the training loop (torch)."""

from __future__ import annotations

from importlib.util import find_spec

from relocalize.errors import LocalizerError


def require_torch() -> None:
    """Raise LocalizerError where torch, or what else a training needs, is not installed."""
    for package in ("torch", "tensorboard"):
        if find_spec(package) is None:
            raise LocalizerError(
                f"pose regression needs {package}, which is not installed; "
                'install it with: pip install "relocalize[train]"'
            )
