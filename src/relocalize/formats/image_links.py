"""Placing images where another tool looks for them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from relocalize.errors import FormatError


def place_image(file: Path, target: Path) -> None:
    """Hard-link ``file`` to ``target``, or copy it where links cannot be.

    Raises:
        FormatError: the image cannot be read, or the target not be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(file.resolve(), target)
        except OSError:  # another disk, or a file system without links
            shutil.copyfile(file, target)
    except OSError as error:
        raise FormatError(f"image {file} cannot be placed at {target}: {error.strerror}") from None
