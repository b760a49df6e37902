"""Finds the calls that take a while, at next to no cost for those that don't. Used by `direct`."""

import asyncio
from typing import Any, Final, Protocol

_PAUSE: Final = 0.05


class Lingering(Protocol):
    """A call. `slot` belongs to the vigil while the call is under way: remove the call from it, and set it to None, at
    its end."""

    slot: dict[Any, None] | None

    def linger(self) -> None:
        """The call is still under way 50 to 100 ms after it began; called once. Never raises."""
        ...


class Vigil:
    """Calls `linger` of every call that is still under way after a while. One timer for all, none when idle.

    Belongs to the event loop that is running at the first `now`; asking which one it is costs a system call each time.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._young: dict[Any, None] = {}
        self._older: dict[Any, None] = {}
        self._armed = False

    def now(self) -> float:
        """Returns the seconds of the event loop's clock."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._loop.time()

    def begin(self, call: Lingering) -> None:
        """Takes a call under watch."""
        call.slot = young = self._young
        young[call] = None
        if not self._armed:
            self._armed = True
            asyncio.get_running_loop().call_later(_PAUSE, self._look)

    def _look(self) -> None:
        older, self._older, self._young = self._older, self._young, {}
        for call in list(older):
            call.linger()
        self._armed = bool(self._older or self._young)
        if self._armed:
            asyncio.get_running_loop().call_later(_PAUSE, self._look)
