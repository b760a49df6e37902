"""Random: every worker with the same probability."""

from collections.abc import Sequence
from random import Random

from infermesh.gateway.balancing.base import C


def choose(candidates: Sequence[C], rng: Random) -> C:
    """Returns any candidate; uniform."""
    return candidates[int(rng.random() * len(candidates))]
