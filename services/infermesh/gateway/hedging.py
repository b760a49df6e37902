"""Sends a slow call a second time, to another worker; the first answer counts. Used by the dispatcher, where a
deployment wants it.

It helps against a worker that stalls now and then, and is no help where all are busy: so it takes only credit that
nobody waits for, and never more than a share of the calls.
"""

import asyncio
from collections import deque
from functools import partial
from math import ceil
from typing import Any, Final

from infermesh.errors import MeshError
from infermesh.gateway.pending import Pending
from infermesh.gateway.routes import TargetRoute
from infermesh.gateway.targets import TargetState
from infermesh.mesh.wire import Bytes

_MOST_SAVED: Final = 100.0  # second copies that a quiet time saves up, for a stall that hits many calls at once
_SAMPLE_EVERY: Final = 4  # calls
_SAMPLES: Final = 512
_LEAST_SAMPLES: Final = 64
_MEASURE_EVERY: Final = 16  # samples
_LATER: Final = 1.1  # where nearly all calls take the same time, none of those is meant


class Twin(Pending):
    """The second copy of a call, nobody's future: its answer is the call's, its failure is nobody's business."""

    __slots__ = ("_counts", "_original")

    def __init__(self, original: Pending, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(original.call, original.owner, original.arrival, loop)
        self._original = original
        self._counts = False
        self.target = original.target
        self.trace = original.trace

    def repeatable(self) -> bool:
        """Never: there is the call itself."""
        return False

    def answer(self, payload: Bytes) -> None:
        """Takes the response for the call, whose first copy is cancelled at its worker."""
        original = self._original
        self.set_result(b"")
        self._counts = not original.done()
        if self._counts:
            original.owner.withdraw(original)
            original.answer(payload)

    def settle(self, queue_us: int, compute_us: int) -> None:
        """Has the call counted, if this was its answer."""
        if self._counts:
            self._original.settle(queue_us, compute_us)

    def fail(self, error: MeshError) -> None:
        """Ends the copy; the call goes on."""
        if not self.done():
            self.set_result(b"")

    def drop(self, _: Any) -> None:
        """The call has ended: takes the copy back, if it is still under way."""
        if not self.done():
            self.set_result(b"")
            self.owner.withdraw(self)


class Latencies:
    """The time within which all calls end but a share, of a sample of the last ones."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._samples: deque[float] = deque(maxlen=_SAMPLES)
        self._taken = 0
        self.time = 0.0
        """Seconds; 0 until there are enough samples."""

    def take(self, seconds: float) -> None:
        """Takes the duration of a call that was answered."""
        self._samples.append(seconds)
        self._taken += 1
        if self._taken % _MEASURE_EVERY == 0 and len(self._samples) >= _LEAST_SAMPLES:
            ordered = sorted(self._samples)
            self.time = _LATER * ordered[ceil(len(ordered) * (1 - self._share)) - 1]


class Hedges:
    """The calls of one target that may get a second copy.

    A call that has no answer `delay` seconds after it came gets one, if another worker has credit, no call waits for
    it, and the budget allows: each call adds `budget` to it, each copy takes 1. With a `delay` of 0 it is the time
    within which all calls but the budget's share end: more copies than that there could not be.
    """

    def __init__(self, target: TargetState, loop: asyncio.AbstractEventLoop) -> None:
        self.budget = target.route.hedge_budget
        self.delay = target.route.hedge_delay
        self._target = target
        self._loop = loop
        self._saved = 0.0
        self._watched = 0
        self._latencies = Latencies(self.budget)
        self._line: deque[tuple[float, Pending]] = deque()  # by the time at which each is due
        self._bound = 64
        self._timer: asyncio.TimerHandle | None = None

    def fits(self, route: TargetRoute) -> bool:
        """Tells whether this is what the route asks for, so that what was measured can stay."""
        return (self.budget, self.delay) == (route.hedge_budget, route.hedge_delay)

    def watch(self, pending: Pending) -> None:
        """Takes up a call that has just come."""
        self._saved = min(_MOST_SAVED, self._saved + self.budget)
        now = self._loop.time()
        self._watched += 1
        if self._watched % _SAMPLE_EVERY == 0:
            pending.add_done_callback(partial(self._ended, pending, now))
        delay = self.delay or self._latencies.time
        if delay:
            self._line.append((now + delay, pending))
            self._trim()
            if self._timer is None:
                self._timer = self._loop.call_at(now + delay, self._look)

    def _ended(self, pending: Pending, begun: float, _: Any) -> None:
        if pending.sent and not pending.cancelled():  # what was refused tells nothing
            self._latencies.take(self._loop.time() - begun)

    def _trim(self) -> None:
        """Forgets calls that have ended, so that what is kept is about as much as is under way."""
        if len(self._line) > self._bound:
            self._line = deque(entry for entry in self._line if not entry[1].done())
            self._bound = 64 + 2 * len(self._line)

    def _look(self) -> None:
        line, now = self._line, self._loop.time()
        while line and (line[0][1].done() or line[0][0] <= now):
            _, pending = line.popleft()
            if not pending.done():
                self._hedge(pending)
        self._timer = self._loop.call_at(line[0][0], self._look) if line else None

    def _hedge(self, pending: Pending) -> None:
        target, first = self._target, pending.lane
        if first is None or target.queue or self._saved < 1:
            return
        tried = (*pending.tried, first.worker)
        lane = target.pick(tried)
        if lane is None or lane.worker in tried:
            return
        self._saved -= 1
        target.stats.hedges += 1
        twin = Twin(pending, self._loop)
        lane.ledger.send(lane, twin)
        pending.add_done_callback(twin.drop)
