"""The most requests that anybody could have answered in time, with the whole trace known beforehand."""

from collections.abc import Sequence
from math import inf

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]


def optimum(arrivals: Sequence[float], slo: float, times: Sequence[float]) -> int:
    """Returns how many of the requests one worker can answer within `slo` seconds of their arrival. Exact.

    `arrivals` rise; `times[b]` are the seconds of a batch of b rows, which rise with b; a request is one row. No
    decision takes time, nothing is delayed, executions take exactly as long as `times` says.

    Deadlines rise with arrivals, so by exchanging requests every schedule becomes one that is as good, serves in the
    order of arrival and whose batches are consecutive: where a later request stands in a batch, a skipped earlier one
    that the batch surrounds could have stood as well. So a dynamic programme over "the first i requests are dealt with,
    m of them given up" with the earliest time at which the worker is free again finds the best. A state that gave up
    more is kept only while it is free earlier, and not once the worker is idle before the next request.
    """
    count, most = len(arrivals), len(times) - 1
    fronts: list[Vector] = [np.full(count + 1, inf) for _ in range(most + 1)]
    fronts[0][0] = -inf
    lows, highs = [count] * (most + 1), [-1] * (most + 1)
    lows[0], highs[0] = 0, 0
    for first in range(count):
        here = first % (most + 1)
        low, high = _trim(fronts[here], lows[here], highs[here], arrivals[first])
        free = fronts[here][low : high + 1]
        _merge(fronts, lows, highs, (first + 1) % (most + 1), low + 1, free)
        for rows in range(1, min(most, count - first) + 1):
            ready = arrivals[first + rows - 1]
            if ready + times[rows] > arrivals[first] + slo:
                break
            end = np.maximum(free, ready) + times[rows]
            end[end > arrivals[first] + slo] = inf
            _merge(fronts, lows, highs, (first + rows) % (most + 1), low, end)
        fronts[here][lows[here] : highs[here] + 1] = inf
        lows[here], highs[here] = count, -1
    last = count % (most + 1)
    return count - lows[last] - int(np.argmax(fronts[last][lows[last] :] < inf))


def _trim(front: Vector, low: int, high: int, arrival: float) -> tuple[int, int]:
    """Returns the range of the states that can still be of use."""
    part = front[low : high + 1]
    low += int(np.argmax(part < inf))
    idle = front[low : high + 1] <= arrival
    if idle.any():
        high = low + int(np.argmax(idle))
    return low, high


def _merge(fronts: list[Vector], lows: list[int], highs: list[int], into: int, at: int, values: Vector) -> None:
    target = fronts[into][at : at + len(values)]
    np.minimum(target, values[: len(target)], out=target)
    lows[into] = min(lows[into], at)
    highs[into] = max(highs[into], min(at + len(values), len(fronts[into])) - 1)
