"""One time of leading after the other: what only the leader does begins when it leads, and has ended before another may
lead. Between its terms a scheduler stands by."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any

import grpc.aio
import structlog

from infermesh.mesh import server
from infermesh.mesh.metrics import SchedulerMetrics
from infermesh.mesh.process import Process
from infermesh.mesh.tls import Certificates
from infermesh.scheduler.leadership.base import Leadership


class Term:
    """The servers of one time of leading. `farewells` end the streams that never end by themselves."""

    def __init__(self, *farewells: Callable[[], None]) -> None:
        self._farewells = farewells
        self._servers: list[grpc.aio.Server] = []

    async def serve(self, grpc_server: grpc.aio.Server, listen: str, certificates: Certificates | None = None) -> str:
        """Binds and starts a server; returns its address. Raises ConfigError if that is taken."""
        self._servers.append(grpc_server)
        return await server.bind(grpc_server, listen, certificates)

    async def end(self, grace: float) -> None:
        """Closes the ports at once, and cuts the calls under way after `grace` seconds; again with less, sooner."""
        for farewell in self._farewells:
            farewell()
        await asyncio.gather(*(server.drain(one, grace) for one in self._servers))


class Reign:
    """Leads whenever it may.

    `begin` makes all that a term needs, and ends it at once when it is left; `drain_timeout` is in seconds, for calls
    under way when the process is told to stop.
    """

    def __init__(
        self,
        leadership: Leadership,
        begin: Callable[[], AbstractAsyncContextManager[Term]],
        metrics: SchedulerMetrics,
        drain_timeout: float,
    ) -> None:
        self._leadership = leadership
        self._begin = begin
        self._metrics = metrics
        self._drain_timeout = drain_timeout
        self._log = structlog.get_logger(__name__)

    async def run(self, process: Process) -> None:
        """Returns once the process was told to stop and the last calls have ended; then another may lead at once."""
        async with asyncio.TaskGroup() as group:
            tries = group.create_task(self._leadership.run())
            try:
                while why := await self._stand_by(process):
                    await self._lead(why, process)
            finally:
                tries.cancel()
                await asyncio.wait([tries])
                await self._leadership.release()

    async def _stand_by(self, process: Process) -> str:
        """Returns why this process leads now; nothing if it was told to stop."""
        with _begun(self._leadership.gained(), process.until_told()) as (gained, told):
            await asyncio.wait([gained, told], return_when=asyncio.FIRST_COMPLETED)
            return "" if told.done() else str(gained.result())

    async def _lead(self, why: str, process: Process) -> None:
        self._log.info("leading", why=why)
        self._metrics.leader.set(1)
        self._metrics.leader_transitions.inc()
        try:
            async with self._begin() as term:
                why = await self._over(process, term)
        finally:
            self._metrics.leader.set(0)
        self._log.info("leading no more", why=why)

    async def _over(self, process: Process, term: Term) -> str:
        """Returns why the term has to end now: the lead is lost, or the process was told to stop and has done its
        calls."""
        with _begun(self._leadership.lost(), self._drained(process, term)) as (lost, drained):
            await asyncio.wait([lost, drained], return_when=asyncio.FIRST_COMPLETED)
            return str(lost.result() if lost.done() else drained.result())

    async def _drained(self, process: Process, term: Term) -> str:
        await process.until_stopped()
        await term.end(self._drain_timeout)
        return "told to stop"


@contextmanager
def _begun(*waits: Coroutine[Any, Any, Any]) -> Iterator[tuple["asyncio.Task[Any]", ...]]:
    tasks = tuple(asyncio.ensure_future(wait) for wait in waits)
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
