"""When calls leave for a worker that has yet to answer those before. Used by the ledger.

A bundle costs both sides as much as dozens of calls, whatever is in it, and a worker that executes a batch begins
nothing else meanwhile. So what comes then is held back, until the worker answers or as much waits as it has: bundles
grow with the load, the worker always has the next one at hand, and where nothing is under way nothing waits. It is what
Nagle's algorithm (RFC 896) is to bytes.
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from infermesh.gateway.pending import Pending
    from infermesh.gateway.targets import Lane

_TICK: Final = 0.005
"""Seconds: a call is held for one to two of these, however long the worker computes; it may well hold more than one."""


class Pacing:
    """The calls of one worker that are held back: in the `held` of their lanes. `leave` gets those that may go."""

    def __init__(self, leave: Callable[["list[Pending]"], None]) -> None:
        self._leave = leave
        self._fresh: set[Lane] = set()
        self._stale: set[Lane] = set()
        self._ticking = False

    def hold(self, lane: "Lane", pending: "Pending") -> None:
        """Takes a unary call of a lane that is `holding`; it counts as in flight already."""
        held = lane.held
        held.append(pending)
        if 2 * len(held) >= lane.in_flight:
            self.release(lane)
        elif len(held) == 1:
            self._fresh.add(lane)
            if not self._ticking:
                self._ticking = True
                asyncio.get_running_loop().call_later(_TICK, self._tick)

    def release(self, lane: "Lane") -> None:
        """Lets the calls of a lane go, and those that come in the same turn of the loop."""
        held, lane.held, lane.holding = lane.held, [], False
        self._fresh.discard(lane)
        self._stale.discard(lane)
        self._leave(held)

    def clear(self) -> None:
        """Forgets what is held: the stream has ended, and its calls are handed back."""
        for lane in (*self._fresh, *self._stale):
            lane.held = []
        self._fresh.clear()
        self._stale.clear()

    def _tick(self) -> None:
        for lane in tuple(self._stale):
            self.release(lane)
        self._stale, self._fresh = self._fresh, self._stale
        self._ticking = bool(self._stale)
        if self._ticking:
            asyncio.get_running_loop().call_later(_TICK, self._tick)
