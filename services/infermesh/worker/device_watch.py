"""Keeps the worker's knowledge of its device's memory fresh without blocking the event loop. Built by `main`."""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from infermesh.errors import ConfigError
from infermesh.mesh.clock import Clock
from infermesh.worker.device import DeviceInfo

_PERIOD: Final = 5.0  # seconds


class DeviceWatch:
    """The device as it was a few seconds ago; what was known last where it can't be asked any more."""

    def __init__(self, info: DeviceInfo, detect: Callable[[], DeviceInfo], clock: Clock) -> None:
        """`detect` may block; it is called in a thread. It may raise ConfigError: a driver that broke, a process that
        could not be started."""
        self.info = info
        self._detect, self._clock = detect, clock
        self._lost = False
        self._log = structlog.get_logger(__name__)

    async def run(self) -> None:
        """Looks again and again until cancelled. Where looking takes long it looks accordingly seldom."""
        pause = _PERIOD
        while True:
            await self._clock.sleep(pause)
            began = self._clock.time()
            try:
                self.info = await asyncio.to_thread(self._detect)
            except ConfigError as error:
                # the runners that use the device say by themselves whether it is gone: this is only about its memory
                self._say(lost=True, error=error.message)
            else:
                self._say(lost=False)
            pause = max(_PERIOD, 50 * (self._clock.time() - began))

    def _say(self, *, lost: bool, error: str = "") -> None:
        if lost != self._lost:
            self._lost = lost
            tell = self._log.warning if lost else self._log.info
            event = "device can't be asked" if lost else "device can be asked again"
            tell(event, device=self.info.torch_name, error=error)
