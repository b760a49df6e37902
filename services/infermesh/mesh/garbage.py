"""How often a serving process looks for cyclic garbage. Called by rooms once they are built."""

import gc
from typing import Final

_YOUNG: Final = 10_000
"""New containers after which the youngest generation is looked through; calls under way are some dozen each."""


def settle() -> None:
    """Takes what was built so far out of every later collection, and makes those rare.

    Calls leave no cycles, but hundreds of them under way are thousands of young objects, and with CPython's own
    threshold (700) each collection walks through them in vain: a tenth of a busy gateway's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, 20, 100)
