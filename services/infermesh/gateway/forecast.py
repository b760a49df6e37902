"""Foresees whether a call that must wait can be answered in time. Used by the dispatcher, only where calls wait.

A queue under overload that serves whoever has waited longest serves only those who are about to give up: all work is
done, and nearly all of it too late. So a call is refused as soon as it is clear that it can't be answered in time,
which leaves the workers to those that can, and tells the caller while he can still go elsewhere.
"""

from math import inf
from typing import Final

from infermesh.errors import MeshError
from infermesh.gateway import admission
from infermesh.gateway.calls import Call
from infermesh.gateway.pending import Pending
from infermesh.gateway.queueing import CallQueue
from infermesh.gateway.stats import TargetStats

_WINDOW: Final = 0.1  # seconds that a measurement takes at least
_LEAST: Final = 16  # calls that it takes at least
_MEMORY: Final = 5.0  # seconds after which a measurement says nothing any more
_WEIGHT: Final = 0.5  # of a new measurement in the moving average
_MARGIN: Final = 1.25  # on what a worker takes: a call that comes a moment too late was done for nothing
_DOUBT: Final = 0.5  # what is left of an estimate that nothing confirms
_WAY: Final = 0.002  # seconds to the worker and back


class Forecast:
    """How fast the queue of one target moves, and how long a call takes once it has left it.

    The pace is measured while calls wait, from what leaves: that needs no model of the workers. It is the better one of
    two measurements that follow each other: a worker's death holds up one, but says nothing of what comes after. How
    long workers take is what they tell with their answers. While nothing is known nothing is refused.
    """

    def __init__(self, stats: TargetStats) -> None:
        self._stats = stats
        self._pace = 0.0
        self._last = 0.0  # the last measurement alone
        self._last_at = -inf
        self._service = 0.0
        self._known_at = 0.0
        self._looked_at = 0.0
        self._since: float | None = None  # when the measurement under way began
        self._left = 0
        self._answered = 0
        self._busy_us = 0

    def left(self, now: float) -> None:
        """A call left the queue for a worker."""
        if self._since is None:
            self._since, self._left = now, 0
            if not self._service:
                self._look_at_service(now)
        elif self._left >= _LEAST and now - self._since >= _WINDOW:
            self._measured(self._left / (now - self._since), now)
            self._look_at_service(now)
            self._since, self._left = now, 0
        self._left += 1

    def _measured(self, pace: float, now: float) -> None:
        if now - self._last_at <= _MEMORY:
            better = max(pace, self._last)
            self._pace = better if self._stale(now) else self._pace + _WEIGHT * (better - self._pace)
            self._known_at = now
        self._last, self._last_at = pace, now

    def emptied(self) -> None:
        """Nobody waits any more: what leaves now leaves as fast as it comes, and tells nothing."""
        self._since = None

    def wait(self, ahead: int, now: float) -> float:
        """Returns the seconds until a call is sent that has so many before it; 0 while that is not known."""
        return 0.0 if self._stale(now) else (ahead + 1) / self._pace

    def refusal(self, pending: Pending, queue: CallQueue, now: float) -> MeshError | None:
        """Returns why a call would wait in this queue in vain, or None."""
        wait = self.wait(len(queue), now)
        if self.too_late(pending.call, wait, now):  # at worst; now it pays to look closely
            wait = self.wait(queue.ahead(pending), now)
            if self.too_late(pending.call, wait, now):
                return admission.hopeless(pending.call, wait)
        return None

    def too_late(self, call: Call, wait: float, now: float) -> bool:
        """Tells whether a call that waits for `wait` seconds yet could not be answered by its deadline."""
        if call.deadline is None or now + wait + self._service <= call.deadline:
            return False
        if now - self._looked_at >= _WINDOW:
            self._look_at_service(now)
        return now + wait + self._service > call.deadline

    def _stale(self, now: float) -> bool:
        return not self._pace or now - self._known_at > _MEMORY

    def _look_at_service(self, now: float) -> None:
        """Takes in what was answered since the last look. If nothing was though it is time, the estimate is doubted:
        what is refused is never measured, so that a wrong estimate could refuse everything for ever."""
        stats = self._stats
        answered, busy = stats.ok.count - self._answered, stats.queue_us + stats.compute_us - self._busy_us
        if answered:
            self._service = _MARGIN * busy / answered / 1e6 + _WAY
            self._answered, self._busy_us = stats.ok.count, stats.queue_us + stats.compute_us
        elif now - self._looked_at < self._service:
            return
        else:
            self._service *= _DOUBT
        self._looked_at = now
