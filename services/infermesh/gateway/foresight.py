"""What can be foreseen from what workers tell: when calls that wait here could be answered. Used by the targets.

Pure functions of the lanes. Only where workers tell how long their runs take; elsewhere the forecast measures.
"""

from collections.abc import Sequence
from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from infermesh.gateway.targets import Lane


def told(lanes: Sequence["Lane"]) -> bool:
    """Tells whether some worker that takes calls has told how long its runs take."""
    return any(lane.live and lane.single_seconds for lane in lanes)


def earliest(lanes: Sequence["Lane"], waiting: int, now: float) -> float:
    """Returns the time before which no call that waits now can be answered.

    Where so many wait that batches are full, it is a full batch that the call would be part of. A worker that has
    nothing to do is taken at no word: only work shows whether what it foresaw still holds.
    """
    best = inf
    for lane in lanes:
        if lane.live:
            if not lane.in_flight and not lane.elsewhere:
                return now
            run = lane.batch_seconds if 2 * waiting >= lane.credit else lane.single_seconds
            best = min(best, max(now, lane.free_at) + run)
    return now if best == inf else best


def turn(lanes: Sequence["Lane"], waiting: int, now: float) -> float:
    """Returns when the workers come to a call with `waiting` others before it, going on at their best pace."""
    pace, done, ahead = 0.0, 0.0, waiting + 1
    for lane in lanes:
        if lane.live and lane.service_time_us:
            rate = 1e6 / lane.service_time_us
            pace += rate
            done += rate * max(now, lane.free_at)
            ahead += max(0, lane.in_flight + lane.elsewhere - lane.running)
    return (done + ahead) / pace if pace else now
