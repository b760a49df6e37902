"""Least load: of two workers taken at random, the one that will be done first.

The power of two choices: nearly as even as looking at all, and many gateways that see the same loads don't all run to
the same worker.
"""

from collections.abc import Sequence
from random import Random

from infermesh.gateway.balancing.base import C, Candidate


def choose(candidates: Sequence[C], rng: Random) -> C:
    """Returns the better of two different candidates; with equal loads either, by chance."""
    count = len(candidates)
    first = int(rng.random() * count)
    second = int(rng.random() * (count - 1))
    if second >= first:
        second += 1
    one, other = candidates[first], candidates[second]
    return one if expected_wait(one) <= expected_wait(other) else other


def expected_wait(candidate: Candidate) -> float:
    """Returns the microseconds until one more call would be done there.

    Rows waiting and calls under way mostly count the same work: the larger of both is taken. A worker that does not
    know its service time yet counts as 1 µs a row, so that it soon gets to know it.
    """
    ahead = max(candidate.queued_rows, candidate.in_flight + candidate.elsewhere)
    return float((ahead + 1) * max(candidate.service_time_us, 1))
