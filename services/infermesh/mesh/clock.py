"""Time as an argument: everything timed takes a `Clock`, so that tests run in virtual time."""

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """Tells the time and waits."""

    def time(self) -> float:
        """Returns seconds on a clock that never goes back. Does not block."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Waits. Safe to cancel."""
        ...


class SystemClock:
    """The real clock; its time is that of the running event loop's timers."""

    time = staticmethod(time.monotonic)  # no call of ours in between: it is asked for several times a call

    async def sleep(self, seconds: float) -> None:
        """Waits on the event loop."""
        await asyncio.sleep(seconds)
