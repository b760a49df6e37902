"""Round robin: the worker whose last call is the longest ago."""

from collections.abc import Sequence
from random import Random

from infermesh.gateway.balancing.base import C


def choose(candidates: Sequence[C], rng: Random) -> C:
    """Returns the candidate that was chosen the longest ago.

    By turn and not by position: workers run out of credit and come back, and counting positions in a list that
    changes may pass by the same worker again and again.
    """
    best = candidates[0]
    for candidate in candidates:
        if candidate.turn < best.turn:
            best = candidate
    return best
