"""Tensors out of `.pth`, `.pth.tar` and `.safetensors` files, without trusting the file.

A `.pth` is a pickle, and Python's unpickler calls whatever a pickle names; torch's restricted one
(``weights_only=True``) knows tensors and refuses all else.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from relocalize.errors import FormatError

ZIP = b"PK\x03\x04"
# What `torch.save` of a tensor starts with before torch 1.6: protocol 2, LONG1, ten bytes.
OLD_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
# Where the files that are met keep their tensors: Places365 and others that torch's ImageNet
# example made, common trainers, or the file's top.
_HOLDERS = ("state_dict", "model", "model_state_dict")


def read_torch(path: Path) -> dict[str, Tensor]:
    """Every tensor of a state dict, by name, on the CPU; `module.` in front is taken off.

    Raises:
        FormatError: it is damaged, holds no tensors, or asks for more than tensors need.
    """
    try:
        _refuse_compressed(path)
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except FormatError:
        raise
    except Exception as error:  # torch documents none; whatever a damaged file makes it raise
        if asked := re.search(r"GLOBAL (\S+)", str(error)):
            raise FormatError(
                f"{path} asks for {asked.group(1)[:100]}; weights need only tensors, so it was "
                "not opened: get the file from where you trust it, or save its state_dict alone"
            ) from None
        raise damaged(path, error) from None
    return _tensors(stored, path)


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Every tensor of a safetensors file, by name.

    Raises:
        FormatError: it is damaged.
    """
    from safetensors import SafetensorError  # noqa: PLC0415 (an extra, for these files alone)
    from safetensors.torch import load_file  # noqa: PLC0415

    try:
        return _tensors(load_file(path), path)
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise damaged(path, error) from None


def damaged(path: Path, error: Exception) -> FormatError:
    """One line for whatever a parser raised."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0][:150]
    return FormatError(f"{path} is cut short or damaged ({reason}); fetch it again")


def _refuse_compressed(path: Path) -> None:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(part.compress_type != zipfile.ZIP_STORED for part in archive.infolist()):
                raise FormatError(f"{path} is a compressed archive; torch.save does not compress")


def _tensors(stored: Any, path: Path) -> dict[str, Tensor]:
    for holder in _HOLDERS:
        if isinstance(stored, dict) and isinstance(stored.get(holder), dict):
            stored = stored[holder]
    found = {
        name.removeprefix("module."): value.detach()
        for name, value in (stored.items() if isinstance(stored, dict) else ())
        if isinstance(name, str)
        and isinstance(value, Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and not value.is_quantized
    }
    if not found:
        raise FormatError(f"{path} holds no tensors by name")
    return found
