"""Whether the other end of a connection is still there."""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Life:
    """How an end that is gone without a word is noticed; times in seconds.

    A ping goes out after one to two `interval`s without a word. The other end is gone if it has not said anything
    `patience` later, or if its system acknowledges nothing for `unacknowledged`, where ours can tell.
    """

    interval: float
    patience: float
    unacknowledged: float


class Pulse:
    """Asks the other end for a sign of life when it is silent; `ask` sends a ping, `end` is told why it is gone."""

    def __init__(
        self, life: Life, loop: asyncio.AbstractEventLoop, ask: Callable[[], None], end: Callable[[str], None]
    ) -> None:
        self._life, self._loop, self._ask, self._end = life, loop, ask, end
        self._heard, self._pinged = True, False
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, sock: socket.socket | None) -> None:
        """Begins to watch; has the system break the connection if its other end's acknowledges nothing: a dead wire."""
        option = getattr(socket, "TCP_USER_TIMEOUT", None)
        if sock is not None and option is not None:
            with contextlib.suppress(OSError):  # no TCP
                sock.setsockopt(socket.IPPROTO_TCP, option, int(1e3 * self._life.unacknowledged))
        self._rearm(self._life.interval)

    def hear(self) -> None:
        """Something has come."""
        self._heard = True
        if self._pinged:
            self._pinged = False
            self._rearm(self._life.interval)

    def stop(self) -> None:
        """Watches no more. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()

    def _beat(self) -> None:
        delay = self._life.interval
        if self._heard:
            self._heard = False
        elif not self._pinged:
            self._pinged, delay = True, self._life.patience
            self._ask()
        else:
            self._end(f"the other end has not answered a ping within {self._life.patience} s")
            return
        self._rearm(delay)

    def _rearm(self, delay: float) -> None:
        self.stop()
        self._timer = self._loop.call_later(delay, self._beat)
