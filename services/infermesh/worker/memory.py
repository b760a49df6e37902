"""What a process takes of the machine's memory. Used inside runners, once they have loaded."""

import psutil

from infermesh.mesh import heap


def private_bytes() -> int:
    """Returns the memory that ending this process gives back: its share of shared pages included where the system
    tells (Linux), else what it does not share. Freed memory does not count."""
    heap.give_back_freed()
    info = psutil.Process().memory_full_info()
    return int(getattr(info, "pss", 0) or info.uss)
