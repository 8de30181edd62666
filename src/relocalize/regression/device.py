"""What a network runs on: the processor, its threads, its memory and the number format."""

from __future__ import annotations

import contextlib
import ctypes
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import nn

from relocalize.errors import LocalizerError

DeviceName = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["auto", "float32", "bfloat16"]
# Of mallopt, and what glibc begins with: malloc.h, mallopt(3).
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_USUAL_TRIM_THRESHOLD, _USUAL_MMAP_MAX = 128 * 1024, 65536
_NEVER = 2**31 - 1  # bytes at the heap's end, the largest that mallopt takes
# A step of a head multiplies matrices for some milliseconds; what more threads save, they wait.
_MOST_THREADS = 8


@dataclass(frozen=True)
class Device:
    """Where and how a network runs."""

    torch_device: torch.device  # of its tensors
    # the 16-bit format that convolutions and products run in, or None for float32
    autocast: torch.dtype | None
    channels_last: bool  # whether images lie in memory with their channels innermost
    threads: int = 1  # native ones of a processor

    @property
    def name(self) -> str:
        """For people and files, such as ``cpu (bfloat16, channels last, 1 thread)``."""
        words = ["float32" if self.autocast is None else str(self.autocast).split(".")[-1]]
        words += ["channels last"] * self.channels_last
        if self.torch_device.type == "cpu":
            words.append(f"{self.threads} thread{'s' * (self.threads != 1)}")
        return f"{self.torch_device} ({', '.join(words)})"

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Within this context torch uses this many threads."""
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    @contextlib.contextmanager
    def mixed(self) -> Iterator[None]:
        """Within this context products run in `autocast`; weights and losses stay float32."""
        if self.autocast is None:
            yield
            return
        with torch.autocast(self.torch_device.type, dtype=self.autocast):
            yield

    def place(self, module: nn.Module) -> None:
        """Move a module here, in the memory layout that is fast here."""
        module.to(self.torch_device)
        if self.channels_last:
            for parameter in module.parameters():
                if parameter.dim() == 4:
                    parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)

    def images(self, images: torch.Tensor) -> torch.Tensor:
        """Images [B, C, H, W] here, in the memory layout that is fast here."""
        images = images.to(self.torch_device, non_blocking=True)
        if self.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        return images


def choose_device(
    name: str = "auto",
    *,
    threads: int | None = None,
    precision: str = "auto",
    index: int = 0,
) -> Device:
    """The device of that name; ``auto`` is CUDA, else MPS, else the processor.

    Args:
        name: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        threads: native threads on a processor; None: as many as torch has by itself (one for each
            core, or OMP_NUM_THREADS, which torchrun and Ray set), 8 at most.
        precision: ``float32``, ``bfloat16``, or ``auto``: bfloat16 where the hardware multiplies
            it (an AVX512-BF16 processor trains nearly twice as fast; emulated it is slower).
        index: which of several GPUs.

    Raises:
        LocalizerError: there is no such device here.
    """
    for what, given, known in (
        ("device", name, get_args(DeviceName)),
        ("precision", precision, get_args(Precision)),
    ):
        if given not in known:
            raise LocalizerError(f"no {what} {given!r}; there are {', '.join(known)}")
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = next((kind for kind, is_there in there.items() if is_there), "cpu")
    if not there.get(name, True):
        raise LocalizerError(
            f"torch {torch.__version__} sees no {name} device here; use auto or cpu"
        )
    # Autocast and channels_last of MPS differ from one torch release to the next: float32 there.
    fast = {
        "cuda": name == "cuda" and torch.cuda.is_bf16_supported(),
        "cpu": _processor_multiplies_bfloat16(),
        "mps": False,
    }
    half = precision == "bfloat16" or (precision == "auto" and fast[name])
    return Device(
        torch.device("cuda", index) if name == "cuda" else torch.device(name),
        torch.bfloat16 if half else None,
        channels_last=name != "mps",
        threads=threads or min(torch.get_num_threads(), _MOST_THREADS),
    )


def _processor_multiplies_bfloat16() -> bool:
    if not hasattr(torch.cpu, "get_capabilities"):  # an older torch, which cannot tell
        return False
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


@contextlib.contextmanager
def kept_memory() -> Iterator[None]:
    """Within this context the process keeps what it frees; afterwards it gives it back.

    glibc returns every large block to the system as soon as it is freed, and each step of a
    training asks for the same blocks again, which the system has to fill with zeros, page by page.
    On a virtual machine that took 13 to 30% of a training's processor time (ResNet18, batches of
    64 images of 224 x 224). Does nothing where the C library is another than glibc.
    """
    if platform.libc_ver()[0] != "glibc":
        yield
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_MMAP_MAX, 0)
    libc.mallopt(_TRIM_THRESHOLD, _NEVER)
    try:
        yield
    finally:
        libc.mallopt(_MMAP_MAX, _USUAL_MMAP_MAX)
        libc.mallopt(_TRIM_THRESHOLD, _USUAL_TRIM_THRESHOLD)
        libc.malloc_trim(0)
