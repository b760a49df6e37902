"""Weighted: every worker with a probability by its weight."""

from collections.abc import Sequence
from random import Random

from infermesh.gateway.balancing.base import C


def choose(candidates: Sequence[C], rng: Random) -> C:
    """Returns a candidate with the probability weight / sum of weights."""
    point = rng.random() * sum(candidate.weight for candidate in candidates)
    for candidate in candidates:
        point -= candidate.weight
        if point < 0:
            return candidate
    return candidates[-1]  # rounding
