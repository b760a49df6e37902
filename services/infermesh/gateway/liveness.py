"""Notices a worker that has gone silent while its stream looks whole: a frozen process, a network that swallows all.

Used by the link. A dead process breaks its stream at once, and HTTP/2's own pings notice the rest after three seconds;
this is sooner, and also notices a process whose kernel and gRPC threads still answer while its event loop does not.
Nothing here is done for a call: the link says once for a bundle that something was heard.
"""

import asyncio
from typing import Final, Protocol

import structlog

from infermesh.errors import WorkerLost

_SLOWEST: Final = 16 << 20  # bytes a second: behind large requests a probe takes its time
_TOLERANCE: Final = 0.01  # seconds; timers are not exact, and a whole round later would be too late
log = structlog.get_logger(__name__)


class Line(Protocol):
    """What carries the calls of one worker. The ledger.

    `unheard` are the bytes of requests that were sent, less what was taken off.
    """

    unheard: int

    def __len__(self) -> int:
        """Returns the calls under way."""
        ...

    def ask(self, number: int) -> None:
        """Sends a probe with the next bundle, which leaves at once."""
        ...

    def suspend(self, error: WorkerLost) -> None:
        """Sends nothing more to the worker until it tells its loads anew, and what can be done elsewhere goes there."""
        ...


class Liveness:
    """Asks a worker that says nothing for `silence` seconds, although it has calls, whether it is there.

    If it has not said anything `timeout` seconds later, or longer where it is sent much, its line is suspended. A
    worker answers a probe from its event loop with all its loads, however long its models compute: that keeps it in
    use, or brings it back.
    """

    def __init__(self, worker: str, line: Line, silence: float, timeout: float) -> None:
        self._worker = worker
        self._line = line
        self._silence = silence
        self._timeout = timeout
        self._asked_at = 0.0
        self._probes = 0
        self._earlier = 0
        self._suspended = False
        self.heard = True
        """The link sets it whenever a bundle has come."""

    async def watch(self) -> None:
        """Looks on, for as long as a stream lives; run once for each."""
        loop = asyncio.get_running_loop()
        self._asked_at, self._suspended = 0.0, False
        self._line.unheard = self._earlier = 0
        then = loop.time()
        while True:
            await asyncio.sleep(self._silence)
            now = loop.time()
            # this process itself may have stood still: what the worker said meanwhile has not been read yet
            self._look(now, late=now - then > 2 * self._silence)
            then = now

    def _look(self, now: float, *, late: bool) -> None:
        if self.heard:
            if self._suspended:
                log.info("worker answers again", worker=self._worker)
            self.heard, self._asked_at, self._suspended = False, 0.0, False
            # what was sent since the last look may still be on its way
            self._line.unheard -= self._earlier
            self._earlier = self._line.unheard
        elif not len(self._line) and not self._asked_at:
            return
        elif late or not self._asked_at:
            self._asked_at = now
            self._probes += 1
            self._line.ask(self._probes)
        elif now - self._asked_at >= self._timeout + self._line.unheard / _SLOWEST - _TOLERANCE:
            if not self._suspended:
                log.warning("worker silent", worker=self._worker, seconds=round(now - self._asked_at, 2))
            self._suspended = True
            # again and again: another worker that can take its calls may have come meanwhile
            self._line.suspend(WorkerLost(f"worker '{self._worker}' does not answer", retry_after=1.0))
