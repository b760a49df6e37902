"""Wakes whoever waits for news: watchers of what is wanted, and callers that wait for an operation."""

import asyncio


class Changes:
    """A counter that can be waited for. Belongs to the event loop in which it is made."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()
        self._mark = 0
        self._closed = False

    @property
    def mark(self) -> int:
        """How many changes there have been. Take it before reading what may change, then `wait` with it."""
        return self._mark

    @property
    def closed(self) -> bool:
        """Whether the registry is stopping: nobody should wait any more."""
        return self._closed

    def announce(self) -> None:
        """Tells of a change. Callable from any thread; does not block."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._advance)

    def close(self) -> None:
        """Ends all waiting for good. Call it in the event loop."""
        self._closed = True
        self._advance()

    async def wait(self, mark: int, timeout: float | None = None) -> None:
        """Returns once there was a change after `mark`, the registry is stopping, or `timeout` seconds have passed."""
        if self._mark != mark or self._closed:
            return
        try:
            async with asyncio.timeout(timeout):
                await self._event.wait()
        except TimeoutError:
            return

    def _advance(self) -> None:
        self._mark += 1
        event, self._event = self._event, asyncio.Event()
        event.set()
