"""What a process does with memory that it has freed. Called by the processes that hold tensors, before they do."""

import ctypes
from collections.abc import Callable
from typing import Final

_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3
_KEPT: Final = 64 << 20
_MAPPED: Final = 32 << 20


def keep_freed() -> None:
    """Has the C library keep up to 64 MiB of freed memory, for blocks up to 32 MiB, instead of giving it back at once.

    By itself glibc gives back what lies free beyond twice its largest block, so that a server of large tensors asks for
    the same pages for every call, and the system has to fill each with zeros: where it runs in a virtual machine that
    costs twenty times what copying does. Does nothing where there is no `mallopt` (mallopt(3)), as on macOS.
    """
    mallopt = _of_the_c_library("mallopt")
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _MAPPED)  # to set one of them ends that glibc adapts both
        mallopt(_TRIM_THRESHOLD, _KEPT)


def give_back_freed() -> None:
    """Gives what is kept back to the system: what a process takes can then be told from what it has freed."""
    malloc_trim = _of_the_c_library("malloc_trim")
    if malloc_trim is not None:
        malloc_trim(0)


def _of_the_c_library(name: str) -> Callable[..., object] | None:
    return getattr(ctypes.CDLL(None), name, None)
