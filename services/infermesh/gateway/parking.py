"""Calls that wait for time to pass rather than for credit. Used by the dispatcher."""

import asyncio
from collections.abc import Callable

from infermesh.gateway.pending import Pending


class Parking:
    """Calls and what is done with each when its time is up."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._timers: dict[Pending, asyncio.TimerHandle] = {}

    def __len__(self) -> int:
        return len(self._timers)

    def __contains__(self, pending: Pending) -> bool:
        return pending in self._timers

    def park(self, pending: Pending, seconds: float, then: Callable[[], None]) -> None:
        """Keeps a call, which must be nowhere else, for `seconds`; afterwards calls `then`."""
        self._timers[pending] = self._loop.call_later(seconds, self._up, pending, then)

    def _up(self, pending: Pending, then: Callable[[], None]) -> None:
        del self._timers[pending]
        then()

    def leave(self, pending: Pending) -> None:
        """Forgets a call, if it is here."""
        timer = self._timers.pop(pending, None)
        if timer is not None:
            timer.cancel()

    def clear(self) -> list[Pending]:
        """Takes all calls out, in the order in which they came."""
        left = list(self._timers)
        for pending in left:
            self.leave(pending)
        return left
