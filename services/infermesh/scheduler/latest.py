"""A value that tasks watch: everyone sees the newest, nobody is sent what was overtaken meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Latest(Generic[T]):
    """Holds the newest of a sequence of values; nothing at first. For one event loop."""

    def __init__(self) -> None:
        self._value: T | None = None
        self._changed = asyncio.Event()
        self._closed = False

    @property
    def value(self) -> T | None:
        """The newest value; None before the first."""
        return self._value

    def put(self, value: T) -> None:
        """Sets the value and wakes the watchers; the value that is there already wakes nobody."""
        if value is self._value:
            return
        self._value = value
        self._changed.set()
        self._changed = asyncio.Event()

    def close(self) -> None:
        """Ends every watch, now and later: a stream that never ends must not hold up a drain."""
        self._closed = True
        self._changed.set()

    async def watch(self) -> AsyncIterator[T]:
        """Yields the value as soon as there is one, and again after every change, until closed. Safe to cancel."""
        seen: T | None = None
        while not self._closed:
            changed, value = self._changed, self._value
            if value is not None and value is not seen:
                seen = value
                yield value
            else:
                await changed.wait()
