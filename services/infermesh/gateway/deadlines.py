"""Deadlines of many calls with few timers. Used by the dispatcher."""

import asyncio
from collections.abc import Callable
from typing import Any, Final, Generic, Protocol, TypeVar

_GRAIN: Final = 4  # slots per second


class Timed(Protocol):
    """Something that may have to end at a certain time. Its attributes belong to Deadlines; both begin as None."""

    slot: dict[Any, float] | None
    timer: asyncio.TimerHandle | None


T = TypeVar("T", bound=Timed)


class Deadlines(Generic[T]):
    """Calls `expire` with each item at its deadline, unless it was discarded before.

    Nearly every call ends long before its deadline, and a timer of its own would cost more than all the rest of its
    dispatch. So an item first lies in the slot of its quarter of a second, which has one timer; only what is still
    there when that quarter begins gets a timer of its own. Expiry is exact, keeping an item costs two dict operations.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, expire: Callable[[T], None]) -> None:
        self._loop = loop
        self._expire = expire
        self._slots: dict[int, dict[T, float]] = {}

    def add(self, item: T, deadline: float) -> None:
        """Keeps an item until `deadline` (seconds of the loop's clock)."""
        number = int(deadline * _GRAIN)
        slot = self._slots.get(number)
        if slot is None:
            if number / _GRAIN <= self._loop.time():  # its quarter has begun
                item.timer = self._loop.call_at(deadline, self._expire, item)
                return
            slot = self._slots[number] = {}
            self._loop.call_at(number / _GRAIN, self._begin, number)
        slot[item] = deadline
        item.slot = slot

    def _begin(self, number: int) -> None:
        for item, deadline in self._slots.pop(number).items():
            item.slot = None
            item.timer = self._loop.call_at(deadline, self._expire, item)

    @staticmethod
    def discard(item: Timed) -> None:
        """Forgets an item; its deadline does not matter any more."""
        if item.slot is not None:
            item.slot.pop(item, None)
            item.slot = None
        elif item.timer is not None:
            item.timer.cancel()
            item.timer = None
