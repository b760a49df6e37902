"""What requests may take of the process, in time and memory, and which silent calls are alive.

One guard serves all calls; `exchange`, `inbound` and the HTTP endpoints ask it. It costs nothing for a request that
comes in one piece.
"""

import asyncio
from collections.abc import Awaitable
from typing import Final, Protocol, TypeVar

from infermesh.errors import DeadlineExceeded, Overloaded
from infermesh.gateway.framing.frames import Limits, inflate
from infermesh.gateway.framing.outlet import Round

T = TypeVar("T")

_LONG: Final = 16 << 10
"""Compressed bytes above which decompressing would hold up the other calls."""


class Alive(Protocol):
    """A call whose request is read and whose answer is not due yet."""

    def show_life(self) -> None:
        """Lets the caller's connection see that the call is under way. Does nothing at the first call."""
        ...


class Guard:
    """Holds the limits, and what is taken of them now. Lives in one event loop."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.alive: set[Alive] = set()
        """Calls that may be silent for long without being stuck."""
        self.held = 0
        """Bytes of messages that came in pieces and are still needed."""
        self.round = Round()
        """Outlets of calls that have something to send."""
        self._one = asyncio.Lock()

    def take(self, size: int) -> None:
        """Counts bytes that are held from now on. Raises Overloaded if there is no room for them."""
        if self.held + size > self.limits.held:
            raise Overloaded(
                f"{self.held} bytes of requests are being read already, try again later",
                metadata={"limit": str(self.limits.held)},
                retry_after=1.0,
                reason="REQUEST_BYTES_FULL",
            )
        self.held += size

    def give(self, size: int) -> None:
        """Counts bytes that are no longer held."""
        self.held -= size

    def due(self, began: float, received: int) -> float:
        """Returns when, in the loop's time, a request that began then must have sent more than it has."""
        return began + self.limits.body_timeout + received / self.limits.min_rate

    async def in_time(self, waiting: Awaitable[T], began: float, received: int) -> T:
        """Returns what is waited for. Raises DeadlineExceeded if the sender is too slow."""
        try:
            async with asyncio.timeout_at(self.due(began, received)):
                return await waiting
        except TimeoutError as error:
            seconds = asyncio.get_running_loop().time() - began
            raise DeadlineExceeded(
                f"request: only {received} bytes of it came within {seconds:.1f} s; expected at least "
                f"{self.limits.min_rate:g} bytes per second",
                metadata={"received": str(received)},
                reason="REQUEST_TOO_SLOW",
            ) from error

    async def inflate(self, body: bytes, encoding: bytes) -> bytes:
        """Returns a compressed message or body decompressed. Raises BadFrame or TooLarge."""
        if len(body) <= _LONG:
            return inflate(body, encoding, self.limits)
        async with self._one:  # several at once would take as much memory as they can
            return await asyncio.to_thread(inflate, body, encoding, self.limits)

    async def show_life(self, every: float) -> None:
        """Lets every call that is alive for `every` seconds or longer show it, for ever."""
        while True:
            await asyncio.sleep(every)
            for call in list(self.alive):
                call.show_life()
