"""Keeps the worker's knowledge of its device's memory fresh without blocking the event loop. Built by `main`."""

import asyncio
from collections.abc import Callable
from typing import Final

from infermesh.mesh.clock import Clock
from infermesh.worker.device import DeviceInfo

_PERIOD: Final = 5.0  # seconds


class DeviceWatch:
    """The device as it was a few seconds ago."""

    def __init__(self, info: DeviceInfo, detect: Callable[[], DeviceInfo], clock: Clock) -> None:
        """`detect` may block; it is called in a thread."""
        self.info = info
        self._detect, self._clock = detect, clock

    async def run(self) -> None:
        """Looks again and again until cancelled. Where looking takes long it looks accordingly seldom."""
        pause = _PERIOD
        while True:
            await self._clock.sleep(pause)
            began = self._clock.time()
            self.info = await asyncio.to_thread(self._detect)
            pause = max(_PERIOD, 50 * (self._clock.time() - began))
