"""Tensors out of `.pth`, `.pth.tar` and `.safetensors` files, without trusting the file.

A `.pth` is a pickle, inside a zip archive since torch 1.6 and followed by the numbers before that
(torch/serialization.py). It is looked through before torch's own restricted unpickler
(``weights_only=True``) opens it: the archive must not unpack to more than its size, and the pickle
may name only what tensors need.
"""

from __future__ import annotations

import pickle
import pickletools
import re
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from relocalize.errors import FormatError

# What `torch.save` of a tensor starts with before torch 1.6: protocol 2, LONG1, ten bytes.
OLD_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
ZIP = b"PK\x03\x04"
_ALLOWED = re.compile(
    r"collections OrderedDict|torch Size|torch\._utils _rebuild_(tensor|tensor_v2|parameter)|"
    r"torch(\.cuda|\.storage)? \w+Storage|torch\.serialization _get_layout|torch \w+(Tensor)"
)
_MOST_STEPS = 2_000_000
# Where the files that are met keep their tensors: Places365 and others that torch's ImageNet
# example made, common trainers, or the file's top.
_HOLDERS = ("state_dict", "model", "model_state_dict")


def read_torch(path: Path) -> dict[str, Tensor]:
    """Every tensor of a state dict, by name, on the CPU; `module.` in front is taken off.

    Raises:
        FormatError: it is damaged, holds no tensors, or asks for more than tensors need.
    """
    _look_through(path)
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        asked = re.search(r"GLOBAL (\S+)", str(error))
        raise FormatError(
            f"{path} asks for {asked.group(1)[:100]}; weights need only tensors"
            if asked
            else f"{path} is no sound file of weights ({_first_line(error)})"
        ) from None
    except Exception as error:  # torch documents none; whatever a damaged file makes it raise
        raise FormatError(f"{path} is no sound file of weights ({_first_line(error)})") from None
    return _tensors(stored, path)


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Every tensor of a safetensors file, by name.

    Raises:
        FormatError: it is damaged.
    """
    from safetensors import SafetensorError  # noqa: PLC0415 (an extra, for these files alone)
    from safetensors.torch import load_file  # noqa: PLC0415

    try:
        stored = load_file(path)
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise FormatError(f"{path} is no sound safetensors file ({_first_line(error)})") from None
    return _tensors(stored, path)


def _tensors(stored: Any, path: Path) -> dict[str, Tensor]:
    for holder in _HOLDERS:
        if isinstance(stored, dict) and isinstance(stored.get(holder), dict):
            stored = stored[holder]
            break
    if not isinstance(stored, dict):
        raise FormatError(f"{path} holds a {type(stored).__name__} and no tensors by name")
    found: dict[str, Tensor] = {}
    room = path.stat().st_size
    for name, value in stored.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            continue
        # A few numbers can be declared a tensor of any size; nothing larger than its file is one.
        if value.layout != torch.strided or value.device.type != "cpu" or value.is_quantized:
            raise FormatError(f"{path}: {name[:100]} is no plain tensor")
        if value.numel() * value.element_size() > room:
            raise FormatError(f"{path}: {name[:100]} is larger than the file")
        found[name.removeprefix("module.")] = value.detach()
    if not found:
        raise FormatError(f"{path} holds no tensors by name")
    return found


def _look_through(path: Path) -> None:
    with path.open("rb") as file:
        start = file.read(len(OLD_TORCH))
        file.seek(0)
        if start.startswith(ZIP):
            _look_through_archive(path)
        elif start == OLD_TORCH:
            # Magic number, protocol, facts of the machine, the objects, the keys of the numbers.
            for _ in range(5):
                _look_through_pickle(file, path)
        else:
            raise FormatError(
                f"{path} is no file that torch.save wrote (since torch 0.2); "
                "save its state_dict anew, as .pth or .safetensors"
            )


def _look_through_archive(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
            if any(part.compress_type != zipfile.ZIP_STORED for part in parts):
                raise FormatError(f"{path} is a compressed archive; torch.save does not compress")
            if sum(part.file_size for part in parts) > path.stat().st_size:
                raise FormatError(f"{path} unpacks to more than its size: it is not what it claims")
            pickles = [part for part in parts if part.filename.endswith("data.pkl")]
            if len(pickles) != 1:
                raise FormatError(f"{path} is a zip archive, but not one that torch.save wrote")
            with archive.open(pickles[0]) as file:
                _look_through_pickle(file, path)
    except (
        EOFError,
        NotImplementedError,
        OSError,
        RuntimeError,
        ValueError,
        zipfile.BadZipFile,
    ) as error:
        raise FormatError(f"{path} is no sound archive ({_first_line(error)})") from None


def _look_through_pickle(file: IO[bytes], path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on odd escapes in names, which are refused
        names = list(_names(file, path))
    for name in names:
        if not _ALLOWED.fullmatch(name):
            raise FormatError(
                f"{path} asks for {name.replace(' ', '.')[:100]}; weights need only tensors, so it "
                "was not opened: get the file from where you trust it, or save its state_dict alone"
            )


def _names(file: IO[bytes], path: Path) -> Iterator[str]:
    try:
        for step, (operation, argument, _) in enumerate(pickletools.genops(file)):
            if step > _MOST_STEPS:
                raise FormatError(f"{path} has more steps than any network's weights")
            if operation.name == "GLOBAL":
                yield str(argument)
            elif operation.name in ("STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4"):
                raise FormatError(f"{path} uses {operation.name}, which torch.save does not")
    except (EOFError, MemoryError, OverflowError, ValueError) as error:
        raise FormatError(f"{path} is cut short or damaged ({_first_line(error)})") from None


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:150]
