"""How much memory a version is expected to take before anyone has measured it. Pure."""

from collections.abc import Iterable
from typing import Final

BASE: Final = 64 << 20
"""Bytes that a runner takes besides the weights: buffers, kernels, its part of the interpreter."""


def estimate(file_sizes: Iterable[int]) -> int:
    """Returns the bytes that one loaded copy is expected to take: its files and a quarter more, and `BASE`.

    Weights lie in memory about as they lie in files; the quarter is for what execution needs on top. A version that is
    known to need more declares `memory_bytes`.
    """
    total = sum(file_sizes)
    return total + total // 4 + BASE


def show(size: int) -> str:
    """Returns a number of bytes for people: `3.1 GiB`."""
    if size < 1 << 20:
        return f"{size} B"
    if size < 1 << 30:
        return f"{size / (1 << 20):.1f} MiB"
    return f"{size / (1 << 30):.1f} GiB"
