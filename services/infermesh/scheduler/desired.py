"""Follows what is wanted: one stream from the registry, taken up again for ever."""

from collections.abc import AsyncIterator, Callable
from typing import Protocol

import grpc.aio
import structlog

from infermesh.mesh.backoff import Backoff
from infermesh.mesh.clock import Clock
from infermesh.scheduler.convert import desired_of
from infermesh.scheduler.model import Desired
from infermesh.v1.state_service_pb2 import DesiredState, WatchDesiredRequest


class WatchDesired(Protocol):
    """The call of StateService; a stub's attribute is one."""

    def __call__(self, request: WatchDesiredRequest) -> AsyncIterator[DesiredState]:
        """Opens the stream. Iterating raises grpc.aio.AioRpcError when it breaks."""
        ...


class DesiredWatcher:
    """Hands every snapshot to `take`. While the registry is away nothing is handed on: the last one stays in force.

    `connected` is called with True at the first snapshot of every stream, and with False when it breaks.
    """

    def __init__(
        self,
        watch: WatchDesired,
        take: Callable[[Desired], None],
        connected: Callable[[bool], None],
        clock: Clock,
        backoff: Backoff,
    ) -> None:
        self._watch = watch
        self._take = take
        self._connected = connected
        self._clock = clock
        self._backoff = backoff
        self._log = structlog.get_logger(__name__)

    async def run(self) -> None:
        """Never returns; to be cancelled."""
        while True:
            try:
                await self._follow()
                why = "the stream ended"
            except grpc.aio.AioRpcError as error:
                why = f"{error.code().name}: {error.details()}"
            self._connected(False)
            pause = self._backoff.pause()
            self._log.warning("registry lost", why=why, again_in=round(pause, 2))
            await self._clock.sleep(pause)

    async def _follow(self) -> None:
        fresh = True
        async for message in self._watch(WatchDesiredRequest()):
            self._take(desired_of(message))
            if fresh:
                fresh = False
                self._backoff.reset()
                self._connected(True)
                self._log.info("registry found", revision=message.revision, deployments=len(message.deployments))
