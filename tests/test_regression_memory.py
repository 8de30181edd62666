"""Freed memory is kept from step to step while a training runs, and given back afterwards."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

_SCRIPT = """
import resource
import torch
from relocalize.regression.device import kept_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.zeros(16 << 20)  # 64 MB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

torch.set_num_threads(1)
usual = faults()
with kept_memory():
    faults()
    faults()  # the heap grows by one more block where something small lies behind the first
    kept = faults()
    most = resident()
print(usual, kept, most - resident())
"""


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="only glibc gives memory back at once"
)
def test_blocks_are_asked_for_once() -> None:
    found = subprocess.run(
        [sys.executable, "-c", _SCRIPT], capture_output=True, text=True, check=True
    )
    usual, kept, returned = (int(word) for word in found.stdout.split())
    assert usual > 10_000  # a page is 4 KB: ten times 16,384 of them, or fewer, larger ones
    assert kept < usual / 100
    assert returned > 50 << 20
